"""Read IPTC keywords and captions in Photoshop image resources.

Sources: IPTC-IIM 4.2, sections 1.5 to 2; Adobe Photoshop File Formats, "Image Resource Blocks".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from autotag.metadata.budget import Budget, check_text

if TYPE_CHECKING:
    from collections.abc import Iterator

_IPTC_RESOURCE = 0x0404
_SIGNATURES = (b"8BIM", b"PHUT", b"AgHg", b"DCSR", b"MeSa")
_CHARACTER_SET, _KEYWORD, _CAPTION = (1, 90), (2, 25), (2, 120)
_UTF8 = b"\x1b%G"
LONGEST_KEYWORD = 64  # bytes


@dataclass(frozen=True, slots=True)
class Iptc:
    """The keywords and the caption in IIM records.

    Attributes:
        keywords: in order.
        caption: empty when there is none.
        says_utf8: whether record 1:90 (coded character set) names UTF-8.
        is_utf8: whether the keywords and captions are valid UTF-8, whatever 1:90 says.
    """

    keywords: tuple[str, ...] = ()
    caption: str = ""
    says_utf8: bool = False
    is_utf8: bool = True


def read_iptc(records: bytes, budget: Budget | None = None) -> Iptc:
    """Read IIM records. Without 1:90, decode text as UTF-8 where valid, else as Windows Latin-1.

    Raises:
        ValueError: the records are over the budget (a new one by default).
    """
    budget = budget or Budget()
    budget.take_bytes(len(records))
    found = list(_datasets(records, budget))
    utf8 = any(where == _CHARACTER_SET and value == _UTF8 for where, value in found)
    captions = [_text(value) for where, value in found if where == _CAPTION]
    return Iptc(
        keywords=tuple(_text(value) for where, value in found if where == _KEYWORD),
        caption=next(iter(captions), ""),
        says_utf8=utf8,
        is_utf8=all(_is_utf8(value) for where, value in found if where in (_KEYWORD, _CAPTION)),
    )


def iptc_in_resources(resources: bytes) -> bytes:
    """Return the IIM records in Photoshop image resources; empty when there are none."""
    position = 0
    while resources[position : position + 4] in _SIGNATURES:
        identifier = int.from_bytes(resources[position + 4 : position + 6])
        name = 1 + resources[position + 6] if position + 6 < len(resources) else 0
        sized = position + 6 + name + name % 2
        size = int.from_bytes(resources[sized : sized + 4])
        if identifier == _IPTC_RESOURCE:
            return resources[sized + 4 : sized + 4 + size]
        position = sized + 4 + size + size % 2
    return b""


def _datasets(records: bytes, budget: Budget) -> Iterator[tuple[tuple[int, int], bytes]]:
    """Yield ((record, number), value) of each data set; stop where the records are damaged."""
    position = 0
    while position + 5 <= len(records) and records[position] == 0x1C:
        budget.take_parts()
        where = (records[position + 1], records[position + 2])
        size = int.from_bytes(records[position + 3 : position + 5])
        position += 5
        if size & 0x8000:
            digits = size & 0x7FFF
            size = int.from_bytes(records[position : position + digits])
            position += digits
        if position + size > len(records):
            return
        value = records[position : position + size]
        if where in (_KEYWORD, _CAPTION):
            check_text(value)
        yield where, value
        position += size


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _text(value: bytes) -> str:
    """Decode as UTF-8 if that is valid, whatever 1:90 says; else as Windows Latin-1."""
    for encoding in ("utf-8", "cp1252"):
        try:
            return value.rstrip(b"\0").decode(encoding)
        except UnicodeDecodeError:
            continue
    return value.decode("latin-1")
