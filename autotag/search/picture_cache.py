"""Small pictures of the photographs of an index, made once, in an SQLite file beside it or in a cache folder.

They are kept by the digest of a photograph's pixels, so that they hold when it is moved, and none is wrong
when its pixels change. The file is a cache: it may be deleted at any time, and one that cannot be read or
written is done without.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from autotag.search.same_picture import SIDE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Look: TypeAlias = "tuple[str, NDArray[np.uint8], float]"
"""Digest of the pixels, grey thumbnail of (64, 64), coarseness of the compression."""

MOST_BYTES = 256 * 2**20
"""So many bytes of thumbnails are kept; beyond that, the ones not shown for longest are dropped."""

_KIND = 0x41755468
_TABLES = """
CREATE TABLE IF NOT EXISTS look (digest TEXT PRIMARY KEY, pixels BLOB NOT NULL, coarseness REAL NOT NULL);
CREATE TABLE IF NOT EXISTS thumbnail (
    digest TEXT PRIMARY KEY, jpeg BLOB NOT NULL, bytes INTEGER NOT NULL, shown REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS thumbnail_shown ON thumbnail(shown, bytes);
"""
_TOGETHER = 500  # most parameters of one query
_PATIENCE = 1.0  # seconds that a write waits for another program
_logger = logging.getLogger("autotag")


@dataclass(eq=False)
class PictureCache:
    """Looks (for comparing) and JPEG thumbnails (for showing) by pixel digest.

    Attributes:
        path: the file.
        most_bytes: of JPEG thumbnails that are kept.
    """

    path: Path
    most_bytes: int = MOST_BYTES
    _works: bool = field(init=False, repr=False, default=True)

    def looks(self, digests: Sequence[str]) -> Iterator[Look]:
        """Yield the kept ones."""
        query = "SELECT digest, pixels, coarseness FROM look WHERE digest IN"
        for digest, pixels, coarseness in self._found(query, digests):
            if len(pixels) == SIDE * SIDE:
                yield digest, np.frombuffer(pixels, dtype=np.uint8).reshape(SIDE, SIDE), coarseness

    def keep_looks(self, looks: Iterable[Look]) -> None:
        """Add some."""
        rows = [(digest, grey.tobytes(), coarseness) for digest, grey, coarseness in looks]
        self._write([("INSERT OR REPLACE INTO look VALUES (?, ?, ?)", rows)])

    def forget_looks(self, wanted: Iterable[str]) -> None:
        """Drop all but those of some digests."""
        kept = {row[0] for row in self._rows("SELECT digest FROM look", ())}
        gone = [(digest,) for digest in kept.difference(wanted)]
        if gone:
            self._write([("DELETE FROM look WHERE digest = ?", gone)])

    def jpegs(self, digests: Sequence[str]) -> dict[str, bytes]:
        """Return digest -> JPEG file of the kept ones."""
        return dict(self._found("SELECT digest, jpeg FROM thumbnail WHERE digest IN", digests))

    def keep_jpegs(self, shown: Sequence[str], made: Mapping[str, bytes]) -> None:
        """Add thumbnails, note which were shown, and drop the oldest beyond the limit."""
        now = time.time()
        rows = [(digest, jpeg, len(jpeg), now) for digest, jpeg in made.items()]
        older = (
            "DELETE FROM thumbnail WHERE digest IN (SELECT digest FROM (SELECT digest, sum(bytes) OVER "
            "(ORDER BY shown DESC, digest) AS total FROM thumbnail) WHERE total > ?)"
        )
        self._write(
            [
                ("UPDATE thumbnail SET shown = ? WHERE digest = ?", [(now, digest) for digest in shown]),
                ("INSERT OR REPLACE INTO thumbnail VALUES (?, ?, ?, ?)", rows),
                *([(older, [(self.most_bytes,)])] if made else []),
            ]
        )

    def _found(self, query: str, digests: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        for first in range(0, len(digests), _TOGETHER):
            some = digests[first : first + _TOGETHER]
            yield from self._rows(f"{query} ({', '.join('?' * len(some))})", some)

    def _rows(self, query: str, parameters: Sequence[str]) -> list[tuple[Any, ...]]:
        if not self._works or not self.path.exists():
            return []
        try:
            with closing(self._connected()) as connection:
                return connection.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            self._give_up(error)
            return []

    def _write(self, statements: Sequence[tuple[str, Sequence[Sequence[object]]]]) -> None:
        if not self._works:
            return
        try:
            with closing(self._connected()) as connection, connection:
                for statement, rows in statements:
                    connection.executemany(statement, rows)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def _connected(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=_PATIENCE)
        try:
            _prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _give_up(self, error: Exception) -> None:
        """Do without the file; one that is damaged is deleted, for the next run."""
        self._works = False
        is_damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.OperationalError
        )
        if is_damaged:
            with suppress(OSError):
                self.path.unlink()
        _logger.warning("small pictures are not kept in %s: %s", self.path, error)


def _prepare(connection: sqlite3.Connection) -> None:
    """Make the tables of a new file.

    Raises:
        sqlite3.Error: the file is of another program, is damaged, or cannot be written.
    """
    (kind,) = connection.execute("PRAGMA application_id").fetchone()
    if kind == _KIND:
        return
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
        raise sqlite3.OperationalError("it is a database of another program")
    connection.executescript(f"PRAGMA application_id = {_KIND}; {_TABLES}")


def cache_beside(index: Path) -> PictureCache:
    """Return the cache beside an index, ``FILE-pictures``."""
    return PictureCache(index.with_name(f"{index.name}-pictures"))
