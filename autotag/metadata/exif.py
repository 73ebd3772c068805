"""Read the EXIF and TIFF tags that hold keywords, descriptions, or whole blocks of other metadata.

Sources: TIFF 6.0 (Adobe, 1992), section 2; BigTIFF as in libtiff; XMP Specification Part 3, 1.1.6 (tag 700).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from autotag.metadata.budget import Budget, check_text
from autotag.metadata.keywords import clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAKE, MODEL, ORIENTATION = 0x010F, 0x0110, 0x0112
IMAGE_DESCRIPTION, XMP, IPTC, PHOTOSHOP, XP_KEYWORDS = 0x010E, 700, 0x83BB, 0x8649, 0x9C9E
_WANTED = frozenset((MAKE, MODEL, ORIENTATION, IMAGE_DESCRIPTION, XMP, IPTC, PHOTOSHOP, XP_KEYWORDS))
_TEXTS = frozenset((MAKE, MODEL, IMAGE_DESCRIPTION, XP_KEYWORDS))
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 9: 4, 13: 4, 16: 8}


def metadata_tags(tiff: bytes, budget: Budget | None = None) -> dict[int, bytes]:
    """Return tag -> raw value for the metadata tags of the first directory.

    Raises:
        ValueError: the directory is cut short, or the values are over the budget (a new one by default).
    """
    budget = budget or Budget()
    found: dict[int, bytes] = {}
    for tag, start, size in _entries(tiff):
        if tag in _WANTED and tag not in found:
            found[tag] = tiff[start : start + size]
            budget.take_bytes(len(found[tag]))
            if tag in _TEXTS:
                check_text(found[tag])
            budget.take_parts(found[tag].count(b";"))
    return found


def has_tag(tiff: bytes, number: int) -> bool:
    """Return whether the first directory has a tag.

    Raises:
        ValueError: the directory is cut short.
    """
    return any(tag == number for tag, _, _ in _entries(tiff))


def _entries(tiff: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield tag, offset and size in bytes of each value in the first directory."""
    order = "<" if tiff[:2] == b"II" else ">"
    large = 43 in tiff[2:4]
    pointer, entry = ("Q", struct.Struct(f"{order}HHQ8s")) if large else ("L", struct.Struct(f"{order}HHL4s"))
    counter = struct.Struct(order + ("Q" if large else "H"))
    try:
        (start,) = struct.unpack_from(order + pointer, tiff, 8 if large else 4)
        (count,) = counter.unpack_from(tiff, start)
        for number in range(min(count, 65535)):
            place = start + counter.size + number * entry.size
            tag, kind, values, field = entry.unpack_from(tiff, place)
            size = values * _SIZES.get(kind, 0)
            is_inside = size <= len(field)
            where = place + entry.size - len(field)
            yield tag, where if is_inside else struct.unpack(order + pointer, field)[0], size
    except (struct.error, OverflowError) as error:
        raise ValueError("its TIFF directory is cut short") from error


def orientation(tiff: bytes, tags: Mapping[int, bytes]) -> int:
    """Return the orientation, 1 to 8; 0 without one."""
    value = int.from_bytes(tags.get(ORIENTATION, b"")[:2], "little" if tiff[:2] == b"II" else "big")
    return value if value <= 8 else 0


def xp_keywords(tags: Mapping[int, bytes]) -> list[str]:
    """Return the keywords of Windows (XPKeywords): UTF-16, separated by semicolons."""
    return tags.get(XP_KEYWORDS, b"").decode("utf-16-le", "replace").partition("\0")[0].split(";")


def text(tags: Mapping[int, bytes], number: int) -> str:
    """Return the text of a tag, on one line; empty when the tag is missing."""
    value = tags.get(number, b"").partition(b"\0")[0]
    try:
        return clean(value.decode())
    except UnicodeDecodeError:
        return clean(value.decode("latin-1"))
