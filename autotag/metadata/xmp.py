"""Read keywords from XMP packets, and write machine tags that stay distinguishable from a person's keywords.

Edits are made by byte position: everything that autotag does not own keeps every byte, including prefixes,
order, comments, padding and the ``xpacket`` wrapper. Besides the keywords, autotag writes these properties
in the namespace ``https://github.com/autotag/autotag/xmp/1.0/``:

- ``Tags``: each machine tag with score, model, version and date;
- ``SubjectAdded``, ``HierarchyAdded``, ``TagsListAdded``, ``DescriptionAdded``: the entries that the machine
  added to the field of that name;
- ``SubjectCopied``, ``HierarchyCopied``, ``TagsListCopied``: a person's keywords that autotag copied there
  from another field or file, because many readers look at one field only. A copy is removed when its original
  is;
- ``Refused``, ``CopiesRefused``, ``DescriptionRefused``: machine tags, copies and descriptions that another
  program removed; autotag does not add them again;
- ``RegionsAdded``, ``RegionsRefused``: see ``autotag.metadata.regions``.

A keyword that contains the separator of a field is not written there; ``dc:subject`` has every keyword.

Sources: XMP Specification Part 1 (ISO 16684-1) and Part 2 (Adobe, 2016); ``lr:hierarchicalSubject`` as
Lightroom writes it (every prefix), ``digiKam:TagsList`` as digiKam does (whole paths); tables ``Microsoft``
and ``XMP2`` of exiftool for fields of Windows, ACDSee and iView.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal
from xml.sax.saxutils import escape, quoteattr

from autotag.metadata.budget import Budget, check_text
from autotag.metadata.keywords import (
    KeywordPath,
    Keywords,
    clean,
    each_once,
    fold,
    folded_path,
    same_text,
    spellings,
)
from autotag.metadata.regions import OTHER_PROPERTIES, PREFIXES, PROPERTY, digest_of
from autotag.metadata.xml_nodes import Document, Edit, Node, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from autotag.metadata.regions import Regions

KeywordField = Literal["dc:subject", "lr:hierarchicalSubject", "digiKam:TagsList"]
_Kind = Literal["Added", "Copied"]
KEYWORD_FIELDS: tuple[KeywordField, ...] = ("dc:subject", "lr:hierarchicalSubject", "digiKam:TagsList")
"""The fields that keywords are written to."""

NAMESPACE = "https://github.com/autotag/autotag/xmp/1.0/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_DC = "http://purl.org/dc/elements/1.1/"
_LR = "http://ns.adobe.com/lightroom/1.0/"
_DIGIKAM = "http://www.digikam.org/ns/1.0/"
_ACDSEE = "http://ns.acdsee.com/iptc/1.0/"
_PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
_PREFERRED_PREFIXES = {
    _RDF: "rdf",
    _DC: "dc",
    _LR: "lr",
    _DIGIKAM: "digiKam",
    _PHOTOSHOP: "photoshop",
    NAMESPACE: "autotag",
    **PREFIXES,
}

_DESCRIPTION = f"{{{_DC}}}description"
_SIDECAR_FOR = f"{{{_PHOTOSHOP}}}SidecarForExtension"
_PROVENANCE = "{http://purl.org/dc/terms/}provenance"
_ORIENTATION = "{http://ns.adobe.com/tiff/1.0/}Orientation"
_EXTENDED = "{http://ns.adobe.com/xmp/note/}HasExtendedXMP"
_TOOLKIT = "{adobe:ns:meta/}xmptk"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_CONTAINERS = frozenset(f"{{{_RDF}}}{kind}" for kind in ("Bag", "Seq", "Alt"))
_LI = f"{{{_RDF}}}li"


@dataclass(frozen=True, slots=True)
class _Field:
    """A keyword field: name, label of autotag's lists for it, and the separator between parts of a path."""

    name: str
    label: str
    container: str
    separator: str = ""
    every_prefix: bool = False

    def path(self, value: str) -> KeywordPath:
        return tuple(value.split(self.separator)) if self.separator else (value,)

    def entry(self, path: KeywordPath) -> str | None:
        """Return the entry for a path; None if the field cannot hold it."""
        if not self.separator:
            return path[-1]
        return None if any(self.separator in part for part in path) else self.separator.join(path)


