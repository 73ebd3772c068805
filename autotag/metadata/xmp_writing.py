"""Write machine tags into an XMP packet by byte position, and remove them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from autotag.metadata.keywords import fold, folded_path, same_text, spellings
from autotag.metadata.xmp_fields import (
    COPIED_FROM,
    DESCRIPTION,
    ECHOED,
    FIELDS,
    IDS,
    KEYWORD_FIELDS,
    LI,
    NAMESPACE,
    PHOTOSHOP,
    PREFERRED_PREFIXES,
    RDF,
    REFUSALS,
    SIDECAR_FOR,
    SUBJECT,
    THIS_FILE,
    TOOLKIT,
    WRITTEN,
    path_in,
)
from autotag.metadata.xmp_reading import container_of, is_ours, items_of, local_name, value_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from autotag.metadata.keywords import KeywordPath, Keywords
    from autotag.metadata.regions import Regions
    from autotag.metadata.xml_nodes import Edit, Node
    from autotag.metadata.xmp_fields import Field, KeywordField
    from autotag.metadata.xmp_packet import MachineTag, Refusals
    from autotag.metadata.xmp_reading import Reading


class Removal:
    """Remove what the machine wrote from a packet, except copies of the keywords to keep."""

    def __init__(self, reading: Reading, *, keep: Keywords) -> None:
        self._reading = reading
        self._kept = keep.places()
        self._gone: set[int] = set()  # starts of elements that go

    def packet(self) -> bytes | None:
        """Return the packet without what autotag wrote; None if autotag wrote all of it."""
        reading = self._reading
        for one in WRITTEN:
            copies = reading.ours(f"{one.label}Copied")
            copies = [value for value in copies if folded_path(one.path(value)) not in self._kept]
            self._take(one.name, [*reading.ours(f"{one.label}Added"), *copies])
        self._take(DESCRIPTION, reading.ours("DescriptionAdded"))
        self._gone |= {node.start for node in reading.machine_regions()}
        for block in reading.rdf.children:
            self._gone |= {node.start for node in block.children if is_ours(node.name)}
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
        properties = [name for name in block.attributes if not name.startswith(f"{{{RDF}}}")]
        gone = [node.start in self._gone for node in block.children]
        if gone and all(gone) and not properties:
            self._gone.add(block.start)

    def _nothing_left(self) -> bool:
        left = [
            name
            for block in self._reading.rdf.children
            if block.start not in self._gone
            for name in (
                *(name for name in block.attributes if not name.startswith(f"{{{RDF}}}")),
                *(node.name for node in block.children if node.start not in self._gone),
            )
        ]
        toolkit = self._reading.document.root.attributes.get(TOOLKIT, "")
        return toolkit.startswith("autotag") and set(left) <= {SIDECAR_FOR}

    def _edits(self, node: Node) -> list[Edit]:
        """Return one edit for each element that is removed, with the white space before it."""
        if node.start in self._gone:
            space = self._reading.document.space_before(node)
            return [(node.start - len(space), node.end, b"")]
        return [edit for child in node.children for edit in self._edits(child)]


class Writing:
    """Add tags to a packet that holds nothing of autotag's."""

    def __init__(self, reading: Reading, fields: Sequence[KeywordField]) -> None:
        self._reading = reading
        self._document = reading.document
        self._fields = [FIELDS[name] for name in KEYWORD_FIELDS if name in fields]
        self._edits: list[Edit] = []
        self._properties: list[str] = []  # for the new block
        self._declared: dict[str, str] = {}  # namespace -> prefix, declared on the new block

    @property
    def is_described(self) -> bool:
        """Return whether the packet has a description already."""
        return bool(self._reading.description())

    def add(
        self,
        tags: Sequence[MachineTag],
        by_people: Keywords,
        refused: Refusals,
        *,
        sources: Sequence[str] = (),
        ids: Sequence[str] = (),
        echoed: Sequence[str] = (),
    ) -> bytes:
        """Return the packet with tags, copies of keywords from these sources, and their records."""
        copied = by_people.without(map(fold, refused.copies))
        records: dict[str, Sequence[str]] = {IDS: ids, ECHOED: echoed}
        for one in self._fields:
            entries = _NewEntries(one, self._reading.values(one.name))
            records[f"{one.label}Copied"] = entries.added(entries.to_copy(copied))
            records[f"{one.label}Added"] = entries.added(path_in(one, tag) for tag in tags)
            self._add_values(one, [*records[f"{one.label}Copied"], *records[f"{one.label}Added"]])
        if any(records[f"{one.label}Copied"] for one in self._fields):
            records[COPIED_FROM] = [THIS_FILE, *sources]
        lists = (refused.tags, refused.copies, refused.descriptions)
        self._add_records(tags, {**records, **dict(zip(REFUSALS, lists, strict=True))})
        self._add_block()
        return self._document.edited(self._edits)

    def add_keywords(self, paths: Iterable[KeywordPath]) -> bytes:
        """Return the packet with keywords of a person, each in the field that fits best, without a record.

        A keyword that none of the fields can hold goes to ``dc:subject``, which holds every keyword.
        """
        best: dict[str, list[KeywordPath]] = {}
        for path in paths:
            fields = sorted(self._fields, key=lambda one: bool(one.separator) != (len(path) > 1))
            name = next((one.name for one in fields if one.entry(path) is not None), SUBJECT.name)
            best.setdefault(name, []).append(path)
        for one in (*self._fields, *([] if SUBJECT in self._fields else [SUBJECT])):
            entries = _NewEntries(one, self._reading.values(one.name))
            self._add_values(one, entries.added(best.get(one.name, ())))
        if self._properties:
            self._add_block()
        return self._document.edited(self._edits)

    def _add_values(self, one: Field, values: Sequence[str]) -> None:
        """Append entries to the field, or make the field."""
        if not values:
            return
        nodes = self._reading.all_of(one.name)
        container = next((found for found in map(container_of, nodes) if found), None)
        if container is not None:
            self._append(container, values)
            return
        if self._reading.values(one.name):
            raise ValueError(f"its {local_name(one.name)} is not a list (rdf:Bag, rdf:Seq or rdf:Alt)")
        self._drop(nodes)
        self._properties.append(self._listed(one.name, one.container, [escape(value) for value in values]))

    def _append(self, container: Node, values: Sequence[str]) -> None:
        li = f"{_rdf_prefix(container)}:li"
        entries = [node for node in container.children if node.name == LI]
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

    def add_caption(self, caption: str, *, by_person: bool) -> None:
        """Add a description, and its record unless a person wrote it."""
        self._drop(self._reading.all_of(DESCRIPTION))
        self._properties.append(
            self._listed(DESCRIPTION, "Alt", [escape(caption)], attributes=' xml:lang="x-default"')
        )
        if not by_person:
            self._properties.append(
                self._listed(f"{{{NAMESPACE}}}DescriptionAdded", "Bag", [escape(caption)])
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
        prefix = next(filter(None, elsewhere), PREFERRED_PREFIXES[namespace])
        while prefix in self._reading.rdf.scope:
            prefix += "1"
        self._declared[namespace] = prefix
        return prefix

    def _add_block(self) -> None:
        """Add an ``rdf:Description`` after the others, with the same ``rdf:about``."""
        rdf = self._reading.rdf
        prefix = _rdf_prefix(rdf)
        blocks = rdf.children
        about = next((block.attributes.get(f"{{{RDF}}}about") for block in blocks), None) or ""
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
    prefix = node.prefix_of(RDF)
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

    def __init__(self, one: Field, present: Iterable[str]) -> None:
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


def empty_packet(sidecar_for: str, *, wrapped: bool) -> bytes:
    """Return a packet without properties, or with only the extension that a sidecar is for."""
    named = f' xmlns:photoshop="{PHOTOSHOP}" photoshop:SidecarForExtension={quoteattr(sidecar_for)}'
    block = f'\n <rdf:Description rdf:about=""{named}/>' if sidecar_for else ""
    packet = (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="autotag">\n<rdf:RDF xmlns:rdf="{RDF}">{block}\n'
        "</rdf:RDF>\n</x:xmpmeta>\n"
    )
    if wrapped:
        return (
            f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n{packet}<?xpacket end="w"?>'.encode()
        )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{packet}'.encode()
