"""Labels in files: text with one per line, and tables of comma- or tab-separated values."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from autotag.bounded_files import read_bounded
from autotag.errors import ConfigError, suggestion

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEPARATORS = {".csv": ",", ".tsv": "\t"}
_MOST_BYTES = 256 * 2**20
_BOM = b"\xef\xbb\xbf"


def is_table(path: Path) -> bool:
    """Whether the name of a file says that it holds columns: ``.csv`` or ``.tsv``."""
    return path.suffix.lower() in SEPARATORS


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers from 1, and the lines of a UTF-8 file, with or without BOM; blank ones too.

    Raises:
        ConfigError: the file cannot be read, or a line is not UTF-8.
    """
    try:
        content = read_bounded(path, most=_MOST_BYTES)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    for number, line in enumerate(content.removeprefix(_BOM).splitlines(), 1):
        try:
            yield number, line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}, line {number}: not UTF-8. Save it as UTF-8.") from error


def text_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and names of a text file: ``sofa | couch``; neither blank lines nor comments.

    Raises:
        ConfigError: the file cannot be read, or is not UTF-8.
    """
    for number, line in _written_lines(path):
        yield number, line.split("|")


def table_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells of a table without header; a quoted cell holds separators, but no line break.

    Raises:
        ConfigError: the file cannot be read, is not UTF-8, or a line is no row.
    """
    for number, line in _written_lines(path):
        try:
            cells = csv.reader([line], strict=True, skipinitialspace=True, delimiter=_separator(path))
            yield number, next(cells)
        except csv.Error as error:
            raise ConfigError(f"{path}, line {number}: not CSV ({error})") from error


def column_cells(path: Path, column: str) -> Iterator[tuple[int, str]]:
    """The cells of one column, blank ones left out, each with the number of the line it ends on.

    The first row names the columns. A quoted cell may hold line breaks.

    Raises:
        ConfigError: the file cannot be read, is not UTF-8, holds no table, or has no such column; the
            error names the columns there are.
    """
    rows = csv.reader((f"{line}\n" for _, line in text_lines(path)), strict=True, delimiter=_separator(path))
    try:
        index = _index(next(rows, []), column, path)
        for row in rows:
            if len(row) > index and row[index].strip():
                yield rows.line_num, row[index].strip()
    except csv.Error as error:
        raise ConfigError(f"{path}, line {rows.line_num}: not CSV ({error})") from error


def _index(header: list[str], column: str, path: Path) -> int:
    columns = [cell.strip() for cell in header]
    if not any(columns):
        raise ConfigError(f"{path} holds no table; its first row names the columns")
    if columns.count(column) > 1:
        raise ConfigError(f"{path} has {columns.count(column)} columns called {column!r}; rename all but one")
    if column not in columns:
        near = suggestion(column, columns)
        known = f" Its columns: {', '.join(columns)}." if near.startswith("Did") else ""
        raise ConfigError(f"{path} has no column {column!r}. {near}{known}")
    return columns.index(column)


def _written_lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in text_lines(path):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line


def _separator(path: Path) -> str:
    return SEPARATORS.get(path.suffix.lower(), ",")
