"""Read the properties of an XMP packet: keywords, autotag's records of them, and the description."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from autotag.metadata.budget import check_text
from autotag.metadata.keywords import Keywords, each_once, fold, same_text
from autotag.metadata.regions import OTHER_PROPERTIES, PROPERTY, digest_of
from autotag.metadata.xml_nodes import parse
from autotag.metadata.xmp_fields import (
    CATEGORIES,
    COPIED_FROM,
    DESCRIPTION,
    ECHOED,
    IDS,
    KINDS,
    LI,
    NAMESPACE,
    RDF,
    READ_ONLY,
    REFUSALS,
    SIDECAR_FOR,
    SUBJECT,
    UNKNOWN_FILE,
    WRITTEN,
)
from autotag.metadata.xmp_packet import MachineTag, Packet, Refusals, undated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from autotag.metadata.keywords import KeywordPath
    from autotag.metadata.xml_nodes import Document, Node
    from autotag.metadata.xmp_fields import Field, Kind

_PROVENANCE = "{http://purl.org/dc/terms/}provenance"
_ORIENTATION = "{http://ns.adobe.com/tiff/1.0/}Orientation"
_EXTENDED = "{http://ns.adobe.com/xmp/note/}HasExtendedXMP"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_CONTAINERS = frozenset(f"{{{RDF}}}{kind}" for kind in ("Bag", "Seq", "Alt"))
_OTHER_RECORDS = (COPIED_FROM, IDS, ECHOED, "DescriptionAdded", *REFUSALS, "RegionsAdded", "RegionsRefused")


class Reading:
    """Look up the properties of a parsed packet by name."""

    def __init__(self, document: Document) -> None:
        self.document = document
        rdf = next((node for node in document.root.walk() if node.name == f"{{{RDF}}}RDF"), None)
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
            for one in (*WRITTEN, *READ_ONLY)
            if one.separator
            for value in self.values(one.name)
        )

    def is_there(self, one: Field) -> bool:
        """Return whether the packet has the field, even an empty one."""
        return bool(self.all_of(one.name)) or any(one.name in block.attributes for block in self.rdf.children)

    def entries(self, one: Field, *, leave_out: Sequence[Kind] = ()) -> list[str]:
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

    def keywords(self, fields: Iterable[Field] = WRITTEN, *, leave_out: Sequence[Kind] = ()) -> Keywords:
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
        categories = (path for value in self.values(CATEGORIES) for path in _categories(value))
        return self.keywords(READ_ONLY) | Keywords.of((), categories)

    def taken_out(self, kind: Kind) -> tuple[str, ...]:
        """Return the keywords that autotag added or copied and another program removed from a field.

        If a whole field is missing and ``dc:subject`` still has the keyword, the other program does not know
        the field; that does not count as a removal.
        """
        in_subject = {fold(value) for value in self.values(SUBJECT.name)}
        gone: list[str] = []
        for one in WRITTEN:
            there = {fold(one.path(value)[-1]) for value in self.values(one.name)}
            there |= set() if self.is_there(one) else in_subject
            ours = Keywords.of((), map(one.path, self.ours(f"{one.label}{kind}")))
            gone += (word for word in ours.flat if fold(word) not in there)
        return each_once(gone)

    def copied_from(self) -> tuple[str, ...]:
        """Return the sources of the copies; ``UNKNOWN_FILE`` where a record of an old version names none."""
        has_copies = any(self.ours(f"{one.label}Copied") for one in WRITTEN)
        return tuple(self.ours(COPIED_FROM) or [UNKNOWN_FILE]) if has_copies else ()

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
        nodes = [item for node in self.all_of(DESCRIPTION) for item in items_of(node)]
        nodes.sort(key=lambda item: item.attributes.get(_LANGUAGE) != "x-default")
        found = next((value for value in map(value_of, nodes) if value), "")
        return found or next(iter(self.values(DESCRIPTION)), "")

    def machine_tags(self) -> tuple[MachineTag, ...]:
        nodes = [item for node in self.all_of(f"{{{NAMESPACE}}}Tags") for item in items_of(node)]
        return tuple(tag for tag in map(_machine_tag, nodes) if tag.text)

    def summary(self) -> Packet:
        """Return the contents of the packet as a ``Packet``."""
        description = self.description()
        originals = self.keywords(leave_out=("Added", "Copied"))
        packet = Packet(
            keywords=self.keywords() | self.read_only(),
            copied_from=self.copied_from(),
            ids=tuple(self.ours(IDS)),
            description=description,
            description_by_people=bool(description)
            and same_text(description) not in map(same_text, self.ours("DescriptionAdded")),
            machine_tags=self.machine_tags(),
            refusals=self.refusals(),
            echoed=tuple(self.ours(ECHOED)),
            has_regions_by_people=self.has_regions_by_people(),
            regions_refused=self.regions_refused(),
            orientation=self.orientation(),
            sidecar_for=self.simple(SIDECAR_FOR),
            extended=self.simple(_EXTENDED),
            provenance=self.simple(_PROVENANCE),
        )
        others = self.read_only().without(packet.echoes())
        return replace(
            packet,
            by_people=originals | others,
            by_people_or_copied=self.keywords(leave_out=("Added",)) | others,
        )

    def state(self) -> object:
        """Return all that autotag reads or writes, except dates and the order of entries."""
        fields = [sorted(self.values(one.name)) for one in WRITTEN]
        lists = [f"{one.label}{kind}" for one in WRITTEN for kind in KINDS]
        records = [sorted(self.ours(label)) for label in (*lists, *_OTHER_RECORDS)]
        tags = sorted(map(repr, map(undated, self.machine_tags())))
        return fields, records, tags, self.description()


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
        if item.name == LI
    ]


def value_of(item: Node) -> str:
    """Return the text of an entry, with or without qualifiers."""
    inside = next((node.text for node in item.walk() if node.name == f"{{{RDF}}}value"), item.text)
    return _checked(inside.strip())


def _checked(text: str) -> str:
    check_text(text)
    return text


def _machine_tag(item: Node) -> MachineTag:
    """Read a record, written in any of the forms that RDF has for a structure."""
    found: dict[str, str] = {}
    for node in item.walk():
        found |= {local_name(name): value for name, value in node.attributes.items() if is_ours(name)}
        if is_ours(node.name):
            found[local_name(node.name)] = node.text.strip()
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


def is_ours(name: str) -> bool:
    """Return whether a name is in autotag's namespace."""
    return name.startswith(f"{{{NAMESPACE}}}")


def local_name(name: str) -> str:
    """Return a name without its namespace."""
    return name.rpartition("}")[2]
