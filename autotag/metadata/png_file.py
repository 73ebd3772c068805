"""PNG files as a list of chunks, and where XMP goes among them.

Sources: PNG Specification, third edition (W3C, 2025), sections 5 and 11.3.3; XMP Specification Part 3, 1.1.5.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

XMP_KEYWORD = b"XML:com.adobe.xmp"
_LONGEST_TEXT = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk: its type, where it stands with length and checksum, and what is in it."""

    kind: bytes
    start: int
    end: int
    payload: bytes


def chunks(content: bytes) -> list[Chunk]:
    """The chunks up to IEND, in order.

    Raises:
        ValueError: the file is cut short.
    """
    found = []
    position = 8
    while position + 12 <= len(content):
        size = int.from_bytes(content[position : position + 4])
        kind = content[position + 4 : position + 8]
        end = position + 12 + size
        if end > len(content):
            break
        payload = b"" if kind == b"IDAT" else content[position + 8 : end - 4]
        found.append(Chunk(kind, position, end, payload))
        if kind == b"IEND":
            return found
        position = end
    raise ValueError("it is cut short")


def packets_in(parts: Sequence[Chunk]) -> list[bytes]:
    """The XMP packets; rightly there is one at most."""
    return [text for keyword, text in international_texts(parts) if keyword == XMP_KEYWORD]


def international_texts(parts: Sequence[Chunk]) -> Iterator[tuple[bytes, bytes]]:
    """Keyword and text (UTF-8) of every iTXt chunk.

    Raises:
        ValueError: a compressed one is damaged.
    """
    for part in parts:
        if part.kind == b"iTXt":
            keyword, _, rest = part.payload.partition(b"\0")
            _, _, text = rest[2:].partition(b"\0")
            _, _, text = text.partition(b"\0")
            yield keyword, inflated(text) if rest[:1] == b"\1" else text


def plain_texts(parts: Sequence[Chunk]) -> Iterator[tuple[bytes, bytes]]:
    """Keyword and text (Latin-1) of every tEXt and zTXt chunk.

    Raises:
        ValueError: a compressed one is damaged.
    """
    for part in parts:
        keyword, _, text = part.payload.partition(b"\0")
        if part.kind == b"tEXt":
            yield keyword, text
        elif part.kind == b"zTXt":
            yield keyword, inflated(text[1:])


def inflated(deflated: bytes) -> bytes:
    """Up to 64 MiB of it.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return zlib.decompressobj().decompress(deflated, _LONGEST_TEXT)
    except zlib.error as error:
        raise ValueError(f"a compressed text in it is damaged: {error}") from error


def objection(content: bytes) -> str | None:
    """Why XMP cannot be put into this file without touching more, in words; None when it can."""
    parts = chunks(content)
    if len(packets_in(parts)) > 1:
        return "it has two XMP packets"
    if any(keyword.startswith(b"Raw profile type") for keyword, _ in plain_texts(parts)):
        return "it keeps metadata in raw profiles, as ImageMagick writes them"
    if not any(part.kind == b"IDAT" for part in parts):
        return "it has no pixels"
    return None


def with_packet(content: bytes, packet: bytes | None) -> bytes:
    """The file with this XMP packet in place of the one it has, or without; no other byte differs."""
    start, end = _place(chunks(content))
    return content[:start] + _chunk(packet) + content[end:]


def _chunk(packet: bytes | None) -> bytes:
    """An iTXt chunk, not compressed, as XMP has to be."""
    if packet is None:
        return b""
    body = b"iTXt" + XMP_KEYWORD + b"\0\0\0\0\0" + packet
    return (len(body) - 4).to_bytes(4) + body + zlib.crc32(body).to_bytes(4)


def _place(parts: Sequence[Chunk]) -> tuple[int, int]:
    """Where the XMP chunk is, or would be: before the pixels."""
    for part in parts:
        if part.kind == b"iTXt" and part.payload.partition(b"\0")[0] == XMP_KEYWORD:
            return part.start, part.end
    start = next(part.start for part in parts if part.kind == b"IDAT")
    return start, start