_SUBJECT = _Field(f"{{{_DC}}}subject", "Subject", "Bag")
_HIERARCHY = _Field(f"{{{_LR}}}hierarchicalSubject", "Hierarchy", "Bag", "|", every_prefix=True)
_TAGS_LIST = _Field(f"{{{_DIGIKAM}}}TagsList", "TagsList", "Seq", "/")
_WRITTEN = (_SUBJECT, _HIERARCHY, _TAGS_LIST)
_FIELDS = dict(zip(KEYWORD_FIELDS, _WRITTEN, strict=True))
_READ_ONLY = (
    _Field("{http://ns.microsoft.com/photo/1.0}LastKeywordXMP", "", "Bag", "/"),
    _Field("{http://ns.microsoft.com/photo/1.0/}LastKeywordXMP", "", "Bag", "/"),
    _Field("{http://ns.microsoft.com/photo/1.0}LastKeywordIPTC", "", "Bag", "/"),
    _Field("{http://ns.microsoft.com/photo/1.0/}LastKeywordIPTC", "", "Bag", "/"),
    _Field("{http://ns.iview-multimedia.com/mediapro/1.0/}CatalogSets", "", "Bag", "|"),
    _Field(f"{{{_ACDSEE}}}keywords", "", "Bag"),
)
_KINDS: tuple[_Kind, ...] = ("Added", "Copied")
_REFUSALS = ("Refused", "CopiesRefused", "DescriptionRefused")
_REGIONS = ("RegionsAdded", "RegionsRefused")
_CATEGORIES = f"{{{_ACDSEE}}}categories"


@dataclass(frozen=True, slots=True)
class MachineTag:
    """A tag in the record that autotag keeps inside a photograph's XMP.

    Attributes:
        text: the keyword.
        score: the score of the last stage that scored it; four decimals are kept.
        model: the preset or model that proposed or scored it.
        version: the version of autotag that wrote it.
        date: when it was first written with these values, ISO 8601; if empty, the writer fills it in.
        path: the keyword and its parents in a hierarchy, outermost first; empty without a hierarchy.
        in_iptc: whether it was also added to the IPTC keywords of the file.
    """

    text: str
    score: float
    model: str = ""
    version: str = ""
    date: str = ""
    path: KeywordPath = ()
    in_iptc: bool = False

    @property
    def whole_path(self) -> KeywordPath:
        """Return the path, or the keyword alone where there is none."""
        return self.path or (self.text,)


@dataclass(frozen=True, slots=True)
class Refusals:
    """Entries that autotag wrote and another program removed; autotag does not write them again.

    Attributes:
        tags: removed machine tags.
        copies: people's keywords whose copy was removed; the original stays.
        descriptions: removed machine descriptions.
    """

    tags: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    descriptions: tuple[str, ...] = ()

    def __or__(self, other: Refusals) -> Refusals:
        return Refusals(
            each_once((*self.tags, *other.tags)),
            each_once((*self.copies, *other.copies)),
            each_once((*self.descriptions, *other.descriptions)),
        )

    def for_keywords(self, by_people: Keywords) -> Refusals:
        """Return the refusals without copies of keywords that people have deleted since."""
        there = by_people.leaves()
        return replace(self, copies=tuple(word for word in self.copies if fold(word) in there))

    def __bool__(self) -> bool:
        return bool(self.tags or self.copies or self.descriptions)


@dataclass(frozen=True, slots=True)
class Packet:
    """The metadata that autotag reads from one XMP packet.

    Attributes:
        keywords: every keyword.
        by_people: every keyword except the ones that the machine added or copied.
        by_people_or_copied: every keyword except the ones that the machine added.
        description: the description in the default language; empty when there is none.
        description_by_people: False when the machine wrote the description and nobody changed it.
        machine_tags: the machine's record, in the order of writing.
        refusals: what another program removed, since the last run or before.
        has_regions_by_people: whether there are regions other than unchanged ones of the machine.
        regions_refused: whether another program changed or removed the machine's regions.
        orientation: ``tiff:Orientation``, 1 to 8; 0 without one.
        sidecar_for: the file extension in ``photoshop:SidecarForExtension``, or empty.
        extended: the id of the extended XMP that continues this packet, or empty.
        provenance: the place of the file's Content Credentials, or empty.
    """

    keywords: Keywords = field(default_factory=Keywords)
    by_people: Keywords = field(default_factory=Keywords)
    by_people_or_copied: Keywords = field(default_factory=Keywords)
    description: str = ""
    description_by_people: bool = False
    machine_tags: tuple[MachineTag, ...] = ()
    refusals: Refusals = field(default_factory=Refusals)
    has_regions_by_people: bool = False
    regions_refused: bool = False
    orientation: int = 0
    sidecar_for: str = ""
    extended: str = ""
    provenance: str = ""

    @property
    def refused(self) -> tuple[str, ...]:
        """Return the machine tags that a person deleted."""
        return self.refusals.tags

    def echoes(self) -> set[str]:
        """Return the ``fold`` of every machine tag; other programs may have copied them to other fields."""
        return {fold(tag.text) for tag in self.machine_tags} | set(map(fold, self.refusals.tags))


