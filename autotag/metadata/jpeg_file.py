"""Read JPEG files as a list of segments, and put XMP among them.

Sources: ITU-T T.81, annex B; XMP Specification Part 3 (Adobe, 2016), section 1.1.3; CIPA DC-007
(Multi-Picture Format).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autotag.metadata.budget import check_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
EXTENDED_HEADER = b"http://ns.adobe.com/xmp/extension/\0"
EXIF_HEADER = b"Exif\0"
PHOTOSHOP_HEADER = b"Photoshop 3.0\0"
MPF_HEADER = b"MPF\0"
_ID_LENGTH = 32
_LONGEST = 65533  # bytes of one segment, without its two bytes of length

_APP0, _APP1, _APP2, _APP13 = 0xE0, 0xE1, 0xE2, 0xED
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)  # in the pixels: others are part of them
_PICTURE = re.compile(rb"\xff\xd8\xff[\xc4\xdb\xe0-\xef\xfe]")
_MOST_PICTURES = 100  # places that look like the beginning of one
_LONGEST_START = 2**20  # bytes before the pixels of a preview
_MP_ENTRIES = 0xB002


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of a JPEG file, before the pixels.

    Attributes:
        marker: the second byte, e.g. 0xE1.
        start: offset of its first byte, 0xFF.
        end: offset of the byte after it.
        payload: its contents, without marker and length.
    """

    marker: int
    start: int
    end: int
    payload: bytes

    def holds(self, marker: int, header: bytes) -> bool:
        """Return whether the segment has this marker and its payload starts with this header."""
        return self.marker == marker and self.payload.startswith(header)


def segments(content: bytes) -> list[Segment]:
    """Return the segments before the first scan, in order.

    Raises:
        ValueError: the file is cut short, its segments are damaged, or it has too many for its size.
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
    """Return the main XMP packets; a correct file has one at most."""
    return [part.payload[len(XMP_HEADER) :] for part in parts if part.holds(_APP1, XMP_HEADER)]


def extended_packet(parts: Sequence[Segment], identifier: str) -> bytes:
    """Return the extended XMP with this id, its pieces joined in the order of their offsets."""
    header = EXTENDED_HEADER + identifier.encode()
    pieces = {}
    for part in parts:
        if len(identifier) == _ID_LENGTH and part.holds(_APP1, header):
            body = part.payload[len(header) :]
            pieces[int.from_bytes(body[4:8])] = body[8:]
    return b"".join(piece for _, piece in sorted(pieces.items()))


def exif_in(parts: Sequence[Segment]) -> bytes:
    """Return the first EXIF block, a TIFF file without pixels; empty when there is none."""
    found = (part.payload[6:] for part in parts if part.holds(_APP1, EXIF_HEADER))
    return next(found, b"")


def photoshop_in(parts: Sequence[Segment]) -> bytes:
    """Return the Photoshop image resources, joined over the segments that hold them."""
    return b"".join(
        part.payload[len(PHOTOSHOP_HEADER) :] for part in parts if part.holds(_APP13, PHOTOSHOP_HEADER)
    )


def objection(content: bytes) -> str | None:
    """Return why XMP cannot be put into the file without other changes; None when it can.

    Raises:
        ValueError: the file is damaged.
    """
    parts = segments(content)
    xmp = [part for part in parts if part.holds(_APP1, XMP_HEADER)]
    if len(xmp) > 1:
        return "it has two XMP packets"
    if any(part.holds(_APP1, EXTENDED_HEADER) for part in parts):
        return "it has extended XMP"
    index = multi_picture_index(parts)
    if index is None:
        is_alone = not _has_picture_behind(content, parts)
        return None if is_alone else "a preview follows it, whose position may be stored in a maker note"
    if _place(parts)[0] > index.start:
        return "its XMP follows its picture index, so writing would make the positions in the index wrong"
    _first_size_place(index)
    return None


def multi_picture_index(parts: Sequence[Segment]) -> Segment | None:
    """Return the Multi-Picture Format index, which says where further pictures are; None without one."""
    return next((part for part in parts if part.holds(_APP2, MPF_HEADER)), None)


def _has_picture_behind(content: bytes, parts: Sequence[Segment]) -> bool:
    """Return whether another JPEG follows the end of this one, at once or after other bytes."""
    candidates = _PICTURE.finditer(content, _end_of_image(content, parts))
    for number, match in enumerate(candidates):
        try:
            segments(content[match.start() : match.start() + _LONGEST_START])
        except ValueError:
            if number < _MOST_PICTURES:
                continue
        return True
    return False


def _end_of_image(content: bytes, parts: Sequence[Segment]) -> int:
    """Return the offset after the end marker of the first picture; the file's length without a marker."""
    position = parts[-1].end if parts else 2
    count = 0
    while (match := _MARKER.search(content, position)) is not None:
        if match[1][0] == _END_OF_IMAGE:
            return match.end()
        position = match.end() + max(2, int.from_bytes(content[match.end() : match.end() + 2]))
        count += 1
        check_blocks(count, len(content))
    return len(content)


