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
- ``CopiedFrom``: the files that the copies came from, by their ids (``autotag.metadata.copies``), and ``.``
  for the file itself. When one of them is gone, copies without an original are the person's keywords;
- ``Id``: the ids by which ``CopiedFrom`` in other files knows this file;
- ``Echoed``: earlier machine tags that another program copied into a field that autotag does not write; they
  are not the person's keywords;
- ``Refused``, ``CopiesRefused``, ``DescriptionRefused``: machine tags, copies and descriptions that another
  program removed; autotag does not add them again;
- ``RegionsAdded``, ``RegionsRefused``: see ``autotag.metadata.regions``.

A keyword that contains the separator of a field is not written there; ``dc:subject`` has every keyword.

Sources: XMP Specification Part 1 (ISO 16684-1) and Part 2 (Adobe, 2016); ``lr:hierarchicalSubject`` as
Lightroom writes it (every prefix), ``digiKam:TagsList`` as digiKam does (whole paths); tables ``Microsoft``
and ``XMP2`` of exiftool for fields of Windows, ACDSee and iView.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from autotag.metadata.budget import Budget
from autotag.metadata.keywords import Keywords, clean, fold
from autotag.metadata.xml_nodes import parse
from autotag.metadata.xmp_fields import FIELDS, KEYWORD_FIELDS, KeywordField, path_in
from autotag.metadata.xmp_packet import MachineTag, Packet, Refusals, undated
from autotag.metadata.xmp_reading import Reading
from autotag.metadata.xmp_writing import Removal, Writing, empty_packet

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from autotag.metadata.keywords import KeywordPath
    from autotag.metadata.regions import Regions

__all__ = [
    "KEYWORD_FIELDS",
    "KeywordField",
    "MachineTag",
    "Packet",
    "Refusals",
    "read_packet",
    "with_machine_tags",
    "without_machine_tags",
]


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
    reading = Reading(parse(packet, budget))
    budget.take_parts(reading.separators())
    return reading.summary()