def read_packet(packet: bytes, budget: Budget | None = None) -> Packet:
    """Read a packet.

    Args:
        packet: the bytes of the packet, with or without its ``xpacket`` wrapper.
        budget: the limits on what reading may cost; by default the limits of a new ``Budget``.

    Raises:
        ValueError: it is not XMP (not well-formed, with a document type, or without RDF), or it is over the
            budget.
    """
    budget = budget or Budget()
    reading = _Reading(parse(packet, budget))
    budget.take_parts(reading.separators())
    return reading.summary()


def with_machine_tags(
    packet: bytes | None,
    tags: Sequence[MachineTag],
    *,
    description: str = "",
    elsewhere: Keywords | None = None,
    refusals: Refusals | None = None,
    fields: Sequence[KeywordField] = KEYWORD_FIELDS,
    regions: Regions | None = None,
    date: str = "",
    sidecar_for: str = "",
    wrapped: bool = False,
) -> bytes | None:
    """Return the packet with these machine tags in place of its earlier machine tags.

    A tag that a person gave, in this packet or ``elsewhere``, is not recorded as the machine's. A tag that a
    person deleted is not added again. Copies of people's keywords are renewed from their originals. If only
    dates would change, the packet is returned unchanged.

    Args:
        packet: the packet to change, or None to make a new one.
        tags: best first; the first spelling of each counts.
        description: written to ``dc:description`` if that is empty or holds the machine's description.
        elsewhere: what people wrote in other places of the same photograph; what is missing here is copied.
        refusals: what people removed in other places of the same photograph.
        fields: the fields that tags and copies are written to.
        regions: of the stored picture, in place of the machine's earlier ones; not written if the packet has
            regions of a person, or if another program changed or removed the machine's.
        date: ISO 8601, for tags without a date whose values are new.
        sidecar_for: the extension for ``photoshop:SidecarForExtension`` of a new packet.
        wrapped: whether a new packet gets an ``xpacket`` wrapper, as embedded packets need.

    Returns:
        The packet; None when ``packet`` is None and there is nothing to write.

    Raises:
        ValueError: the packet is not XMP, or a keyword field of it is not a list.
    """
    reading = _Reading(parse(packet)) if packet is not None else None
    before = reading.summary() if reading is not None else Packet()
    base = _Removal(reading, keep_copies=False).packet() if reading is not None else None
    by_people = before.by_people | (elsewhere or Keywords())
    own = (before.refusals | Refusals(_adopted(before.machine_tags, by_people))).for_keywords(by_people)
    refused = own | (refusals or Refusals()).for_keywords(by_people)
    writable = (tag for tag in map(_cleaned, tags) if _can_hold(fields, tag))
    wanted = _new_tags(writable, by_people.leaves() | set(map(fold, refused.tags)), before, date)
    if base is None or reading is None:
        begun = _Reading(parse(_empty_packet(sidecar_for, wrapped=wrapped)))
    else:
        begun = reading if base == packet else _Reading(parse(base))
    writing = _Writing(begun, fields)
    caption = "" if refused.descriptions or writing.is_described else clean(description)
    if before.has_regions_by_people or before.regions_refused:
        regions = None
    writing.add_regions(regions, refused=before.regions_refused)
    if not wanted and not caption and not own and not regions and not before.regions_refused:
        return base
    after = writing.add(wanted, caption, by_people, refused)
    is_same = reading is not None and _state(reading) == _state(_Reading(parse(after)))
    return packet if is_same else after


def without_machine_tags(packet: bytes, *, keep_copies: bool = False) -> bytes | None:
    """Return the packet without the machine's tags, copies, records, unchanged description and regions.

    Args:
        packet: the packet.
        keep_copies: whether copies of people's keywords stay, because their originals cannot be read.

    Returns:
        The packet; None when autotag made the packet and nothing else is in it.

    Raises:
        ValueError: it is not XMP.
    """
    return _Removal(_Reading(parse(packet)), keep_copies=keep_copies).packet()


def _can_hold(fields: Iterable[KeywordField], tag: MachineTag) -> bool:
    """Return whether one of the fields can hold a tag."""
    return any(_FIELDS[name].entry(_path_in(_FIELDS[name], tag)) is not None for name in fields)


def _path_in(one: _Field, tag: MachineTag) -> KeywordPath:
    """Return the path under which a field holds a tag."""
    return tag.whole_path if one.separator else (tag.text,)


def _adopted(tags: Iterable[MachineTag], by_people: Keywords) -> tuple[str, ...]:
    """Return the machine tags that a person adopted; once deleted, they are not added again."""
    theirs = by_people.leaves()
    return tuple(tag.text for tag in tags if fold(tag.text) in theirs)


