"""Read PNG files as a list of chunks, and put XMP among them.

Sources: PNG Specification, third edition (W3C, 2025), sections 5 and 11.3.3; XMP Specification Part 3, 1.1.5.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autotag.metadata.budget import Budget, check_blocks

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

XMP_KEYWORD = b"XML:com.adobe.xmp"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk: its type, its offsets (length and checksum included), and its contents."""

    kind: bytes
    start: int
    end: int
    payload: bytes


def chunks(content: bytes) -> list[Chunk]:
    """Return the chunks up to IEND, in order.

    Raises:
        ValueError: the file is cut short, or has too many chunks for its size.
    """
    found: list[Chunk] = []
    position = 8
    while position + 12 <= len(content):
        size = int.from_bytes(content[position : position + 4])
        kind = content[position + 4 : position + 8]
        end = position + 12 + size
        if end > len(content):
            break
        payload = b"" if kind == b"IDAT" else content[position + 8 : end - 4]
        check_blocks(len(found), len(content))
        found.append(Chunk(kind, position, end, payload))
        if kind == b"IEND":
            return found
        position = end
    raise ValueError("it is cut short")


def packets_in(parts: Sequence[Chunk], budget: Budget | None = None) -> list[bytes]:
    """Return the XMP packets; a correct file has one at most.

    Raises:
        ValueError: a compressed packet is damaged, or over the budget (a new one by default).
    """
    budget = budget or Budget()
    return [_international_text(part.payload, budget) for part in parts if _is_xmp(part)]


def _is_xmp(part: Chunk) -> bool:
    return part.kind == b"iTXt" and part.payload.startswith(XMP_KEYWORD + b"\0")


def _international_text(payload: bytes, budget: Budget) -> bytes:
    """Return the text (UTF-8) of an iTXt chunk, after keyword, flags, language and translated keyword."""
    _, _, rest = payload.partition(b"\0")
    _, _, text = rest[2:].partition(b"\0")
    _, _, text = text.partition(b"\0")
    return budget.inflated(text) if rest[:1] == b"\1" else text


def plain_texts(
    parts: Sequence[Chunk], keywords: Collection[bytes], budget: Budget
) -> Iterator[tuple[bytes, bytes]]:
    """Yield keyword and text (Latin-1) of every tEXt and zTXt chunk with one of these keywords.

    Raises:
        ValueError: a compressed one is damaged, or over the budget.
    """
    for part in parts:
        keyword, _, text = part.payload.partition(b"\0")
        if keyword in keywords and part.kind == b"tEXt":
            budget.take_bytes(len(text))
            yield keyword, text
        elif keyword in keywords and part.kind == b"zTXt":
            yield keyword, budget.inflated(text[1:])


def objection(content: bytes) -> str | None:
    """Return why XMP cannot be put into the file without other changes; None when it can.

    Raises:
        ValueError: the file is damaged.
    """
    parts = chunks(content)
    if len(packets_in(parts)) > 1:
        return "it has two XMP packets"
    if any(
        part.kind in (b"tEXt", b"zTXt") and part.payload.startswith(b"Raw profile type") for part in parts
    ):
        return "its metadata is in raw profiles, as ImageMagick writes them"
    if not any(part.kind == b"IDAT" for part in parts):
        return "it has no pixels"
    return None


def with_packet(content: bytes, packet: bytes | None) -> bytes:
    """Return the file with this XMP packet in place of its own; every other byte stays.

    Args:
        content: the whole file.
        packet: the new packet; None removes the packet.

    Raises:
        ValueError: the file is damaged.
    """
    start, end = _place(chunks(content))
    return content[:start] + _chunk(packet) + content[end:]


def _chunk(packet: bytes | None) -> bytes:
    """Return an iTXt chunk, not compressed, as XMP requires."""
    if packet is None:
        return b""
    body = b"iTXt" + XMP_KEYWORD + b"\0\0\0\0\0" + packet
    return (len(body) - 4).to_bytes(4) + body + zlib.crc32(body).to_bytes(4)


def _place(parts: Sequence[Chunk]) -> tuple[int, int]:
    """Return start and end of the XMP chunk; without one, the place before the pixels for it."""
    for part in parts:
        if _is_xmp(part):
            return part.start, part.end
    start = next(part.start for part in parts if part.kind == b"IDAT")
    return start, start
