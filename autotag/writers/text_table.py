"""Tables for people: columns that are aligned, as plain text."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autotag.writers.one_line import one_line

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_UNLIMITED = 1_000_000


def text_table(
    rows: Sequence[Sequence[str]], *, right: Collection[int] = (), width: int | None = None
) -> str:
    """Return rows as lines of aligned columns, two spaces apart, without spaces at the ends of lines.

    A cell takes one line, whatever is in it, and letters that are two columns wide count as two.

    Args:
        rows: all with as many cells; the first may be headings.
        right: numbers of the columns that are aligned to the right, from 0.
        width: columns of a terminal, where a row that is longer goes on in further lines. None for one line
            a row.
    """
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for number in range(len(rows[0]) if rows else 0):
        table.add_column(justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    lines = io.StringIO()
    Console(file=lines, width=width or _UNLIMITED, color_system=None, force_terminal=False).print(table)
    return "\n".join(line.rstrip() for line in lines.getvalue().splitlines())