def _new_tags(tags: Iterable[MachineTag], taken: set[str], before: Packet, date: str) -> list[MachineTag]:
    """Return the tags that are not ``taken``, each once, with the dates they had."""
    dates = {_undated(tag): tag.date for tag in before.machine_tags}
    kept = []
    for tag in tags:
        if tag.text and fold(tag.text) not in taken:
            taken.add(fold(tag.text))
            kept.append(replace(tag, date=dates.get(_undated(tag)) or tag.date or date))
    return kept


def _cleaned(tag: MachineTag) -> MachineTag:
    """Return the tag as it reads after it was written."""
    path = tuple(part for part in map(clean, tag.path) if part)
    text = clean(tag.text) or (path[-1] if path else "")
    return replace(
        tag,
        text=text,
        score=float(f"{tag.score:.4f}"),
        model=clean(tag.model),
        version=clean(tag.version),
        date=clean(tag.date),
        path=() if path == (text,) else path,
    )


def _undated(tag: MachineTag) -> MachineTag:
    return replace(tag, date="")


def _state(reading: _Reading) -> object:
    """Return all that this module reads or writes, except dates and the order of entries."""
    fields = [sorted(reading.values(one.name)) for one in _WRITTEN]
    lists = [f"{one.label}{kind}" for one in _WRITTEN for kind in _KINDS]
    records = [sorted(reading.ours(label)) for label in (*lists, "DescriptionAdded", *_REFUSALS, *_REGIONS)]
    tags = sorted(map(repr, map(_undated, reading.machine_tags())))
    return fields, records, tags, reading.description()


