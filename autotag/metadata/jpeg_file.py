"""JPEG files as a list of segments, and where XMP goes among them.

Sources: ITU-T T.81, annex B; XMP Specification Part 3 (Adobe, 2016), section 1.1.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from autotag.metadata.budget import check_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
EXTENDED_HEADER = b"http://ns.adobe.com/xmp/extension/\0"
EXIF_HEADER = b"Exif\0"
PHOTOSHOP_HEADER = b"Photoshop 3.0\0"
_MPF_HEADER = b"MPF\0"
_ID_LENGTH = 32
_LONGEST = 65533  # bytes of one segment, without its two bytes of length

_APP0, _APP1, _APP2, _APP13 = 0xE0, 0xE1, 0xE2, 0xED
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))
_PREVIEW_AFTER_END = b"\xff\xd9\xff\xd8\xff"


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment before the pixels.

    Attributes:
        marker: its second byte, e.g. 0xE1.
        start: offset of its 0xFF.
        end: offset of what follows.
        payload: its contents, without marker and length.
    """

    marker: int
    start: int
    end: int
    payload: bytes

    def holds(self, marker: int, header: bytes) -> bool:
        return self.marker == marker and self.payload.startswith(header)


def segments(content: bytes) -> list[Segment]:
    """The segments before the first scan, in order.

    Raises:
        ValueError: the file is cut short or damaged there, or has far too many.
    """
    found: list[Segment] = []
    position = 2
    while True:
        start = position
        if content[position : position + 1] != b"\xff":
            raise ValueError("its JPEG segments are damaged")
        while content[position : position + 1] == b"\xff":
            position += 1
        if position >= len(content):
            raise ValueError("it is cut short")
        marker = content[position]
        if marker in (_START_OF_SCAN, _END_OF_IMAGE):
            return found
        position += 1
        if marker in _WITHOUT_LENGTH:
            continue
        size = int.from_bytes(content[position : position + 2])
        if size < 2 or position + size > len(content):
            raise ValueError("its JPEG segments are damaged")
        check_blocks(len(found), len(content))
        found.append(Segment(marker, start, position + size, content[position + 2 : position + size]))
        position += size


def packets_in(parts: Sequence[Segment]) -> list[bytes]:
    """The main XMP packets; rightly there is one at most."""
    return [part.payload[len(XMP_HEADER) :] for part in parts if part.holds(_APP1, XMP_HEADER)]


def extended_packet(parts: Sequence[Segment], identifier: str) -> bytes:
    """The extended XMP with this id, put together in the order of its offsets."""
    header = EXTENDED_HEADER + identifier.encode()
    pieces = {}
    for part in parts:
        if len(identifier) == _ID_LENGTH and part.holds(_APP1, header):
            body = part.payload[len(header) :]
            pieces[int.from_bytes(body[4:8])] = body[8:]
    return b"".join(piece for _, piece in sorted(pieces.items()))


def exif_in(parts: Sequence[Segment]) -> bytes:
    """The first EXIF block, a TIFF file without pixels; empty when there is none."""
    found = (part.payload[6:] for part in parts if part.holds(_APP1, EXIF_HEADER))
    return next(found, b"")


def photoshop_in(parts: Sequence[Segment]) -> bytes:
    """The Photoshop image resources, which may be spread over several segments."""
    return b"".join(
        part.payload[len(PHOTOSHOP_HEADER) :] for part in parts if part.holds(_APP13, PHOTOSHOP_HEADER)
    )


def objection(content: bytes) -> str | None:
    """Why XMP cannot be put into this file without touching more, in words; None when it can."""
    parts = segments(content)
    xmp = [part for part in parts if part.holds(_APP1, XMP_HEADER)]
    if len(xmp) > 1:
        return "it has two XMP packets"
    if any(part.holds(_APP1, EXTENDED_HEADER) for part in parts):
        return "it has extended XMP"
    index = next((part for part in parts if part.holds(_APP2, _MPF_HEADER)), None)
    if index is not None and _place(parts)[0] > index.start:
        return "its XMP comes after the index of its pictures, whose positions would no longer hold"
    if index is None and _PREVIEW_AFTER_END in content:
        return "a preview picture follows it whose position a maker note may hold"
    return None


def with_packet(content: bytes, packet: bytes | None) -> bytes:
    """The file with this XMP packet in place of the one it has, or without; no other byte differs.

    Raises:
        ValueError: the packet does not fit into one segment, or the file is damaged.
    """
    start, end = _place(segments(content))
    return content[:start] + _segment(packet) + content[end:]


def _segment(packet: bytes | None) -> bytes:
    if packet is None:
        return b""
    payload = XMP_HEADER + packet
    if len(payload) > _LONGEST:
        raise ValueError("its XMP would not fit into one segment")
    return b"\xff\xe1" + (len(payload) + 2).to_bytes(2) + payload


def _place(parts: Sequence[Segment]) -> tuple[int, int]:
    """Where the XMP segment is, or would be: after JFIF and EXIF, which have to come first."""
    place = 2
    leading = True
    for part in parts:
        if part.holds(_APP1, XMP_HEADER):
            return part.start, part.end
        leading = leading and (part.marker == _APP0 or part.holds(_APP1, EXIF_HEADER))
        if leading:
            place = part.end
    return place, place
