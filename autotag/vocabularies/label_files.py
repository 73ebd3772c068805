"""Read labels from files: text with one per line, and tables of comma- or tab-separated values."""

from __future__ import annotations

import csv
import re
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from autotag.errors import ConfigError, suggestion
from autotag.files.bounded_files import read_bounded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SEPARATORS = {".csv": ",", ".tsv": "\t"}
_MOST_BYTES = 256 * 2**20
_BOM = b"\xef\xbb\xbf"
_BROADER = re.compile(r"(?:^|\s)<(?:\s|$)")
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z0-9]{2,8})*")
_IN_LANGUAGE = re.compile(r"label\.([^\s:|]*)\s*:(.*)", re.IGNORECASE | re.DOTALL)
_COLUMN = re.compile(r"label\.([^\s:|]+)", re.IGNORECASE)


class Row(NamedTuple):
    """One label of a file.

    Attributes:
        line: the line number, from 1.
        names: the label, then its synonyms, as written in the file.
        broader: its broader terms.
        labels: the label in other languages: pairs of a language and a name.
    """

    line: int
    names: list[str]
    broader: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()


def language_code(text: str, where: str) -> str:
    """Return a language's code in lower case: ``de``, ``pt-br``.

    Raises:
        ConfigError: it is not written like a code of BCP 47; ``where`` begins the message.
    """
    code = text.strip().lower().replace("_", "-")
    if not _LANGUAGE.fullmatch(code):
        raise ConfigError(f"{where}: {text!r} is not the code of a language; write it like 'de' or 'pt-br'")
    return code


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
    broader terms; any other ``<`` is an ordinary character. A name such as ``label.de: Sofa`` is the label in
    another language.

    Raises:
        ConfigError: the file cannot be read or is not UTF-8, a line has ``<`` twice or nothing after it, or
            what follows ``label.`` is not the code of a language.
    """
    for number, line in _written_lines(path):
        names, *broader = _BROADER.split(line)
        terms = [term.strip() for term in "|".join(broader).split("|")]
        if len(broader) > 1 or (broader and not all(terms)):
            raise ConfigError(
                f"{path}, line {number}: write broader terms once, at the end, with bars between them: "
                "'tomato | tomatoes < fruit | vegetable'"
            )
        own, labels = _by_language(names.split("|"), f"{path}, line {number}")
        yield Row(number, own, tuple(terms) if broader else (), labels)


def table_rows(path: Path) -> Iterator[Row]:
    """Read a table; a quoted cell may contain separators, but not line breaks.

    If the first row has a cell such as ``label.de``, it names the columns: ``label``, ``synonyms`` (with bars
    between them) and the label in other languages. Otherwise the label is in the first column, and synonyms
    are in the others, where a cell such as ``label.de: Sofa`` is the label in another language.

    Raises:
        ConfigError: the file cannot be read or is not UTF-8, a line is not a row, a cell begins with ``<``
            like broader terms, or a column has another name than these.
    """
    rows = _plain_rows(path)
    first = next(rows, None)
    if first is None:
        return
    if any(_COLUMN.fullmatch(cell.strip()) for cell in first.names):
        yield from _rows_below(first, rows, path)
        return
    for row in chain([first], rows):
        names, labels = _by_language(row.names, f"{path}, line {row.line}")
        yield Row(row.line, names, (), labels)


def _plain_rows(path: Path) -> Iterator[Row]:
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


def _rows_below(header: Row, rows: Iterator[Row], path: Path) -> Iterator[Row]:
    """Yield the rows of a table whose first row names its columns."""
    where = f"{path}, line {header.line}"
    columns = [cell.strip().lower() for cell in header.names]
    for column in columns:
        if columns.count(column) > 1:
            raise ConfigError(f"{where}: {columns.count(column)} columns are called {column!r}")
        if column not in {"label", "synonyms"} and not _COLUMN.fullmatch(column):
            raise ConfigError(
                f"{where}: the column {column!r} is not label, synonyms, or one such as label.de"
            )
    if "label" not in columns:
        raise ConfigError(f"{where}: no column is called 'label'")
    for row in rows:
        if len(row.names) > len(columns):
            raise ConfigError(f"{path}, line {row.line}: {len(row.names)} cells, but {len(columns)} columns")
        cells = dict(zip(columns, map(str.strip, row.names), strict=False))
        names = [cells.get("label", ""), *cells.get("synonyms", "").split("|")]
        labels = tuple(
            (language_code(column.partition(".")[2], where), cell)
            for column, cell in cells.items()
            if cell and column not in {"label", "synonyms"}
        )
        yield Row(row.line, names, (), labels)


def _by_language(cells: Sequence[str], where: str) -> tuple[list[str], tuple[tuple[str, str], ...]]:
    """Return the names of a row, and its label in other languages.

    Raises:
        ConfigError: there is no language or no label after ``label.``.
    """
    found = [_IN_LANGUAGE.fullmatch(cell.strip()) for cell in cells]
    names = [cell for cell, match in zip(cells, found, strict=True) if match is None]
    labels = tuple((language_code(match[1], where), match[2].strip()) for match in found if match)
    if empty := next((language for language, label in labels if not label), None):
        raise ConfigError(f"{where}: there is no label after 'label.{empty}:'")
    return names or [""], labels


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