class _Reading:
    """Look up the properties of a parsed packet by name."""

    def __init__(self, document: Document) -> None:
        self.document = document
        rdf = next((node for node in document.root.walk() if node.name == f"{{{_RDF}}}RDF"), None)
        if rdf is None:
            raise ValueError("it has no rdf:RDF element")
        self.rdf = rdf
        self._values: dict[str, list[str]] = {}
        self._by_name: dict[str, list[Node]] = {}
        for block in rdf.children:
            for node in block.children:
                self._by_name.setdefault(node.name, []).append(node)

    def all_of(self, name: str) -> list[Node]:
        """Return every element of a property; a correct packet has one at most."""
        return self._by_name.get(name, [])

    def simple(self, name: str) -> str:
        """Return a property that has one value, written as an attribute or an element."""
        for block in self.rdf.children:
            if name in block.attributes:
                return block.attributes[name].strip()
        return next((node.text.strip() for node in self.all_of(name)), "")

    def values(self, name: str) -> list[str]:
        """Return the values of a property that is a list; a single value counts as a list of one."""
        if name not in self._values:
            self._values[name] = self._read_values(name)
        return self._values[name]

    def _read_values(self, name: str) -> list[str]:
        found = [value_of(item) for node in self.all_of(name) for item in items_of(node)]
        bare = [_checked(node.text.strip()) for node in self.all_of(name) if container_of(node) is None]
        attributes = [_checked(block.attributes.get(name, "").strip()) for block in self.rdf.children]
        return [value for value in (*found, *bare, *attributes) if value]

    def ours(self, label: str) -> list[str]:
        return self.values(f"{{{NAMESPACE}}}{label}")

    def separators(self) -> int:
        """Return the number of separators inside keywords."""
        return sum(
            value.count(one.separator)
            for one in (*_WRITTEN, *_READ_ONLY)
            if one.separator
            for value in self.values(one.name)
        )

    def is_there(self, one: _Field) -> bool:
        """Return whether the packet has the field, even an empty one."""
        return bool(self.all_of(one.name)) or any(one.name in block.attributes for block in self.rdf.children)

    def entries(self, one: _Field, *, leave_out: Sequence[_Kind] = ()) -> list[str]:
        """Return the entries of a field, except the ones in autotag's lists of these kinds."""
        listed = Counter(
            same_text(value) for kind in leave_out for value in self.ours(f"{one.label}{kind}") if one.label
        )
        left = []
        for value in self.values(one.name):
            listed[same_text(value)] -= 1
            if listed[same_text(value)] < 0:
                left.append(value)
        return left

    def keywords(self, fields: Iterable[_Field] = _WRITTEN, *, leave_out: Sequence[_Kind] = ()) -> Keywords:
        """Return the keywords in these fields, except the entries in autotag's lists of these kinds."""
        single: list[str] = []
        paths: list[KeywordPath] = []
        for one in fields:
            values = self.entries(one, leave_out=leave_out)
            if one.separator:
                paths += map(one.path, values)
            else:
                single += values
        return Keywords.of(single, paths)

    def read_only(self) -> Keywords:
        """Return the keywords in fields that autotag does not write."""
        categories = (path for value in self.values(_CATEGORIES) for path in _categories(value))
        return self.keywords(_READ_ONLY) | Keywords.of((), categories)

    def taken_out(self, kind: _Kind) -> tuple[str, ...]:
        """Return the keywords that autotag added or copied and another program removed from a field.

        If a whole field is missing and ``dc:subject`` still has the keyword, the other program does not know
        the field; that does not count as a removal.
        """
        in_subject = {fold(value) for value in self.values(_SUBJECT.name)}
        gone: list[str] = []
        for one in _WRITTEN:
            there = {fold(one.path(value)[-1]) for value in self.values(one.name)}
            there |= set() if self.is_there(one) else in_subject
            ours = Keywords.of((), map(one.path, self.ours(f"{one.label}{kind}")))
            gone += (word for word in ours.flat if fold(word) not in there)
        return each_once(gone)

    def refusals(self) -> Refusals:
        """Return what other programs removed, since the last run or before."""
        taken_out, present = set(map(fold, self.taken_out("Added"))), self.keywords().leaves()
        tags = (
            tag.text
            for tag in self.machine_tags()
            if fold(tag.text) in taken_out or fold(tag.text) not in present
        )
        written = self.ours("DescriptionAdded")
        is_as_written = same_text(self.description()) in map(same_text, written)
        return Refusals(
            each_once((*self.ours("Refused"), *tags)),
            each_once((*self.ours("CopiesRefused"), *self.taken_out("Copied"))),
            each_once((*self.ours("DescriptionRefused"), *([] if is_as_written else written))),
        )

    def machine_regions(self) -> list[Node]:
        """Return the regions that the machine wrote and nobody changed: one property, or none."""
        written, nodes = self.ours("RegionsAdded"), self.all_of(PROPERTY)
        return nodes if written and len(nodes) == 1 and written == [digest_of(nodes[0])] else []

    def has_regions_by_people(self) -> bool:
        names = (*OTHER_PROPERTIES, *([] if self.machine_regions() else [PROPERTY]))
        return any(self.all_of(name) or self.simple(name) for name in names)

    def regions_refused(self) -> bool:
        is_changed = bool(self.ours("RegionsAdded")) and not self.machine_regions()
        return is_changed or bool(self.ours("RegionsRefused"))

    def orientation(self) -> int:
        found = self.simple(_ORIENTATION)
        return int(found) if found in set("12345678") else 0

    def description(self) -> str:
        nodes = [item for node in self.all_of(_DESCRIPTION) for item in items_of(node)]
        nodes.sort(key=lambda item: item.attributes.get(_LANGUAGE) != "x-default")
        found = next((value for value in map(value_of, nodes) if value), "")
        return found or next(iter(self.values(_DESCRIPTION)), "")

    def machine_tags(self) -> tuple[MachineTag, ...]:
        nodes = [item for node in self.all_of(f"{{{NAMESPACE}}}Tags") for item in items_of(node)]
        return tuple(tag for tag in map(_machine_tag, nodes) if tag.text)

    def summary(self) -> Packet:
        """Return the contents of the packet as a ``Packet``."""
        description = self.description()
        originals = self.keywords(leave_out=("Added", "Copied"))
        packet = Packet(
            keywords=self.keywords() | self.read_only(),
            description=description,
            description_by_people=bool(description)
            and same_text(description) not in map(same_text, self.ours("DescriptionAdded")),
            machine_tags=self.machine_tags(),
            refusals=self.refusals(),
            has_regions_by_people=self.has_regions_by_people(),
            regions_refused=self.regions_refused(),
            orientation=self.orientation(),
            sidecar_for=self.simple(_SIDECAR_FOR),
            extended=self.simple(_EXTENDED),
            provenance=self.simple(_PROVENANCE),
        )
        others = self.read_only().without(packet.echoes())
        return replace(
            packet,
            by_people=originals | others,
            by_people_or_copied=self.keywords(leave_out=("Added",)) | others,
        )


def _categories(xml: str) -> list[KeywordPath]:
    """Return the paths in ACDSee's categories, which are XML inside a text; none if it is damaged."""
    try:
        root = parse(xml.encode()).root
    except ValueError:
        return []
    return [
        path
        for category in root.children
        for path, is_assigned in _category_paths(category, ())
        if is_assigned
    ]


def _category_paths(category: Node, above: KeywordPath) -> Iterator[tuple[KeywordPath, bool]]:
    """Yield the path of a category and of each inside it, and whether it is assigned."""
    path = (*above, category.text)
    yield path, category.attributes.get("Assigned") == "1"
    for inner in category.children:
        yield from _category_paths(inner, path)


def container_of(node: Node) -> Node | None:
    """Return the Bag, Seq or Alt inside a property, or None."""
    return next((child for child in node.children if child.name in _CONTAINERS), None)


