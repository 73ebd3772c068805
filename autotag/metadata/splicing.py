"""Put an XMP packet into a JPEG, PNG or WebP file without changing anything else.

A file that would lose something is left alone; ``objection_to_splicing`` says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from autotag.metadata import jpeg_file, png_file, webp_file
from autotag.metadata.kinds import kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from autotag.metadata.existing import Existing


class _Format(Protocol):
    """The functions that the module of a format provides."""

    def objection(self, content: bytes) -> str | None: ...
    def with_packet(self, content: bytes, packet: bytes | None) -> bytes: ...


_FORMATS: Mapping[str, _Format] = {"jpeg": jpeg_file, "png": png_file, "webp": webp_file}


def objection_to_splicing(content: bytes, existing: Existing) -> str | None:
    """Return why XMP cannot be spliced into this file, as the end of a sentence; None when it can.

    Args:
        content: the whole file.
        existing: the result of ``read_existing`` for the file.
    """
    handler = _FORMATS.get(kind_of(content))
    if handler is None:
        return f"autotag cannot edit {existing.kind.upper() if existing.kind != 'other' else 'such'} files"
    if existing.iptc.keywords:
        return "it has IPTC keywords, which would no longer match the XMP"
    if existing.damage:
        return existing.damage
    try:
        return handler.objection(content)
    except ValueError as error:
        return str(error)


def spliced(content: bytes, packet: bytes | None) -> bytes:
    """Return the file with this XMP packet in place of its own; with None, without a packet.

    Raises:
        ValueError: the packet does not fit, or the file is damaged or of another format.
    """
    handler = _FORMATS.get(kind_of(content))
    if handler is None:
        raise ValueError("only JPEG, PNG and WebP can be spliced")
    return handler.with_packet(content, packet)


def embedded_packet(content: bytes) -> bytes | None:
    """Return the XMP packet in a JPEG, PNG or WebP file; None when it has none.

    Raises:
        ValueError: the file is damaged or of another format.
    """
    kind = kind_of(content)
    if kind == "jpeg":
        found = jpeg_file.packets_in(jpeg_file.segments(content))
    elif kind == "png":
        found = png_file.packets_in(png_file.chunks(content))
    elif kind == "webp":
        found = webp_file.packets_in(webp_file.chunks(content))
    else:
        raise ValueError("only JPEG, PNG and WebP can be spliced")
    return found[0] if found else None
