"""Statements in SQL of one table of photographs, and conditions of searches in SQL."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

from autotag.metadata.keywords import fold
from autotag.search.filters import EARTH_KM, days_between, folder_in_path
from autotag.search.stored_text import kept_text, path_to_text, plain_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from psycopg import Connection, Cursor
    from psycopg.sql import Composed, Identifier

    from autotag.search.store import Conditions

_KILOMETRES: LiteralString = (
    "2 * %s * asin(least(1, sqrt(sin(radians(latitude - %s) / 2) ^ 2 + "
    "cos(radians(latitude)) * cos(radians(%s)) * sin(radians(longitude - %s) / 2) ^ 2)))"
)


@dataclass(frozen=True, slots=True)
class Statements:
    """Run statements on a table of photographs and the table about it.

    Attributes:
        connection: of psycopg.
        table: the table's name, with a schema before it if need be.
        name: the server and the table, for errors.
    """

    connection: Connection[Any]
    table: str
    name: str

    @property
    def table_name(self) -> Identifier:
        """Return the table's name as a part of a statement."""
        return self.identifier(*self.table.split("."))

    @property
    def _about_name(self) -> Identifier:
        *schema, last = self.table.split(".")
        return self.identifier(*schema, last + "_about")

    @staticmethod
    def identifier(*names: str) -> Identifier:
        """Return a name, of a column or behind schemas, as a part of a statement."""
        from psycopg.sql import Identifier

        return Identifier(*names)

    def execute(self, query: LiteralString, *parameters: object, **parts: Any) -> Cursor[Any]:
        """Run a statement; names in braces are the table, the table about it, and ``parts``."""
        from psycopg.sql import SQL, Composable, Identifier, Literal

        made = {
            name: part
            if isinstance(part, Composable)
            else Identifier(part)
            if isinstance(part, str)
            else Literal(part)
            for name, part in parts.items()
        }
        statement = SQL(query).format(table=self.table_name, about=self._about_name, **made)
        return self.cursor().execute(statement, parameters or None)

    def cursor(self) -> Cursor[Any]:
        """Return a cursor that gives tuples, whatever the caller's connection gives."""
        from psycopg.rows import tuple_row

        return self.connection.cursor(row_factory=tuple_row)


def where(
    conditions: Conditions, first: LiteralString, *values: object, **parts: Any
) -> tuple[Composed, list[object]]:
    """Return conditions as SQL, and their parameters."""
    from psycopg.sql import SQL

    pieces, parameters = [SQL(first).format(**parts)], list(values)
    for condition, some in _conditions(conditions):
        pieces.append(SQL(condition).format())
        parameters += some
    return SQL(" AND ").join(pieces), parameters


def joined(words: Sequence[str], by: LiteralString) -> tuple[Composed, list[str]]:
    """Return a query of text search for words and phrases, and its parameters."""
    from psycopg.sql import SQL

    terms = [plain_words(word) for word in words]
    parts = [SQL("phraseto_tsquery('english', %s)")] * len(terms)
    return SQL("({})").format(SQL(by).join(parts)), terms


def _conditions(conditions: Conditions) -> Iterator[tuple[LiteralString, list[object]]]:
    """Yield conditions in SQL and their parameters."""
    for phrase in conditions.phrases:
        yield "words @@ phraseto_tsquery('english', %s)", [plain_words(phrase)]
    for phrase in conditions.unwanted:
        yield "NOT words @@ phraseto_tsquery('english', %s)", [plain_words(phrase)]
    if conditions.other_than:
        yield "NOT id = ANY(%s::bigint[])", [list(conditions.other_than)]
    wanted = conditions.filter
    if wanted is None:
        return
    if wanted.tags:
        yield "labels @> %s::text[]", [[fold(kept_text(tag)) for tag in wanted.tags]]
    if wanted.folder is not None:
        folder, is_beginning = folder_in_path(os.fspath(wanted.folder))
        yield "starts_with(path, %s)" if is_beginning else "strpos(path, %s) > 0", [path_to_text(folder)]
    since, until = days_between(wanted)
    if since is not None:
        yield "taken >= %s", [since]
    if until is not None:
        yield "taken < %s", [until]
    if wanted.camera is not None:
        yield "strpos(lower(camera), lower(%s)) > 0", [kept_text(wanted.camera)]
    if wanted.near is not None:
        latitude, longitude, distance = wanted.near
        yield (
            _KILOMETRES + " <= %s",
            [EARTH_KM, latitude, latitude, longitude, distance],
        )
