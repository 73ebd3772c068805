"""``PostgresStore``: a table of Postgres with the extension pgvector.

The table belongs to its owner. Its columns are documented in docs/guides/stores.md, further ones may stand
beside them, and whoever changes rows in SQL needs nothing of autotag.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, Any, LiteralString

from autotag.errors import ConfigError, SearchIndexError
from autotag.search.known import Known
from autotag.search.store import (
    ANYTHING,
    TABLE,
    Conditions,
    StoredPhoto,
    StoreEncoder,
    encoder_facts,
    refuse_unnamed_encoder,
)
from autotag.search.stored_text import path_to_text, text_to_path
from autotag.search.stores.postgres_connection import connected, errors_told, name_of, packages, parts_of
from autotag.search.stores.postgres_rows import photo_of, values_of, words_of
from autotag.search.stores.postgres_statements import Statements, joined, where
from autotag.search.stores.postgres_tables import COLUMNS, prepare, remember

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from psycopg import Connection

_WORDS: LiteralString = (
    "setweight(to_tsvector('english', %s), 'A') || setweight(to_tsvector('english', %s), 'B') || "
    "setweight(to_tsvector('english', %s), 'A') || setweight(to_tsvector('english', %s), 'C')"
)  # caption, tags, keywords, name
_MARKS = ("\x02", "\x03")
_LONGEST_NAME = 57  # Postgres cuts names at 63 bytes; "_about" is added
_MOST_EFFORT = 1000  # hnsw.ef_search allows no more
_IDLE = 0  # psycopg.pq.TransactionStatus.IDLE
_MANY = 5000  # rows that are fetched together


@dataclass(eq=False)
class PostgresStore:
    """Photographs in a table of Postgres. Made with a connection of the caller's, or by ``open``.

    Within the caller's transaction every call is a part of it: nothing is committed but by the caller. With
    a connection in autocommit mode every call is a transaction of its own. pgvector's types are registered
    on the connection.

    Attributes:
        connection: of psycopg.
        table: its name, with a schema before it if need be.
        create: whether to make the table, the table ``<table>_about`` beside it, and the extension, where
            they are missing.

    Raises:
        ConfigError: psycopg or pgvector is not installed, or the table's name is empty or too long.
        SearchIndexError: there is no table and ``create`` is False, it has other columns, or the server has
            no pgvector of 0.8 or newer.
    """

    connection: Connection[Any]
    table: str = TABLE
    _: KW_ONLY
    create: bool = True
    _options: Mapping[str, Any] | None = field(default=None, repr=False)  # of a connection that is ours
    _server: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        packages()
        self._server = name_of(self.connection.info.get_parameters())
        last = self.table.rpartition(".")[2]
        if not all(self.table.split(".")) or "%" in self.table or len(last.encode()) > _LONGEST_NAME:
            raise ConfigError(
                f"table={self.table!r}: write NAME or SCHEMA.NAME, at most {_LONGEST_NAME} bytes without %."
            )
        with self._transaction():
            prepare(self._sql, create=self.create)

    @classmethod
    def open(cls, url: str, *, table: str = TABLE, create: bool = True) -> PostgresStore:
        """Connect to a server; every call is a transaction of its own. ``close`` ends the connection.

        A connection that broke is made again by the next call.

        Args:
            url: as libpq reads it; what is not in it comes from the environment (``PGPASSWORD``, ...), from
                ``~/.pgpass`` and ``pg_service.conf``.
            table: its name.
            create: whether to make what is missing.

        Raises:
            ConfigError: a package is missing, or the table's name is wrong.
            SearchIndexError: the server cannot be reached, see also the class.
        """
        options = parts_of(url)
        connection = connected(options)
        try:
            return cls(connection, table, create=create, _options=options)
        except BaseException:
            connection.close()
            raise

    @property
    def name(self) -> str:
        """The server and the table, without a password."""
        return f"{self._server}, table {self.table}"

    def close(self) -> None:
        """Close the connection, if ``open`` made it."""
        if self._options is not None:
            self._options = None
            self.connection.close()

    # ---- writing

    def upsert(self, photos: Sequence[StoredPhoto], *, encoder: StoreEncoder | None = None) -> None:
        """Put photographs in, replacing those with the same paths; see ``VectorStore``."""
        with self._writing():
            self._check_encoder(photos, encoder)
            self._put(photos)

    def _check_encoder(self, photos: Sequence[StoredPhoto], encoder: StoreEncoder | None) -> None:
        having = next((photo for photo in photos if photo.vector is not None), None)
        if having is None:
            return
        if encoder is None:
            refuse_unnamed_encoder(having)
        new = encoder_facts(self.name, self.about(), encoder)
        if new:
            self._sql.execute(
                "ALTER TABLE {table} ALTER COLUMN vector TYPE halfvec({dimension})",
                dimension=encoder.dimension,
            )
            remember(self._sql, new)

    def _put(self, photos: Sequence[StoredPhoto]) -> None:
        from psycopg.sql import SQL

        names = SQL(", ").join(map(self._sql.identifier, COLUMNS))
        places = SQL(", ").join([SQL("%s")] * len(COLUMNS))
        changes = SQL(", ").join(
            SQL("{name} = excluded.{name}").format(name=self._sql.identifier(name))
            for name in COLUMNS
            if name != "path"
        )
        statement = SQL(
            "INSERT INTO {table} ({names}, words) VALUES ({places}, {words}) "
            "ON CONFLICT (path) DO UPDATE SET {changes}, words = excluded.words, updated = now()"
        ).format(table=self._sql.table_name, names=names, places=places, words=SQL(_WORDS), changes=changes)
        with self._sql.cursor() as cursor:
            cursor.executemany(statement, [(*values_of(photo), *words_of(photo)) for photo in photos])

    def delete(self, ids: Sequence[int]) -> int:
        """Forget photographs, and return how many were there."""
        with self._writing():
            return self._sql.execute("DELETE FROM {table} WHERE id = ANY(%s::bigint[])", list(ids)).rowcount

    def rename(self, photo: int, path: str) -> None:
        """Put a photograph under another path, replacing what was there; its id stays."""
        text = path_to_text(path)
        with self._writing():
            kept = self.photos([photo]).get(photo)
            if kept is None:
                raise SearchIndexError(self.name, f"no photograph has the id {photo}.")
            self._sql.execute("DELETE FROM {table} WHERE path = %s AND id <> %s", text, photo)
            self._sql.execute("UPDATE {table} SET path = %s WHERE id = %s", text, photo)
            self._put([replace(kept, path=path)])

    def remember(self, facts: Mapping[str, str]) -> None:
        """Keep facts, replacing those of the same names."""
        with self._transaction():
            remember(self._sql, facts)

    def build_approximate(self) -> None:
        """Build an HNSW index over the vectors, where it is missing.

        It holds the table's writers up until it is done. ``maintenance_work_mem`` of the connection should
        hold the whole index.
        """
        with self._transaction():
            self._sql.execute(
                "CREATE INDEX IF NOT EXISTS {hnsw} ON {table} USING hnsw (vector halfvec_ip_ops)",
                hnsw=self.table.rpartition(".")[2] + "_hnsw",
            )

    # ---- reading

    def search(
        self,
        vector: NDArray[np.float32],
        k: int,
        conditions: Conditions = ANYTHING,
        *,
        effort: int | None = None,
    ) -> list[tuple[int, float]]:
        """Return id and cosine of the nearest photographs; see ``VectorStore``.

        An approximate search goes on until ``k`` photographs meet the conditions (pgvector's iterative scan);
        where it ends with fewer, every vector is looked at.
        """
        from pgvector import HalfVector

        query = HalfVector(vector)
        with self._transaction(undo=True):  # which also takes back the settings
            found: list[tuple[int, float]] = []
            if effort is not None:
                self._sql.execute("SELECT set_config('hnsw.iterative_scan', 'strict_order', true)")
                self._sql.execute(
                    "SELECT set_config('hnsw.ef_search', %s, true)", str(min(effort, _MOST_EFFORT))
                )
                found = self._nearest("vector <#> %s", query, k, conditions)
            if len(found) < k:  # an order by an expression uses no index
                found = self._nearest("(vector <#> %s) + 0", query, k, conditions)
        return sorted(found, key=lambda hit: (-hit[1], hit[0]))

    def _nearest(
        self, order: LiteralString, query: object, k: int, conditions: Conditions
    ) -> list[tuple[int, float]]:
        from psycopg.sql import SQL

        condition, parameters = where(conditions, "vector IS NOT NULL")
        rows = self._sql.execute(
            "SELECT id, -(vector <#> %s) FROM {table} WHERE {where} ORDER BY {order} LIMIT %s",
            query, *parameters, query, k, where=condition, order=SQL(order),
        )  # fmt: skip
        return [(photo, max(-1.0, min(1.0, cosine))) for photo, cosine in rows]  # halves round up

    def search_words(
        self, words: Sequence[str], k: int, conditions: Conditions = ANYTHING, *, every: bool = False
    ) -> list[int]:
        """Return photographs whose texts have any, or every one, of the words or phrases, by ``ts_rank``."""
        wanted, terms = joined(words, " && " if every else " || ")
        condition, parameters = where(conditions, "words @@ {wanted}", *terms, wanted=wanted)
        with self._transaction(undo=True):
            rows = self._sql.execute(
                "SELECT id FROM {table} WHERE {where} "
                "ORDER BY ts_rank('{{0.25, 0.25, 0.5, 1}}', words, {wanted}) DESC, id LIMIT %s",  # D, C, B, A
                *parameters, *terms, k, where=condition, wanted=wanted,
            )  # fmt: skip
            return [photo for (photo,) in rows]

    def matched_words(self, words: Sequence[str], ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
        """Return id -> words of its texts that the words or phrases match, in their order, each once."""
        wanted, terms = joined(words, " || ")
        begin, end = _MARKS
        texts = {photo: " ".join(words_of(found)) for photo, found in self.photos(ids).items()}
        with self._transaction(undo=True):
            rows = self._sql.execute(
                "SELECT id, ts_headline('english', text, {wanted}, %s) "
                "FROM unnest(%s::bigint[], %s::text[]) AS found(id, text) "
                "WHERE to_tsvector('english', text) @@ {wanted}",
                *terms, f"StartSel={begin}, StopSel={end}, HighlightAll=true",
                list(texts), list(texts.values()), *terms, wanted=wanted,
            )  # fmt: skip
            return {
                photo: tuple(dict.fromkeys(piece.partition(end)[0] for piece in text.split(begin)[1:]))
                for photo, text in rows
            }

    def newest(self, k: int, conditions: Conditions = ANYTHING) -> list[int]:
        """Return photographs by the time at which they were taken, newest first, those without one last."""
        condition, parameters = where(conditions, "true")
        with self._transaction(undo=True):
            rows = self._sql.execute(
                "SELECT id FROM {table} WHERE {where} ORDER BY taken DESC NULLS LAST, id LIMIT %s",
                *parameters, k, where=condition,
            )  # fmt: skip
            return [photo for (photo,) in rows]

    def photos(self, ids: Sequence[int]) -> dict[int, StoredPhoto]:
        """Return photographs by id; missing ones are left out."""
        from psycopg.sql import SQL

        names = SQL(", ").join(map(self._sql.identifier, COLUMNS))
        with self._transaction(undo=True):
            rows = self._sql.execute(
                "SELECT id, {names} FROM {table} WHERE id = ANY(%s::bigint[])",
                [photo for photo in ids if 0 <= photo < 2**63],
                names=names,
            )
            return {row[0]: photo_of(dict(zip(COLUMNS, row[1:], strict=True))) for row in rows}

    def ids(self, paths: Sequence[str]) -> dict[str, int]:
        """Return path -> id of those of the paths that are there."""
        with self._transaction(undo=True):
            rows = self._sql.execute(
                "SELECT path, id FROM {table} WHERE path = ANY(%s::text[])", list(map(path_to_text, paths))
            )
            return {text_to_path(path): photo for path, photo in rows}

    def known(self, paths: Sequence[str], folders: Sequence[str]) -> Iterator[tuple[str, Known]]:
        """Yield path and facts of those of the paths that are there, and of all photographs below folders."""
        from psycopg.rows import tuple_row
        from psycopg.sql import SQL

        below = [path_to_text(folder.rstrip(os.sep) + os.sep) for folder in folders]
        conditions = [SQL("path = ANY(%s::text[])"), *[SQL("starts_with(path, %s)")] * len(below)]
        with (
            self._transaction(undo=True),
            self.connection.cursor("autotag_known", row_factory=tuple_row) as cursor,
        ):
            cursor.itersize = _MANY
            query = SQL(
                "SELECT path, id, bytes, mtime_ns, digest, vector IS NOT NULL, error, offline, sidecars "
                "FROM {table} WHERE {where}"
            ).format(table=self._sql.table_name, where=SQL(" OR ").join(conditions))
            cursor.execute(query, (list(map(path_to_text, paths)), *below))
            for path, *facts in cursor:
                yield text_to_path(path), Known(*facts)

    def sample(self, count: int) -> list[int]:
        """Return ids of photographs with a vector, drawn at random."""
        with self._transaction(undo=True):
            rows = self._sql.execute(
                "SELECT id FROM {table} WHERE vector IS NOT NULL ORDER BY random() LIMIT %s", count
            )
            return [photo for (photo,) in rows]

    def count(self, *, vectors: bool = False) -> int:
        """Return how many photographs there are, or how many with a vector."""
        with self._transaction(undo=True):
            row = self._sql.execute("SELECT count(vector), count(*) FROM {table}").fetchone()
            return int((row or (0, 0))[0 if vectors else 1])

    def generation(self) -> int:
        """Return a number that grows with every change; 0 before the first."""
        return int(self.about()["generation"])

    def about(self) -> dict[str, str]:
        """Return the rows of the table ``<table>_about``."""
        with self._transaction(undo=True):
            return dict(self._sql.execute("SELECT key, value FROM {about}").fetchall())

    # ---- SQL

    @property
    def _sql(self) -> Statements:
        return Statements(self.connection, self.table, self.name)

    @contextmanager
    def _transaction(self, *, undo: bool = False) -> Iterator[None]:
        """Make a transaction, or a part of the caller's; errors of the database become ours.

        Raises:
            SearchIndexError: the database refuses.
        """
        with errors_told(self.name):
            if self._options is not None and self.connection.closed:
                self._connect_again(self._options)
            if not self.connection.autocommit and self.connection.info.transaction_status == _IDLE:
                # begins the caller's transaction, which ours is a part of
                self.connection.execute("SELECT 1")
            with self.connection.transaction(force_rollback=undo):
                yield

    def _connect_again(self, options: Mapping[str, Any]) -> None:
        from pgvector.psycopg import register_vector

        self.connection = connected(options)
        register_vector(self.connection)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Make a transaction that no other writer's overlaps, and count it."""
        with self._transaction():
            self._sql.execute("UPDATE {about} SET value = (value::bigint + 1)::text WHERE key = 'generation'")
            yield