def items_of(node: Node) -> list[Node]:
    """Return the entries of a property."""
    return [
        item
        for child in node.children
        if child.name in _CONTAINERS
        for item in child.children
        if item.name == _LI
    ]


def value_of(item: Node) -> str:
    """Return the text of an entry, with or without qualifiers."""
    inside = next((node.text for node in item.walk() if node.name == f"{{{_RDF}}}value"), item.text)
    return _checked(inside.strip())


def _checked(text: str) -> str:
    check_text(text)
    return text


def _machine_tag(item: Node) -> MachineTag:
    """Read a record, written in any of the forms that RDF has for a structure."""
    found: dict[str, str] = {}
    for node in item.walk():
        found |= {_local(name): value for name, value in node.attributes.items() if _is_ours(name)}
        if _is_ours(node.name):
            found[_local(node.name)] = node.text.strip()
    for value in found.values():
        check_text(value)
    try:
        score = float(found.get("score", "0"))
    except ValueError:
        score = 0.0
    return MachineTag(
        text=found.get("tag", ""),
        score=score,
        model=found.get("model", ""),
        version=found.get("version", ""),
        date=found.get("date", ""),
        path=tuple(found["path"].split("|")) if found.get("path") else (),
        in_iptc=found.get("iptc") == "True",
    )


def _is_ours(name: str) -> bool:
    return name.startswith(f"{{{NAMESPACE}}}")


def _local(name: str) -> str:
    return name.rpartition("}")[2]


class _Removal:
    """Remove what the machine wrote from a packet."""

    def __init__(self, reading: _Reading, *, keep_copies: bool) -> None:
        self._reading = reading
        self._kinds: Sequence[_Kind] = ("Added",) if keep_copies else ("Added", "Copied")
        self._gone: set[int] = set()  # starts of elements that go

    def packet(self) -> bytes | None:
        """Return the packet without what autotag wrote; None if autotag wrote all of it."""
        reading = self._reading
        for one in _WRITTEN:
            self._take(one.name, [value for kind in self._kinds for value in reading.ours(one.label + kind)])
        self._take(_DESCRIPTION, reading.ours("DescriptionAdded"))
        self._gone |= {node.start for node in reading.machine_regions()}
        for block in reading.rdf.children:
            self._gone |= {node.start for node in block.children if _is_ours(node.name)}
            self._take_if_empty(block)
        if self._nothing_left():
            return None
        document = reading.document
        return document.edited(self._edits(reading.rdf)) if self._gone else document.edited([])

    def _take(self, name: str, written: Iterable[str]) -> None:
        values = Counter(map(same_text, written))
        for node in self._reading.all_of(name):
            entries = items_of(node)
            for item in entries:
                value = same_text(value_of(item))
                if values[value] > 0:
                    values[value] -= 1
                    self._gone.add(item.start)
            if entries and all(item.start in self._gone for item in entries):
                self._gone.add(node.start)

    def _take_if_empty(self, block: Node) -> None:
        """Remove a block whose last property is removed and which has no property as an attribute."""
        properties = [name for name in block.attributes if not name.startswith(f"{{{_RDF}}}")]
        gone = [node.start in self._gone for node in block.children]
        if gone and all(gone) and not properties:
            self._gone.add(block.start)

    def _nothing_left(self) -> bool:
        left = [
            name
            for block in self._reading.rdf.children
            if block.start not in self._gone
            for name in (
                *(name for name in block.attributes if not name.startswith(f"{{{_RDF}}}")),
                *(node.name for node in block.children if node.start not in self._gone),
            )
        ]
        toolkit = self._reading.document.root.attributes.get(_TOOLKIT, "")
        return toolkit.startswith("autotag") and set(left) <= {_SIDECAR_FOR}

    def _edits(self, node: Node) -> list[Edit]:
        """Return one edit for each element that is removed, with the white space before it."""
        if node.start in self._gone:
            space = self._reading.document.space_before(node)
            return [(node.start - len(space), node.end, b"")]
        return [edit for child in node.children for edit in self._edits(child)]


