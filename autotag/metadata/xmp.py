"""XMP packets: reading keywords, and writing a machine's tags so that they can be told from a person's.

A packet is edited by position: what is not ours keeps every byte, prefixes, order, comments, padding and the
``xpacket`` wrapper included. What is written, besides the keywords themselves, in the namespace
``https://github.com/autotag/autotag/xmp/1.0/``:

- ``Tags``: each machine tag with score, model, version and date;
- ``SubjectAdded``, ``HierarchyAdded``, ``TagsListAdded``, ``DescriptionAdded``: the entries of the fields of
  these names that the machine added;
- ``HierarchyCopied``, ``...``: a person's keywords that were copied there from another field, because readers
  look at one field only;
- ``Refused``: machine tags that a person deleted; they are not added again.

Sources: XMP Specification Part 1 (ISO 16684-1) and Part 2 (Adobe, 2016); ``lr:hierarchicalSubject`` as
Lightroom writes it (every prefix), ``digiKam:TagsList`` as digiKam does (whole paths).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from autotag.metadata.keywords import KeywordPath, Keywords, clean, each_once, fold
from autotag.metadata.xml_nodes import Document, Edit, Node, parse

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

NAMESPACE = "https://github.com/autotag/autotag/xmp/1.0/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_DC = "http://purl.org/dc/elements/1.1/"
_LR = "http://ns.adobe.com/lightroom/1.0/"
_DIGIKAM = "http://www.digikam.org/ns/1.0/"
_PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
_PREFERRED_PREFIXES = {
    _RDF: "rdf",
    _DC: "dc",
    _LR: "lr",
    _DIGIKAM: "digiKam",
    _PHOTOSHOP: "photoshop",
    NAMESPACE: "autotag",
}

_DESCRIPTION = f"{{{_DC}}}description"
_SIDECAR_FOR = f"{{{_PHOTOSHOP}}}SidecarForExtension"
_EXTENDED = "{http://ns.adobe.com/xmp/note/}HasExtendedXMP"
_TOOLKIT = "{adobe:ns:meta/}xmptk"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_CONTAINERS = frozenset(f"{{{_RDF}}}{kind}" for kind in ("Bag", "Seq", "Alt"))
_LI = f"{{{_RDF}}}li"


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of keywords: its name, what separates the parts of a path, and what is written per keyword."""

    name: str
    label: str
    container: str
    separator: str = ""
    in_a_name: str = ""  # what stands for the separator inside a keyword
    every_prefix: bool = False

    def path(self, value: str) -> KeywordPath:
        return tuple(value.split(self.separator)) if self.separator else (value,)

    def values(self, path: KeywordPath) -> list[str]:
        """The entries that stand for a path."""
        if not self.separator:
            return [path[-1]]
        parts = [part.replace(self.separator, self.in_a_name) for part in path]
        lengths = range(1, len(parts) + 1) if self.every_prefix else (len(parts),)
        return [self.separator.join(parts[:length]) for length in lengths]


_SUBJECT = _Field(f"{{{_DC}}}subject", "Subject", "Bag")
_HIERARCHY = _Field(f"{{{_LR}}}hierarchicalSubject", "Hierarchy", "Bag", "|", "∣", every_prefix=True)
_TAGS_LIST = _Field(f"{{{_DIGIKAM}}}TagsList", "TagsList", "Seq", "/", "∕")
_WRITTEN = (_SUBJECT, _HIERARCHY, _TAGS_LIST)
_READ_ONLY = (
    _Field("{http://ns.microsoft.com/photo/1.0}LastKeywordXMP", "", "Bag", "/"),
    _Field("{http://ns.microsoft.com/photo/1.0/}LastKeywordXMP", "", "Bag", "/"),
    _Field("{http://ns.iview-multimedia.com/mediapro/1.0/}CatalogSets", "", "Bag", "|"),
)
_DESCRIPTION_LABEL = "Description"