def with_packet(content: bytes, packet: bytes | None) -> bytes:
    """Return the file with this XMP packet in place of its own.

    Every other byte stays, except the size of the first picture in a Multi-Picture Format index.

    Args:
        content: the whole file.
        packet: the new packet; None removes the packet.

    Raises:
        ValueError: the packet does not fit into one segment, or the file is damaged.
    """
    parts = segments(content)
    start, end = _place(parts)
    new = _segment(packet)
    grown = len(new) - (end - start)
    index = multi_picture_index(parts)
    rest = content[end:] if index is None else _with_first_size(content, index, grown)[end:]
    return content[:start] + new + rest


def with_new_first_size(after: bytes, before: bytes) -> bytes:
    """Return a JPEG that another program rewrote, with the new size of its first picture in the index.

    Args:
        after: the file as the program wrote it; unchanged without an index, or where the program saw to it.
        before: the file as it was.

    Raises:
        ValueError: a file is damaged.
    """
    parts, old_parts = segments(after), segments(before)
    index, old_index = multi_picture_index(parts), multi_picture_index(old_parts)
    if index is None or old_index is None or _first_size(after, index) != _first_size(before, old_index):
        return after
    grown = _end_of_image(after, parts) - _end_of_image(before, old_parts)
    return _with_first_size(after, index, grown)


def _first_size(content: bytes, index: Segment) -> int:
    place, order = _first_size_place(index)
    (size,) = struct.unpack_from(order + "L", content, place)
    return int(size)


def _with_first_size(content: bytes, index: Segment, grown: int) -> bytes:
    """Return the file with the new size of its first picture in the index."""
    place, order = _first_size_place(index)
    size = _first_size(content, index)
    size = size + grown if size else 0
    return content[:place] + struct.pack(order + "L", size) + content[place + 4 :]


def _first_size_place(index: Segment) -> tuple[int, str]:
    """Return the offset of the first picture's size in the file, and the byte order.

    Raises:
        ValueError: the index is damaged.
    """
    tiff = index.payload[len(MPF_HEADER) :]
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(order + "L", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        entries = (
            struct.unpack_from(order + "HHLL", tiff, start + 2 + 12 * number) for number in range(count)
        )
        first = next(offset for tag, _, _, offset in entries if tag == _MP_ENTRIES)
        struct.unpack_from(order + "LLLHH", tiff, first)
    except (struct.error, StopIteration) as error:
        raise ValueError("its picture index (MPF) is damaged") from error
    return index.end - len(tiff) + first + 4, order


def _segment(packet: bytes | None) -> bytes:
    if packet is None:
        return b""
    payload = XMP_HEADER + packet
    if len(payload) > _LONGEST:
        raise ValueError(f"its XMP would be larger than one JPEG segment ({_LONGEST:,} bytes)")
    return b"\xff\xe1" + (len(payload) + 2).to_bytes(2) + payload


def _place(parts: Sequence[Segment]) -> tuple[int, int]:
    """Return start and end of the XMP segment; without one, the place after JFIF and EXIF for it."""
    place = 2
    leading = True
    for part in parts:
        if part.holds(_APP1, XMP_HEADER):
            return part.start, part.end
        leading = leading and (part.marker == _APP0 or part.holds(_APP1, EXIF_HEADER))
        if leading:
            place = part.end
    return place, place
