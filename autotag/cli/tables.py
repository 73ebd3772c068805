"""Tables on the standard output: fitted to a terminal, whole lines anywhere else."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


def echo_table(rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> None:
    """Print rows as aligned columns (see ``text_table``); in a pipe or file each row is one line."""
    from autotag.writers.text_table import text_table

    click.echo(text_table(rows, right=right, width=terminal_width()))


def terminal_width() -> int | None:
    """Return the columns of the terminal that the standard output is; None where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