def with_machine_tags(
    packet: bytes | None,
    tags: Sequence[MachineTag],
    *,
    description: str = "",
    elsewhere: Keywords | None = None,
    sources: Sequence[str] = (),
    keep: Keywords | None = None,
    ids: Sequence[str] = (),
    are_ids_needed: bool = False,
    refusals: Refusals | None = None,
    fields: Sequence[KeywordField] = KEYWORD_FIELDS,
    regions: Regions | None = None,
    keywords: Keywords | None = None,
    refused: Sequence[str] = (),
    description_by_person: bool = False,
    refused_description: str = "",
    echoes: Iterable[str] = (),
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
        sources: ids of the files from which ``elsewhere`` has keywords that this file lacks; they are
            recorded with the copies.
        keep: the copies in the packet that are the person's keywords from now on, because a file that they
            came from is gone.
        ids: by which records of copies in other files know this file.
        are_ids_needed: whether they are recorded even if nothing else is, because a file has copies already.
        refusals: what people removed in other places of the same photograph.
        fields: the fields that tags and copies are written to.
        regions: of the stored picture, in place of the machine's earlier ones; not written if the packet has
            regions of a person, or if another program changed or removed the machine's.
        keywords: a person's, to write without a record; not where ``elsewhere`` or the packet has them.
        refused: machine tags that a person rejected, to record as if another program had removed them.
        description_by_person: whether a person wrote the description; then it has no record.
        refused_description: a description that a person rejected, to record likewise.
        echoes: keywords in fields of the same file outside XMP, to which other programs copy the machine's
            tags; so do fields of the packet that autotag does not write.
        date: ISO 8601, for tags without a date whose values are new.
        sidecar_for: the extension for ``photoshop:SidecarForExtension`` of a new packet.
        wrapped: whether a new packet gets an ``xpacket`` wrapper, as embedded packets need.

    Returns:
        The packet; None when ``packet`` is None and there is nothing to write.

    Raises:
        ValueError: the packet is not XMP, or a keyword field of it is not a list.
    """
    reading = Reading(parse(packet)) if packet is not None else None
    before = reading.summary() if reading is not None else Packet()
    base = Removal(reading, keep=keep or Keywords()).packet() if reading is not None else None
    own_by_people = before.by_people | (keep or Keywords())
    by_people = own_by_people | (elsewhere or Keywords())
    new = not_there(keywords or Keywords(), by_people)
    by_people |= Keywords.of_paths(new)
    adopted = Refusals(_adopted(before.machine_tags, by_people))
    rejected = Refusals(tuple(refused), (), tuple(filter(None, (clean(refused_description),))))
    own = (before.refusals | adopted | rejected).for_keywords(by_people)
    all_refused = own | (refusals or Refusals()).for_keywords(by_people)
    writable = (tag for tag in map(_cleaned, tags) if _can_hold(fields, tag))
    wanted = _new_tags(writable, by_people.leaves() | set(map(fold, all_refused.tags)), before, date)
    written = {fold(tag.text) for tag in wanted}
    held = set(map(fold, echoes)) | (reading.read_only().leaves() if reading is not None else set())
    echoed = [word for word in before.may_be_echoed if fold(word) in held - written]
    if base is None or reading is None:
        begun = Reading(parse(empty_packet(sidecar_for, wrapped=wrapped)))
    else:
        begun = reading if base == packet else Reading(parse(base))
    if new:
        base = Writing(begun, fields).add_keywords(new)
        begun = Reading(parse(base))
    writing = Writing(begun, fields)
    is_refused = bool(all_refused.descriptions) and not description_by_person
    caption = "" if is_refused or writing.is_described else clean(description)
    if before.has_regions_by_people or before.regions_refused:
        regions = None
    writing.add_regions(regions, refused=before.regions_refused)
    if not any((wanted, caption, own, echoed, regions, before.regions_refused)):
        if not are_ids_needed:
            return base
        by_people, all_refused = Keywords(), Refusals()  # only a file with tags gets copies
    if caption:
        writing.add_caption(caption, by_person=description_by_person)
    after = writing.add(wanted, by_people, all_refused, sources=sources, ids=ids, echoed=echoed)
    is_same = reading is not None and reading.state() == Reading(parse(after)).state()
    return packet if is_same else after


def without_machine_tags(packet: bytes, *, keep: Keywords | None = None) -> bytes | None:
    """Return the packet without the machine's tags, copies, records, unchanged description and regions.

    Args:
        packet: the packet.
        keep: copies of people's keywords that stay, because their originals are gone or cannot be read.

    Returns:
        The packet; None when autotag made the packet and nothing else is in it.

    Raises:
        ValueError: it is not XMP.
    """
    return Removal(Reading(parse(packet)), keep=keep or Keywords()).packet()


def _can_hold(fields: Iterable[KeywordField], tag: MachineTag) -> bool:
    """Return whether one of the fields can hold a tag."""
    return any(FIELDS[name].entry(path_in(FIELDS[name], tag)) is not None for name in fields)


def _adopted(tags: Iterable[MachineTag], by_people: Keywords) -> tuple[str, ...]:
    """Return the machine tags that a person adopted; once deleted, they are not added again."""
    theirs = by_people.leaves()
    return tuple(tag.text for tag in tags if fold(tag.text) in theirs)


def not_there(keywords: Keywords, by_people: Keywords) -> list[KeywordPath]:
    """Return the keywords that people did not give before."""
    leaves = by_people.leaves()
    alone = [(word,) for word in keywords.single if fold(word) not in leaves]
    return [*alone, *(path for path in keywords.paths if not by_people.covers(Keywords.of_paths([path])))]


def _new_tags(tags: Iterable[MachineTag], taken: set[str], before: Packet, date: str) -> list[MachineTag]:
    """Return the tags that are not ``taken``, each once, with the dates they had."""
    dates = {undated(tag): tag.date for tag in before.machine_tags}
    kept = []
    for tag in tags:
        if tag.text and fold(tag.text) not in taken:
            taken.add(fold(tag.text))
            kept.append(replace(tag, date=dates.get(undated(tag)) or tag.date or date))
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
