"""Reduce a TIFF file to its first page, with only the tags that its pixels need.

Photographs and scientific images have private, overlong and damaged tags, about which Pillow warns through
the process-wide ``warnings``, and sometimes endless pages. Decoding needs neither.

Layout: TIFF 6.0 (Adobe, 1992), section 2; BigTIFF as in libtiff.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

_TYPE_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_ORIENTATION = 274
_PLACES = ((273, 279), (324, 325))  # offsets and sizes of strips, and of tiles
_MOST_FILLING = 2**20
_SINGLE_VALUE_TAGS = frozenset(
    (256, 257, 259, 262, 266, 274, 277, 278, 284, 292, 293, 317, 322, 323, 332, 512, 513, 514, 515, 531)
)
_LIST_TAGS = frozenset(
    (258, 273, 279, 320, 324, 325, 333, 338, 339, 347, 519, 520, 521, 529, 530, 532, 34675, 50674)
)


@dataclass(frozen=True, slots=True)
class _Layout:
    """The byte order and field sizes of a classic TIFF or a BigTIFF."""

    order: Literal["<", ">"]
    pointer: Literal["L", "Q"]

    @property
    def pointer_size(self) -> int:
        return 4 if self.pointer == "L" else 8

    @property
    def entry(self) -> struct.Struct:
        """The layout of a directory entry: tag, type, count, value or offset."""
        return struct.Struct(f"{self.order}HH{self.pointer}{self.pointer_size}s")

    @property
    def count(self) -> struct.Struct:
        """The layout of the number of entries of a directory."""
        return struct.Struct(self.order + ("H" if self.pointer == "L" else "Q"))

    def number(self, value: int) -> bytes:
        return struct.pack(self.order + self.pointer, value)


class PixelsCutShortError(ValueError):
    """Pixels of a TIFF are after the end of the file.

    Attributes:
        missing: number of bytes that are missing at the end.
    """

    def __init__(self, missing: int) -> None:
        self.missing = missing
        super().__init__(f"truncated: {missing} bytes are missing at the end")


def first_page(tiff: bytes, *, allow_truncated: bool = False) -> tuple[bytes, int]:
    """Return the file with a directory of its first page only, and that page's orientation, 1 to 8.

    The orientation tag itself is left out, so the pixels are decoded as stored.

    Args:
        tiff: the file's bytes.
        allow_truncated: append zeros, up to a megabyte, for pixels after the end of the file. Without them,
            the appended directory would be read as pixels.

    Raises:
        PixelsCutShortError: pixels are after the end of the file.
        ValueError: the directory is missing or cut short.
    """
    layout = _layout(tiff)
    where = layout.pointer_size  # of the pointer to the first directory: 4, in a BigTIFF 8
    try:
        (start,) = struct.unpack_from(layout.order + layout.pointer, tiff, where)
        entries = _entries(tiff, start, layout)
    except (struct.error, OverflowError) as error:
        raise ValueError("the TIFF directory is cut short") from error
    turned = _orientation(entries.pop(_ORIENTATION, None), layout)
    missing = _end_of_pixels(tiff, entries, layout) - len(tiff)
    if missing > 0 and not allow_truncated:
        raise PixelsCutShortError(missing)
    filling = min(max(missing, 0), _MOST_FILLING)
    padding = bytes(filling + (len(tiff) + filling) % 2)
    directory = [
        layout.count.pack(len(entries)),
        *(entries[tag] for tag in sorted(entries)),
        layout.number(0),
    ]
    pointer = layout.number(len(tiff) + len(padding))
    return b"".join((tiff[:where], pointer, tiff[2 * where :], padding, *directory)), turned


def _end_of_pixels(tiff: bytes, entries: dict[int, bytes], layout: _Layout) -> int:
    """Return the offset of the end of the last strip or tile; 0 without strips and tiles."""
    ends = [0]
    for offsets, sizes in _PLACES:
        if offsets in entries and sizes in entries:
            places = (_whole_numbers(tiff, entries[tag], layout) for tag in (offsets, sizes))
            ends += [offset + size for offset, size in zip(*places, strict=False)]
    return max(ends)


def _whole_numbers(tiff: bytes, entry: bytes, layout: _Layout) -> tuple[int, ...]:
    """Return the whole numbers of a packed directory entry; () for other types."""
    _, kind, count, field = layout.entry.unpack(entry)
    letter = {3: "H", 4: "L", 16: "Q"}.get(kind)
    if letter is None:
        return ()
    numbers = struct.Struct(f"{layout.order}{count}{letter}")
    if numbers.size <= layout.pointer_size:
        return numbers.unpack_from(field)
    (offset,) = struct.unpack(layout.order + layout.pointer, field)
    return numbers.unpack_from(tiff, offset)


def _layout(tiff: bytes) -> _Layout:
    order: Literal["<", ">"] = "<" if tiff[:2] == b"II" else ">"
    return _Layout(order, "Q" if 43 in tiff[2:4] else "L")


def _entries(tiff: bytes, start: int, layout: _Layout) -> dict[int, bytes]:
    """Return tag -> packed entry for the needed tags of a directory; the first entry of a tag counts."""
    (count,) = layout.count.unpack_from(tiff, start)
    first = start + layout.count.size
    if first + count * layout.entry.size > len(tiff):
        raise ValueError("the TIFF directory is cut short")
    entries: dict[int, bytes] = {}
    for position in range(first, first + count * layout.entry.size, layout.entry.size):
        tag, kind, values, field = layout.entry.unpack_from(tiff, position)
        if tag not in entries and (tag in _SINGLE_VALUE_TAGS or tag in _LIST_TAGS):
            entry = _whole_entry(tiff, (tag, kind, values, field), layout)
            if entry is not None:
                entries[tag] = entry
    return entries


def _whole_entry(tiff: bytes, entry: tuple[int, int, int, bytes], layout: _Layout) -> bytes | None:
    """Return the packed entry, cut to one value for single-value tags; None if its data are missing."""
    tag, kind, values, field = entry
    size = values * _TYPE_SIZES.get(kind, 0)
    if size == 0:
        return None
    if size > layout.pointer_size:
        (offset,) = struct.unpack(layout.order + layout.pointer, field)
        if offset + size > len(tiff):
            return None
        if tag in _SINGLE_VALUE_TAGS and _TYPE_SIZES[kind] <= layout.pointer_size:
            field = tiff[offset : offset + _TYPE_SIZES[kind]].ljust(layout.pointer_size, b"\0")
    return layout.entry.pack(tag, kind, 1 if tag in _SINGLE_VALUE_TAGS else values, field)


def _orientation(entry: bytes | None, layout: _Layout) -> int:
    if entry is None:
        return 1
    (value,) = struct.unpack_from(layout.order + "H", layout.entry.unpack(entry)[3])
    return int(value) if 1 <= value <= 8 else 1
