"""Read WebP files as a list of chunks, and put XMP among them.

Source: WebP Container Specification (RFC 9649), section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from autotag.metadata.budget import check_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

_XMP_FLAG, _ALPHA_FLAG = 0x04, 0x10
_LARGEST = 2**32 - 10


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk: its type, its offsets (header and padding included), and its contents."""

    kind: bytes
    start: int
    end: int
    payload: bytes


def chunks(content: bytes) -> list[Chunk]:
    """Return the chunks of the RIFF container, in order.

    Raises:
        ValueError: the file is cut short or damaged, or has too many chunks for its size.
    """
    container_end = 8 + int.from_bytes(content[4:8], "little")
    if container_end > len(content):
        raise ValueError("it is cut short")
    found: list[Chunk] = []
    position = 12
    while position < container_end:
        size = int.from_bytes(content[position + 4 : position + 8], "little")
        end = position + 8 + size + size % 2
        if position + 8 > container_end or end > container_end:
            raise ValueError("its WebP chunks are damaged")
        kind = content[position : position + 4]
        check_blocks(len(found), len(content))
        found.append(Chunk(kind, position, end, content[position + 8 : position + 8 + size]))
        position = end
    return found


def packets_in(parts: Sequence[Chunk]) -> list[bytes]:
    """Return the XMP packets; a correct file has one at most."""
    return [part.payload for part in parts if part.kind == b"XMP "]


def exif_in(parts: Sequence[Chunk]) -> bytes:
    """Return the EXIF block, a TIFF file without pixels; empty when there is none."""
    found = next((part.payload for part in parts if part.kind == b"EXIF"), b"")
    return found.removeprefix(b"Exif\0\0")


def objection(content: bytes) -> str | None:
    """Return why XMP cannot be put into the file without other changes; None when it can.

    Raises:
        ValueError: the file is damaged.
    """
    parts = chunks(content)
    if len(packets_in(parts)) > 1:
        return "it has two XMP packets"
    if not parts or parts[0].kind not in (b"VP8X", b"VP8 ", b"VP8L"):
        return "its WebP chunks are damaged"
    return None


def with_packet(content: bytes, packet: bytes | None) -> bytes:
    """Return the file with this XMP packet in place of its own.

    Every other byte stays, except the size of the container and the XMP flag of the extended header. A file
    without an extended header gets one, which repeats size and transparency.

    Args:
        content: the whole file.
        packet: the new packet; None removes the packet.

    Raises:
        ValueError: the file is damaged, or would be larger than 4 GiB.
    """
    parts = chunks(content)
    old = next((part for part in parts if part.kind == b"XMP "), None)
    container_end = 8 + int.from_bytes(content[4:8], "little")
    start, end = (old.start, old.end) if old else (container_end, container_end)
    header_end, header = _header(parts, with_xmp=packet is not None)
    body = content[header_end:start] + _chunk(packet) + content[end:container_end]
    size = 4 + len(header) + len(body)
    if size > _LARGEST:
        raise ValueError("it would be larger than the 4 GiB that WebP allows")
    riff = b"RIFF" + size.to_bytes(4, "little") + b"WEBP"
    return riff + header + body + content[container_end:]


def _header(parts: Sequence[Chunk], *, with_xmp: bool) -> tuple[int, bytes]:
    """Return where the extended header ends, and the header to write."""
    first = parts[0]
    if first.kind == b"VP8X":
        if len(first.payload) < 10:
            raise ValueError("its WebP chunks are damaged")
        flags = first.payload[0] & ~_XMP_FLAG | (_XMP_FLAG if with_xmp else 0)
        return first.end, _packed(b"VP8X", bytes([flags]) + first.payload[1:])
    if not with_xmp:
        return first.start, b""
    width, height, alpha = _canvas(first)
    flags = _XMP_FLAG | (_ALPHA_FLAG if alpha else 0)
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return first.start, _packed(b"VP8X", bytes([flags, 0, 0, 0]) + sides)


def _canvas(picture: Chunk) -> tuple[int, int, bool]:
    """Return width and height in pixels, and transparency or not (RFC 6386, 9.1; RFC 9649, 3.4)."""
    bits = picture.payload
    if picture.kind == b"VP8L" and bits[:1] == b"\x2f" and len(bits) >= 5:
        word = int.from_bytes(bits[1:5], "little")
        return (word & 0x3FFF) + 1, (word >> 14 & 0x3FFF) + 1, bool(word >> 28 & 1)
    if picture.kind == b"VP8 " and bits[3:6] == b"\x9d\x01\x2a" and len(bits) >= 10:
        width, height = (int.from_bytes(bits[at : at + 2], "little") & 0x3FFF for at in (6, 8))
        return width, height, False
    raise ValueError("its WebP chunks are damaged")


def _chunk(packet: bytes | None) -> bytes:
    return b"" if packet is None else _packed(b"XMP ", packet)


def _packed(kind: bytes, payload: bytes) -> bytes:
    return kind + len(payload).to_bytes(4, "little") + payload + bytes(len(payload) % 2)
