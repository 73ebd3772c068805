"""Read labels from files: text with one per line, and tables of comma- or tab-separated values."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, NamedTuple

from autotag.errors import ConfigError, suggestion
from autotag.files.bounded_files import read_bounded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEPARATORS = {".csv": ",", ".tsv": "\t"}
_MOST_BYTES = 256 * 2**20
_BOM = b"\xef\xbb\xbf"
_BROADER = re.compile(r"(?:^|\s)<(?:\s|$)")


class Row(NamedTuple):
    """One label of a file.

    Attributes:
        line: the line number, from 1.
        names: the label, then its synonyms, as written in the file.
        broader: its broader terms.
    """

    line: int
    names: list[str]
    broader: tuple[str, ...] = ()


def is_table(path: Path) -> bool:
    """Return True if a file's name ends in ``.csv`` or ``.tsv``."""
    return path.suffix.lower() in SEPARATORS


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line numbers from 1 and the lines of a UTF-8 file, with or without BOM, including blank lines.

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


def text_rows(path: Path) -> Iterator[Row]:
    """Read the lines of a text file, such as ``sofa | couch < furniture``; skip blank lines and comments.

    Bars separate synonyms and broader terms. A ``<`` with white space or nothing on both sides starts the
    broader terms; any other ``<`` is an ordinary character.

    Raises:
        ConfigError: the file cannot be read or is not UTF-8, or a line has ``<`` twice or nothing after it.
    """
    for number, line in _written_lines(path):
        names, *broader = _BROADER.split(line)
        terms = [term.strip() for term in "|".join(broader).split("|")]
        if len(broader) > 1 or (broader and not all(terms)):
            raise ConfigError(
                f"{path}, line {number}: write broader terms once, at the end, with bars between them: "
                "'tomato | tomatoes < fruit | vegetable'"
            )
        yield Row(number, names.split("|"), tuple(terms) if broader else ())


def table_rows(path: Path) -> Iterator[Row]:
    """Read a table without header; a quoted cell may contain separators, but not line breaks.

    Raises:
        ConfigError: the file cannot be read or is not UTF-8, a line is not a row, or a cell begins with ``<``
            like broader terms.
    """
    for number, line in _written_lines(path):
        try:
            cells = next(csv.reader([line], strict=True, skipinitialspace=True, delimiter=_separator(path)))
        except csv.Error as error:
            raise ConfigError(f"{path}, line {number}: not CSV ({error})") from error
        if any(_BROADER.match(cell) for cell in cells):
            raise ConfigError(
                f"{path}, line {number}: tables cannot have broader terms; write them in a text file (.txt): "
                "'tabby cat | tabby < cat'"
            )
        yield Row(number, cells)


def column_cells(path: Path, column: str) -> Iterator[tuple[int, str]]:
    """Yield the cells of one column, without blank ones, each with the number of its last line.

    The first row names the columns. A quoted cell may contain line breaks.

    Raises:
        ConfigError: the file cannot be read, is not UTF-8, is not a table, or does not have this column; the
            error names the existing columns.
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
        raise ConfigError(f"{path} is not a table; its first row must name the columns")
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