@dataclass(frozen=True, slots=True)
class MachineTag:
    """A tag as the machine's record keeps it.

    Attributes:
        text: the keyword.
        score: by the last stage that scored it; four decimals are kept.
        model: what proposed or scored it, e.g. a preset or an encoder.
        version: of autotag.
        date: when it was first written with these values, ISO 8601; empty lets the writer put the date in.
        path: the keyword with what it belongs to, outermost first; empty when it stands alone.
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
        return self.path or (self.text,)


@dataclass(frozen=True, slots=True)
class Packet:
    """What a packet says.

    Attributes:
        keywords: every keyword in it.
        by_people: the keywords without those that the machine added.
        description: the default one; empty when there is none.
        description_by_people: False when the machine wrote it, and it is as it was written.
        machine_tags: the machine's record, in the order of writing.
        refused: machine tags that a person deleted.
        sidecar_for: the extension that it belongs to, as ``photoshop:SidecarForExtension`` says.
        extended: the id of the extended XMP that belongs to it, or empty.
    """

    keywords: Keywords = field(default_factory=Keywords)
    by_people: Keywords = field(default_factory=Keywords)
    description: str = ""
    description_by_people: bool = False
    machine_tags: tuple[MachineTag, ...] = ()
    refused: tuple[str, ...] = ()
    sidecar_for: str = ""
    extended: str = ""


def read_packet(packet: bytes) -> Packet:
    """What a packet says.

    Raises:
        ValueError: it is no XMP: not well-formed, with a document type, or without RDF.
    """
    return _Reading(parse(packet)).summary()


def with_machine_tags(
    packet: bytes | None,
    tags: Sequence[MachineTag],
    *,
    description: str = "",
    elsewhere: Keywords | None = None,
    date: str = "",
    sidecar_for: str = "",
    wrapped: bool = False,
) -> bytes | None:
    """The packet with these machine tags in place of the machine tags it had.

    A tag that a person gave, here or ``elsewhere``, is not recorded as the machine's; nor is one that a
    person deleted here (``Packet.refused``) added again. Where nothing but dates would change, the packet
    comes back as it was.

    Args:
        packet: the packet so far, or None to begin one.
        tags: best first; the first spelling of each counts.
        description: goes to ``dc:description`` if that is empty or the machine's.
        elsewhere: what people wrote in other places of the same file; missing here, it is copied here.
        date: ISO 8601, for tags that have none and did not have these values before.
        sidecar_for: extension for ``photoshop:SidecarForExtension`` of a packet begun here.
        wrapped: whether a packet begun here gets an ``xpacket`` wrapper, as embedded ones have.

    Returns:
        The packet; None when there is nothing to write and nothing was there.

    Raises:
        ValueError: the packet is no XMP, or keeps its keywords in a form that XMP does not have.
    """
    elsewhere = elsewhere or Keywords()
    before = read_packet(packet) if packet is not None else Packet()
    refused = _refused(before)
    base = without_machine_tags(packet, elsewhere) if packet is not None else None
    people = read_packet(base) if base is not None else Packet()
    taken = {fold(word) for word in (*people.keywords.flat, *elsewhere.flat, *refused)}
    wanted = _new_tags(tags, taken, before, date)
    caption = "" if people.description else clean(description)
    if not wanted and not caption and not refused:
        return base
    begun = base if base is not None else _empty_packet(sidecar_for, wrapped=wrapped)
    after = _Writing(parse(begun)).add(wanted, caption, elsewhere, refused)
    return packet if packet is not None and _same_but_dates(packet, after) else after


def without_machine_tags(packet: bytes, elsewhere: Keywords | None = None) -> bytes | None:
    """The packet without what the machine wrote: tags, their record, an unchanged description.

    A copy of a person's keyword goes only where the original is still there, in another field of the packet
    or ``elsewhere``. None when nothing is left of a packet that autotag began.

    Raises:
        ValueError: it is no XMP.
    """
    return _Removal(_Reading(parse(packet)), elsewhere or Keywords()).packet()


def _refused(before: Packet) -> tuple[str, ...]:
    present = {fold(word) for word in before.keywords.flat}
    deleted = [tag.text for tag in before.machine_tags if fold(tag.text) not in present]
    return each_once((*before.refused, *deleted))


def _new_tags(tags: Iterable[MachineTag], taken: set[str], before: Packet, date: str) -> list[MachineTag]:
    """The tags that are not ``taken``, each once, with the dates they had."""
    dates = {_undated(tag): tag.date for tag in before.machine_tags}
    kept = []
    for tag in map(_cleaned, tags):
        if tag.text and fold(tag.text) not in taken:
            taken.add(fold(tag.text))
            kept.append(replace(tag, date=dates.get(_undated(tag)) or tag.date or date))
    return kept


def _cleaned(tag: MachineTag) -> MachineTag:
    """As it reads after being written."""
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


def _same_but_dates(one: bytes, other: bytes) -> bool:
    return _state(one) == _state(other)


def _state(packet: bytes) -> object:
    """All that this module reads or writes, dates and the order of entries left out."""
    reading = _Reading(parse(packet))
    said = reading.summary()
    fields = [sorted(reading.values(one.name)) for one in _WRITTEN]
    records = [sorted(reading.ours(f"{one.label}{kind}")) for one in _WRITTEN for kind in ("Added", "Copied")]
    tags = sorted(map(repr, map(_undated, said.machine_tags)))
    return fields, records, tags, said.description, reading.ours("DescriptionAdded"), sorted(said.refused)


class _Reading:
    """A parsed packet, asked by the names of properties."""

    def __init__(self, document: Document) -> None:
        self.document = document
        rdf = next((node for node in document.root.walk() if node.name == f"{{{_RDF}}}RDF"), None)
        if rdf is None:
            raise ValueError("it has no RDF inside")
        self.rdf = rdf

    def all_of(self, name: str) -> list[Node]:
        """The property, wherever it stands; rightly it stands once."""
        return [node for block in self.rdf.children for node in block.children if node.name == name]

    def simple(self, name: str) -> str:
        """A property with one value, written as an attribute or an element."""
        for block in self.rdf.children:
            if name in block.attributes:
                return block.attributes[name].strip()
        return next((node.text.strip() for node in self.all_of(name)), "")

    def values(self, name: str) -> list[str]:
        """The values of a property that is a list; a lone value counts as a list of one."""
        found = [value_of(item) for node in self.all_of(name) for item in items_of(node)]
        bare = [node.text.strip() for node in self.all_of(name) if container_of(node) is None]
        attributes = [block.attributes.get(name, "").strip() for block in self.rdf.children]
        return [value for value in (*found, *bare, *attributes) if value]

    def ours(self, label: str) -> list[str]:
        return self.values(f"{{{NAMESPACE}}}{label}")

    def keywords(self, *, leave_out: Sequence[str] = ()) -> Keywords:
        """Every keyword, without the entries in our lists of these kinds (``"Added"``, ``"Copied"``)."""
        flat: list[str] = []
        paths: list[KeywordPath] = []
        for one in (*_WRITTEN, *_READ_ONLY):
            listed = [value for kind in leave_out for value in self.ours(one.label + kind) if one.label]
            values = (Counter(self.values(one.name)) - Counter(listed)).elements()
            if one.separator:
                paths += [one.path(value) for value in values]
            else:
                flat += values
        return Keywords.of(flat, paths)

    def description(self) -> str:
        nodes = [item for node in self.all_of(_DESCRIPTION) for item in items_of(node)]
        nodes.sort(key=lambda item: item.attributes.get(_LANGUAGE) != "x-default")
        found = next((value for value in map(value_of, nodes) if value), "")
        return found or next(iter(self.values(_DESCRIPTION)), "")

    def machine_tags(self) -> tuple[MachineTag, ...]:
        nodes = [item for node in self.all_of(f"{{{NAMESPACE}}}Tags") for item in items_of(node)]
        return tuple(tag for tag in map(_machine_tag, nodes) if tag.text)

    def summary(self) -> Packet:
        """What the packet says, in our terms."""
        description = self.description()
        return Packet(
            keywords=self.keywords(),
            by_people=self.keywords(leave_out=("Added",)),
            description=description,
            description_by_people=bool(description) and description not in self.ours("DescriptionAdded"),
            machine_tags=self.machine_tags(),
            refused=tuple(self.ours("Refused")),
            sidecar_for=self.simple(_SIDECAR_FOR),
            extended=self.simple(_EXTENDED),
        )


def container_of(node: Node) -> Node | None:
    """The Bag, Seq or Alt inside a property."""
    return next((child for child in node.children if child.name in _CONTAINERS), None)


def items_of(node: Node) -> list[Node]:
    """The entries of a property."""
    return [
        item
        for child in node.children
        if child.name in _CONTAINERS
        for item in child.children
        if item.name == _LI
    ]


def value_of(item: Node) -> str:
    """The text of an entry, also of one with qualifiers."""
    inside = next((node.text for node in item.walk() if node.name == f"{{{_RDF}}}value"), item.text)
    return inside.strip()


def _machine_tag(item: Node) -> MachineTag:
    """A record in any of the shapes that RDF has for a structure."""
    found: dict[str, str] = {}
    for node in item.walk():
        found |= {_local(name): value for name, value in node.attributes.items() if _is_ours(name)}
        if _is_ours(node.name):
            found[_local(node.name)] = node.text.strip()
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
    """Takes what the machine wrote out of a packet."""

    def __init__(self, reading: _Reading, elsewhere: Keywords) -> None:
        self._reading = reading
        self._originals = (reading.keywords(leave_out=("Added", "Copied")) | elsewhere).folded()
        self._gone: set[int] = set()  # starts of elements that go

    def packet(self) -> bytes | None:
        """The packet without what is ours; None when nothing is left of a packet that is all ours."""
        reading = self._reading
        for one in _WRITTEN:
            self._take(one.name, self._entries_to_take(one))
        self._take(_DESCRIPTION, Counter(reading.ours("DescriptionAdded")))
        for block in reading.rdf.children:
            self._gone |= {node.start for node in block.children if _is_ours(node.name)}
            self._take_if_empty(block)
        if self._nothing_left():
            return None
        document = reading.document
        return document.edited(self._edits(reading.rdf)) if self._gone else document.edited([])

    def _entries_to_take(self, one: _Field) -> Counter[str]:
        copies = [
            value
            for value in self._reading.ours(f"{one.label}Copied")
            if fold(one.path(value)[-1].replace(one.in_a_name or "\0", one.separator)) in self._originals
        ]
        return Counter(self._reading.ours(f"{one.label}Added")) + Counter(copies)

    def _take(self, name: str, values: Counter[str]) -> None:
        for node in self._reading.all_of(name):
            entries = items_of(node)
            for item in entries:
                if values[value_of(item)] > 0:
                    values[value_of(item)] -= 1
                    self._gone.add(item.start)
            if entries and all(item.start in self._gone for item in entries):
                self._gone.add(node.start)

    def _take_if_empty(self, block: Node) -> None:
        """A block goes with its last property, if it has no property as an attribute."""
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
        """Each element that goes, with the white space before it; nothing inside one that goes."""
        if node.start in self._gone:
            space = self._reading.document.space_before(node)
            return [(node.start - len(space), node.end, b"")]
        return [edit for child in node.children for edit in self._edits(child)]


class _Writing:
    """Adds to a packet that holds nothing of ours."""

    def __init__(self, document: Document) -> None:
        self._reading = _Reading(document)
        self._document = document
        self._edits: list[Edit] = []
        self._properties: list[str] = []  # for the new block
        self._declared: dict[str, str] = {}  # namespace -> prefix, declared on the new block

    def add(
        self, tags: Sequence[MachineTag], caption: str, elsewhere: Keywords, refused: Sequence[str]
    ) -> bytes:
        """The packet with tags, caption and their record, and with people's keywords from ``elsewhere``."""
        by_people = self._reading.keywords() | elsewhere
        records: dict[str, list[str]] = {}
        for one in _WRITTEN:
            copied, added = _missing(one, self._reading.values(one.name), by_people, tags)
            self._add_values(one, [*copied, *added])
            records |= {f"{one.label}Added": added, f"{one.label}Copied": copied}
        if caption:
            self._add_caption(caption)
            records["DescriptionAdded"] = [caption]
        self._add_records(tags, {**records, "Refused": list(refused)})
        self._add_block()
        return self._document.edited(self._edits)

    def _add_values(self, one: _Field, values: Sequence[str]) -> None:
        """Entries at the end of the field, or a new field."""
        if not values:
            return
        nodes = self._reading.all_of(one.name)
        container = next((found for found in map(container_of, nodes) if found), None)
        if container is not None:
            self._append(container, values)
            return
        if self._reading.values(one.name):
            raise ValueError(f"it keeps {_local(one.name)} in a form that XMP does not have")
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
        """Gives an element like ``<a/>`` contents."""
        tag = self._document.body[node.start : node.end]
        name = tag[1:].split(None, 1)[0].rstrip(b"/>")
        self._edits.append((node.start, node.end, tag[:-2].rstrip() + b">" + inside + b"</" + name + b">"))

    def _drop(self, nodes: Iterable[Node]) -> None:
        """Removes properties that say nothing, to make place for ours."""
        for node in nodes:
            start = node.start - len(self._document.space_before(node))
            self._edits.append((start, node.end, b""))

    def _add_caption(self, caption: str) -> None:
        self._drop(self._reading.all_of(_DESCRIPTION))
        self._properties.append(
            self._listed(_DESCRIPTION, "Alt", [escape(caption)], attributes=' xml:lang="x-default"')
        )

    def _add_records(self, tags: Iterable[MachineTag], lists: dict[str, list[str]]) -> None:
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
        """A property that is a list of texts."""
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
        """The prefix in force for a namespace, or one that the new block declares.

        One that another block has for it is used again: Adobe's XMP Toolkit, and exiv2 with it, reads nothing
        of a packet in which a namespace has two prefixes.
        """
        in_force = self._reading.rdf.prefix_of(namespace) or self._declared.get(namespace)
        if in_force:
            return in_force
        elsewhere = (node.prefix_of(namespace) for node in self._reading.rdf.walk())
        prefix = next(filter(None, elsewhere), _PREFERRED_PREFIXES[namespace])
        while prefix in self._reading.rdf.scope:
            prefix += "1"
        self._declared[namespace] = prefix
        return prefix

    def _add_block(self) -> None:
        """One more ``rdf:Description`` after the others, about the same thing."""
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
        raise ValueError("it has no prefix for RDF")
    return prefix


