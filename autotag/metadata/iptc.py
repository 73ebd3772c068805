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
_APPLICATION_RECORD = 2
_NOT_TEXT = frozenset((0, 125, 200, 201, 202))  # of record 2: version, bitmap of a caption, previews
_BY_WRITERS = frozenset(((1, 0), _CHARACTER_SET, (2, 0)))  # versions and character set, no texts of people
LONGEST_KEYWORD = 64  # bytes


@dataclass(frozen=True, slots=True)
class Iptc:
    """The keywords and the caption in IIM records.

    Attributes:
        keywords: in order.
        caption: empty when there is none.
        says_utf8: whether record 1:90 (coded character set) names UTF-8.
        is_utf8: whether all texts of record 2 are valid UTF-8, whatever 1:90 says.
        is_unclear: whether the character set of the texts is not known: 1:90 names another one than UTF-8, or
            some texts are UTF-8 and others are not.
        records: the IIM records as they are stored.
    """

    keywords: tuple[str, ...] = ()
    caption: str = ""
    says_utf8: bool = False
    is_utf8: bool = True
    is_unclear: bool = False
    records: bytes = b""

    def others(self) -> dict[tuple[int, int], list[str | bytes]]:
        """Return the values of all data sets, texts decoded, except keywords, versions and character set.

        Raises:
            ValueError: the records are damaged, or over a new budget.
        """
        rows = list(_datasets(self.records, Budget()))
        if self.records[rows[-1][2] if rows else 0 :].strip(b"\0"):
            raise ValueError("its IPTC records are damaged")
        found: dict[tuple[int, int], list[str | bytes]] = {}
        for where, value, _ in rows:
            if where != _KEYWORD and where not in _BY_WRITERS:
                found.setdefault(where, []).append(_text(value) if _is_text(where) else value)
        return found


def read_iptc(records: bytes, budget: Budget | None = None) -> Iptc:
    """Read IIM records. Without 1:90, decode text as UTF-8 where valid, else as Windows Latin-1.

    Raises:
        ValueError: the records are over the budget (a new one by default).
    """
    budget = budget or Budget()
    budget.take_bytes(len(records))
    found = [(where, value) for where, value, _ in _datasets(records, budget)]
    named = {value for where, value in found if where == _CHARACTER_SET}
    captions = [_text(value) for where, value in found if where == _CAPTION]
    accented = [_is_utf8(value) for where, value in found if _is_text(where) and not value.isascii()]
    return Iptc(
        keywords=tuple(_text(value) for where, value in found if where == _KEYWORD),
        caption=next(iter(captions), ""),
        says_utf8=_UTF8 in named,
        is_utf8=all(accented),
        is_unclear=len(set(accented)) > 1 or bool(accented and named - {_UTF8}),
        records=records,
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


def _datasets(records: bytes, budget: Budget) -> Iterator[tuple[tuple[int, int], bytes, int]]:
    """Yield ((record, number), value, end) of each data set; stop where the records are damaged."""
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
        position += size
        yield where, value, position


def _is_text(where: tuple[int, int]) -> bool:
    return where[0] == _APPLICATION_RECORD and where[1] not in _NOT_TEXT


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
