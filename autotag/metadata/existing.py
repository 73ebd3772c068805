"""Read every keyword that a file already has, in any field."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from autotag.metadata import exif, jpeg_file, png_file, webp_file
from autotag.metadata.budget import Budget, check_text
from autotag.metadata.camera_descriptions import is_from_camera
from autotag.metadata.content_credentials import has_content_credentials
from autotag.metadata.iptc import Iptc, iptc_in_resources, read_iptc
from autotag.metadata.keywords import Keywords, clean, fold
from autotag.metadata.kinds import FileKind, kind_of
from autotag.metadata.xmp import MachineTag, Packet, Refusals, read_packet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ROOTS = (b"x:xmpmeta", b"x:xapmeta", b"rdf:RDF")
_WRAPPER_START = re.compile(rb"<\?xpacket begin=[^>]*\?>\s*\Z")
_WRAPPER_END = re.compile(rb"\s*+<\?xpacket end=[^>]{0,20}\?>")
_LONGEST_WRAPPER = 200
_COST_OF_PACKET = 100  # parts: what a parser costs however small the packet is
_PNG_TEXTS = (b"Description", b"Raw profile type iptc", b"Raw profile type xmp")
_EXIF_BLOCK = re.compile(rb"(?:Exif\0\0|\0\0\0\0)(?=II\*\0|MM\0\*)")


@dataclass(frozen=True, slots=True)
class Existing:
    """The metadata inside a file, without its sidecars.

    Attributes:
        kind: the kind of file, by its content.
        keywords: every keyword, from people and from autotag.
        by_people: every keyword except the ones that autotag added or copied. If a part of the metadata could
            not be read, copies are included, because the originals may be in that part.
        by_people_or_copied: every keyword except the ones that autotag added.
        copied_from: the files that the copies came from, see ``Packet``.
        ids: by which records of copies in other files know this file, besides as the photograph.
        description: a person's description in any field; empty when there is none or it is the machine's.
        machine_tags: autotag's record in the embedded XMP.
        refusals: what autotag wrote and another program removed.
        has_regions_by_people: whether a packet has regions other than unchanged ones of the machine.
        regions_refused: whether another program changed or removed the machine's regions.
        orientation: of the picture, 1 to 8, from EXIF or else XMP; 1 without any.
        iptc: the IPTC records.
        in_exif: the keywords of Windows in EXIF.
        packet: the main embedded XMP packet, or None.
        simple_xmp: whether the embedded XMP is one packet at most, without an extension.
        is_signed: whether the file contains Content Credentials or refers to some.
        damage: why a part of the metadata could not be read, as the end of a sentence; empty if all was read.
    """

    kind: FileKind
    keywords: Keywords = field(default_factory=Keywords)
    by_people: Keywords = field(default_factory=Keywords)
    by_people_or_copied: Keywords = field(default_factory=Keywords)
    copied_from: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    description: str = ""
    machine_tags: tuple[MachineTag, ...] = ()
    refusals: Refusals = field(default_factory=Refusals)
    has_regions_by_people: bool = False
    regions_refused: bool = False
    orientation: int = 1
    iptc: Iptc = field(default_factory=Iptc)
    in_exif: tuple[str, ...] = ()
    packet: bytes | None = None
    simple_xmp: bool = True
    is_signed: bool = False
    damage: str = ""


@dataclass(slots=True)
class _Found:
    """The metadata blocks of a file as they are stored, and the budget left for reading them."""

    budget: Budget = field(default_factory=Budget)
    packets: list[bytes] = field(default_factory=list)
    extended: bytes = b""
    exif: bytes = b""
    iptc: bytes = b""
    description: str = ""
    is_signed: bool = False
    damage: str = ""


def read_existing(content: bytes) -> Existing:
    """Return the metadata of a whole file; skip damaged parts and name them in ``Existing.damage``."""
    kind = kind_of(content)
    found = _Found(is_signed=has_content_credentials(content, kind))
    try:
        _READERS.get(kind, _scan)(content, found)
    except ValueError as error:
        found.damage = str(error)
    tags = _exif_tags(found)
    if kind == "tiff":
        found.packets += [tags[exif.XMP]] if tags.get(exif.XMP) else []
        found.iptc = tags.get(exif.IPTC, b"") or iptc_in_resources(tags.get(exif.PHOTOSHOP, b""))
    return _combined(kind, found, tags)


def _combined(kind: FileKind, found: _Found, tags: dict[int, bytes]) -> Existing:
    packets = list(_readable(found))
    iptc = _iptc(found)
    machine_tags = tuple(tag for packet in packets for tag in packet.machine_tags)
    refusals = Refusals(_taken_out(machine_tags, iptc))
    turned = (packet.orientation for packet in packets)
    others = Keywords.of((*iptc.keywords, *exif.xp_keywords(tags)))
    in_xmp, by_people, with_copies, echoes = Keywords(), Keywords(), Keywords(), set[str]()
    for packet in packets:
        in_xmp |= packet.keywords
        by_people |= packet.by_people
        with_copies |= packet.by_people_or_copied
        refusals |= packet.refusals
        echoes |= packet.echoes()
    return Existing(
        kind=kind,
        keywords=in_xmp | others,
        by_people=(with_copies if found.damage else by_people) | others.without(echoes),
        by_people_or_copied=with_copies | others.without(echoes),
        copied_from=tuple(source for packet in packets for source in packet.copied_from),
        ids=tuple(one for packet in packets for one in packet.ids),
        description=_description(packets, iptc, tags, found),
        machine_tags=machine_tags,
        refusals=refusals,
        has_regions_by_people=any(packet.has_regions_by_people for packet in packets),
        regions_refused=any(packet.regions_refused for packet in packets),
        orientation=next(filter(None, (exif.orientation(found.exif, tags), *turned)), 1),
        iptc=iptc,
        in_exif=tuple(exif.xp_keywords(tags)),
        packet=found.packets[0] if found.packets else None,
        simple_xmp=len(found.packets) <= 1 and not any(packet.extended for packet in packets),
        is_signed=found.is_signed or any(packet.provenance for packet in packets),
        damage=found.damage,
    )


def _taken_out(tags: Sequence[MachineTag], iptc: Iptc) -> tuple[str, ...]:
    """Return the machine tags that another program removed from the IPTC keywords."""
    there = {fold(word) for word in iptc.keywords}
    return tuple(tag.text for tag in tags if tag.in_iptc and there and fold(tag.text) not in there)


def _description(packets: Sequence[Packet], iptc: Iptc, tags: dict[int, bytes], found: _Found) -> str:
    by_machine = {packet.description for packet in packets if not packet.description_by_people}
    candidates = (
        *(packet.description for packet in packets if packet.description_by_people),
        clean(iptc.caption),
        exif.text(tags, exif.IMAGE_DESCRIPTION),
        clean(found.description),
    )
    make, model = exif.text(tags, exif.MAKE), exif.text(tags, exif.MODEL)
    by_people = (text for text in candidates if text and not is_from_camera(text, make=make, model=model))
    return next((text for text in by_people if text not in by_machine), "")


def _readable(found: _Found) -> Iterator[Packet]:
    for packet in (*found.packets, *([found.extended] if found.extended else [])):
        try:
            found.budget.take_parts(_COST_OF_PACKET)
            yield read_packet(packet, found.budget)
        except ValueError as error:
            found.damage = found.damage or f"its XMP cannot be read: {error}"


def _iptc(found: _Found) -> Iptc:
    try:
        return read_iptc(found.iptc, found.budget)
    except ValueError as error:
        found.damage = found.damage or str(error)
        return Iptc()


def _exif_tags(found: _Found) -> dict[int, bytes]:
    if not found.exif:
        return {}
    try:
        return exif.metadata_tags(found.exif, found.budget)
    except ValueError as error:
        found.damage = found.damage or str(error)
        return {}


def _read_jpeg(content: bytes, found: _Found) -> None:
    parts = jpeg_file.segments(content)
    found.packets = jpeg_file.packets_in(parts)
    found.exif = jpeg_file.exif_in(parts)
    found.iptc = iptc_in_resources(jpeg_file.photoshop_in(parts))
    found.extended = jpeg_file.extended_packet(parts, _extended_id(found.packets))


def _extended_id(packets: Sequence[bytes]) -> str:
    """Return the id of the extended XMP that the first packet names; empty when there is none."""
    with suppress(ValueError):  # _readable reports it
        return next((read_packet(packet).extended for packet in packets), "")
    return ""


def _read_png(content: bytes, found: _Found) -> None:
    parts = png_file.chunks(content)
    found.exif = next((part.payload for part in parts if part.kind == b"eXIf"), b"")
    for keyword, text in png_file.plain_texts(parts, _PNG_TEXTS, found.budget):
        if keyword == b"Description":
            check_text(text)
            found.description = text.decode("latin-1")
        elif keyword == b"Raw profile type iptc":
            profile = _raw_profile(text)
            found.iptc = iptc_in_resources(profile) or profile
        else:
            found.packets.append(_raw_profile(text))
    found.packets[:0] = png_file.packets_in(parts, found.budget)


def _raw_profile(text: bytes) -> bytes:
    """Decode a block that ImageMagick stored as text: lines with name, length and hexadecimal digits."""
    digits = b"".join(text.split(b"\n", 3)[3:]).replace(b"\n", b"")
    return bytes.fromhex(digits.decode("latin-1"))


def _read_webp(content: bytes, found: _Found) -> None:
    parts = webp_file.chunks(content)
    found.packets = webp_file.packets_in(parts)
    found.exif = webp_file.exif_in(parts)


def _read_tiff(content: bytes, found: _Found) -> None:
    found.exif = content


def _scan(content: bytes, found: _Found) -> None:
    """Search the file for XMP and EXIF blocks, which every format stores in one piece."""
    found.packets = list(_packets(content, found.budget))
    block = _EXIF_BLOCK.search(content)
    found.exif = content[block.end() :] if block else b""


def _packets(content: bytes, budget: Budget) -> Iterator[bytes]:
    """Yield the XMP packets in a file, each with its wrapper, in time linear in the size of the file."""
    at = {name: content.find(b"<" + name) for name in _ROOTS}
    while any(start >= 0 for start in at.values()):
        budget.take_parts()
        start, name = min((start, name) for name, start in at.items() if start >= 0)
        end = content.find(b"</" + name + b">", start)
        if end < 0:
            at[name] = -1  # no later element has an end tag either
            continue
        begun = _WRAPPER_START.search(content, max(0, start - _LONGEST_WRAPPER), start)
        ended = _WRAPPER_END.match(content, end + len(name) + 3)
        done = ended.end() if ended else end + len(name) + 3
        yield content[begun.start() if begun else start : done]
        at = {name: _next(content, name, start, done) for name, start in at.items()}


def _next(content: bytes, name: bytes, start: int, done: int) -> int:
    """Return where the element begins next, at ``done`` or later; -1 when it does not."""
    return start if start < 0 or start >= done else content.find(b"<" + name, done)


_READERS = {"jpeg": _read_jpeg, "png": _read_png, "webp": _read_webp, "tiff": _read_tiff}