def _record(tag: MachineTag, prefix: str) -> str:
    """The attributes that make up one structure of ``Tags``."""
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


def _missing(
    one: _Field, present: Collection[str], by_people: Keywords, tags: Iterable[MachineTag]
) -> tuple[list[str], list[str]]:
    """The entries that a field lacks: copies of people's keywords, and the machine's."""
    there = {fold(value) for value in present}
    copied: list[str] = []
    for path in _to_copy(one, present, by_people):
        copied += _not_there(one.values(path), there)
    added: list[str] = []
    for tag in tags:
        path = tag.whole_path if one.separator else (tag.text,)
        added += _not_there(one.values(path), there)
    return copied, added


def _not_there(values: Iterable[str], there: set[str]) -> list[str]:
    """The values that are not ``there``, which they are added to."""
    new = [value for value in values if fold(value) not in there]
    there |= {fold(value) for value in new}
    return new


def _to_copy(one: _Field, present: Collection[str], by_people: Keywords) -> list[KeywordPath]:
    """People's keywords as a field should have them; one that is part of a path needs no entry of its own."""
    if not one.separator:
        return [(word,) for word in by_people.flat]
    paths = [*by_people.paths, *(one.path(value) for value in present)]
    in_paths = {fold(part) for path in paths for part in path}
    return [*by_people.paths, *((word,) for word in by_people.flat if fold(word) not in in_paths)]


def _empty_packet(sidecar_for: str, *, wrapped: bool) -> bytes:
    """A packet without properties, but for the extension that a sidecar is for."""
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
