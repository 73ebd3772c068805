"""A writer."""

from __future__ import annotations

import csv
from typing import TextIO

from autotag.records import Result


class CsvWriter:
    """Writes a table with one row per image, every cell in quotes, so that all line breaks survive.

    It is for programs: a spreadsheet calculates a cell that begins with ``=``, whoever wrote it.

    Args:
        stream: where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._rows = csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n")
        self._rows.writerow(["file", "caption", "tags", "error"])

    def write(self, result: Result, /) -> None:
        tags = "; ".join(tag.text for tag in result.tags)
        self._rows.writerow([result.source, result.caption, tags, result.error or ""])

    def close(self) -> None:
        """Does nothing: no row is held back."""