class _Writing:
    """Add tags to a packet that holds nothing of autotag's."""

    def __init__(self, reading: _Reading, fields: Sequence[KeywordField]) -> None:
        self._reading = reading
        self._document = reading.document
        self._fields = [_FIELDS[name] for name in KEYWORD_FIELDS if name in fields]
        self._edits: list[Edit] = []
        self._properties: list[str] = []  # for the new block
        self._declared: dict[str, str] = {}  # namespace -> prefix, declared on the new block

    @property
    def is_described(self) -> bool:
        """Return whether the packet has a description already."""
        return bool(self._reading.description())

    def add(self, tags: Sequence[MachineTag], caption: str, by_people: Keywords, refused: Refusals) -> bytes:
        """Return the packet with tags, caption, their record, and copies of people's keywords."""
        copied = by_people.without(map(fold, refused.copies))
        records: dict[str, Sequence[str]] = {}
        for one in self._fields:
            entries = _NewEntries(one, self._reading.values(one.name))
            records[f"{one.label}Copied"] = entries.added(entries.to_copy(copied))
            records[f"{one.label}Added"] = entries.added(_path_in(one, tag) for tag in tags)
            self._add_values(one, [*records[f"{one.label}Copied"], *records[f"{one.label}Added"]])
        if caption:
            self._add_caption(caption)
            records["DescriptionAdded"] = [caption]
        lists = (refused.tags, refused.copies, refused.descriptions)
        self._add_records(tags, {**records, **dict(zip(_REFUSALS, lists, strict=True))})
        self._add_block()
        return self._document.edited(self._edits)

    def _add_values(self, one: _Field, values: Sequence[str]) -> None:
        """Append entries to the field, or make the field."""
        if not values:
            return
        nodes = self._reading.all_of(one.name)
        container = next((found for found in map(container_of, nodes) if found), None)
        if container is not None:
            self._append(container, values)
            return
        if self._reading.values(one.name):
            raise ValueError(f"its {_local(one.name)} is not a list (rdf:Bag, rdf:Seq or rdf:Alt)")
        self._drop(nodes)
        self._properties.append(self._listed(one.name, one.container, [escape(value) for value in values]))

    def _append(self, container: Node, values: Sequence[str]) -> None:
        li = f"{_rdf_prefix(container)}:li"
        entries = [node for node in container.children if node.name == _LI]
        space = self._document.space_before(entries[-1]) if entries else b""
        new = b"".join(space + f"<{li}>{escape(value)}</{li}>".encode() for value in values)
        if container.closed_at_once:
            self._reopen(container, new)
        else:
            place = container.children[-1].end if container.children else container.inner
            self._edits.append((place, place, new))

    def _reopen(self, node: Node, inside: bytes) -> None:
        """Put contents into an element like ``<a/>``."""
        tag = self._document.body[node.start : node.end]
        name = tag[1:].split(None, 1)[0].rstrip(b"/>")
        self._edits.append((node.start, node.end, tag[:-2].rstrip() + b">" + inside + b"</" + name + b">"))

    def _drop(self, nodes: Iterable[Node]) -> None:
        """Remove empty properties, which new ones replace."""
        for node in nodes:
            start = node.start - len(self._document.space_before(node))
            self._edits.append((start, node.end, b""))

    def add_regions(self, regions: Regions | None, *, refused: bool) -> None:
        """Add regions and their record, or the record that they are refused, or nothing."""
        if regions is not None:
            self._properties += [
                regions.xml(self._prefix, _rdf_prefix(self._reading.rdf)),
                self._listed(f"{{{NAMESPACE}}}RegionsAdded", "Bag", [regions.digest()]),
            ]
        elif refused:
            self._properties.append(self._listed(f"{{{NAMESPACE}}}RegionsRefused", "Bag", ["True"]))

    def _add_caption(self, caption: str) -> None:
        self._drop(self._reading.all_of(_DESCRIPTION))
        self._properties.append(
            self._listed(_DESCRIPTION, "Alt", [escape(caption)], attributes=' xml:lang="x-default"')
        )

    def _add_records(self, tags: Iterable[MachineTag], lists: Mapping[str, Sequence[str]]) -> None:
        ours = self._prefix(NAMESPACE)
        rdf = _rdf_prefix(self._reading.rdf)
        structures = [f"    <{rdf}:li{_record(tag, ours)}/>" for tag in tags]
        if structures:
            self._properties.append(self._container(f"{ours}:Tags", "Bag", structures))
        for label, values in lists.items():
            if values:
                self._properties.append(
                    self._listed(f"{{{NAMESPACE}}}{label}", "Bag", [escape(value) for value in values])
                )

    def _listed(self, name: str, container: str, escaped: Iterable[str], *, attributes: str = "") -> str:
        """Return the XML of a property that is a list of texts."""
        li = f"{_rdf_prefix(self._reading.rdf)}:li"
        lines = [f"    <{li}{attributes}>{value}</{li}>" for value in escaped]
        namespace, _, local = name[1:].partition("}")
        return self._container(f"{self._prefix(namespace)}:{local}", container, lines)

    def _container(self, name: str, container: str, lines: Iterable[str]) -> str:
        rdf = _rdf_prefix(self._reading.rdf)
        return "\n".join(
            (f"  <{name}>", f"   <{rdf}:{container}>", *lines, f"   </{rdf}:{container}>", f"  </{name}>")
        )

    def _prefix(self, namespace: str) -> str:
        """Return the prefix in force for a namespace, or one that the new block declares.

        A prefix that another block uses for the namespace is reused: Adobe's XMP Toolkit, and with it exiv2,
        rejects a packet in which a namespace has two prefixes.
        """
        in_force = self._reading.rdf.prefix_of(namespace) or self._declared.get(namespace)
        if in_force:
            return in_force
        nodes = {id(node.scope): node for node in self._reading.rdf.walk()}
        elsewhere = (node.prefix_of(namespace) for node in nodes.values())
        prefix = next(filter(None, elsewhere), _PREFERRED_PREFIXES[namespace])
        while prefix in self._reading.rdf.scope:
            prefix += "1"
        self._declared[namespace] = prefix
        return prefix

    def _add_block(self) -> None:
        """Add an ``rdf:Description`` after the others, with the same ``rdf:about``."""
        rdf = self._reading.rdf
        prefix = _rdf_prefix(rdf)
        blocks = rdf.children
        about = next((block.attributes.get(f"{{{_RDF}}}about") for block in blocks), None) or ""
        declared = "".join(f"\n   xmlns:{name}={quoteattr(uri)}" for uri, name in self._declared.items())
        properties = "\n".join(self._properties)
        block = (
            f"\n <{prefix}:Description {prefix}:about={quoteattr(about)}{declared}>\n{properties}\n"
            f" </{prefix}:Description>"
        ).encode()
        if rdf.closed_at_once:
            self._reopen(rdf, block + b"\n")
        else:
            place = blocks[-1].end if blocks else rdf.inner
            self._edits.append((place, place, block))


def _rdf_prefix(node: Node) -> str:
    prefix = node.prefix_of(_RDF)
    if prefix is None:
        raise ValueError("it declares no prefix for the RDF namespace")
    return prefix


def _record(tag: MachineTag, prefix: str) -> str:
    """Return the XML attributes of one structure in ``Tags``."""
    facts = {
        "tag": tag.text,
        "score": f"{tag.score:.4f}",
        "path": "|".join(tag.path),
        "model": tag.model,
        "version": tag.version,
        "date": tag.date,
        "iptc": "True" if tag.in_iptc else "",
    }
    return "".join(f" {prefix}:{name}={quoteattr(value)}" for name, value in facts.items() if value)


class _NewEntries:
    """Work out which entries a field still needs, besides the ones that people wrote."""

    def __init__(self, one: _Field, present: Iterable[str]) -> None:
        self._field = one
        self._there = {folded_path(one.path(value)) for value in present}
        nested = [path for path in self._there if len(path) > 1]
        self._with_prefixes = one.every_prefix and all(path[:-1] in self._there for path in nested)

    def added(self, paths: Iterable[KeywordPath]) -> list[str]:
        """Return the entries for paths that are not in the field yet, and remember them.

        In a field where every prefix is an entry by convention, return the prefixes too, unless the entries
        that people wrote there lack them.
        """
        new = []
        for path in paths:
            lengths = range(1, len(path) + 1) if self._with_prefixes else (len(path),)
            for part in (path[:length] for length in lengths):
                entry = self._field.entry(part)
                if entry is not None and self._field.entry(path) is not None and self._is_new(part):
                    new.append(entry)
        return new

    def _is_new(self, path: KeywordPath) -> bool:
        """Return whether a path is new, and remember it."""
        key = folded_path(path)
        is_new = key not in self._there
        self._there.add(key)
        return is_new

    def to_copy(self, by_people: Keywords) -> list[KeywordPath]:
        """Return people's keywords as paths for this field.

        Leave out a keyword that is already part of a path in the field.
        """
        if not self._field.separator:
            return [(word,) for word in by_people.flat]
        paths = [path for path in by_people.paths if self._field.entry(path) is not None]
        known = {part for path in (*map(folded_path, paths), *self._there) for part in path}
        known |= {spelt for path in by_people.paths for spelt in spellings(path)}
        return [*paths, *((word,) for word in by_people.flat if fold(word) not in known)]


def _empty_packet(sidecar_for: str, *, wrapped: bool) -> bytes:
    """Return a packet without properties, or with only the extension that a sidecar is for."""
    named = f' xmlns:photoshop="{_PHOTOSHOP}" photoshop:SidecarForExtension={quoteattr(sidecar_for)}'
    block = f'\n <rdf:Description rdf:about=""{named}/>' if sidecar_for else ""
    packet = (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="autotag">\n<rdf:RDF xmlns:rdf="{_RDF}">{block}\n'
        "</rdf:RDF>\n</x:xmpmeta>\n"
    )
    if wrapped:
        return (
            f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n{packet}<?xpacket end="w"?>'.encode()
        )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{packet}'.encode()
