"""The vectors of an index in memory, or above 200,000 photographs in a file that is mapped into memory.

The tables are the truth. The mapped file is a cache beside them, stamped with the index's id and generation:
rows that changed since are read from the tables, rows that are gone are left out, and it can be deleted at
any time.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from autotag.files.hidden_files import clear_old_parts
from autotag.files.replacing import appearing
from autotag.search import ann_cache
from autotag.search.exact import top

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from autotag.search.ann_cache import AnnCache
    from autotag.search.exact import Matrix

IN_MEMORY = 200_000
"""So many photographs at most are held in memory as float32."""

_HEAD = 4096
_CHUNK = 4096
_MOST_STALE = 0.05
_MAGIC = "autotag vectors 1"
_logger = logging.getLogger("autotag")


@dataclass(frozen=True, slots=True)
class VectorRows:
    """Vectors by id of photograph.

    Attributes:
        ids: (N,) of the rows of ``matrix``, ascending.
        matrix: (N, D) float32 in memory or float16 in a file.
        alive: positions in ``matrix`` of rows that still hold; None for all.
        newer: rows that are not in ``matrix`` or have changed since; None for none.
        stamp: of the file that ``matrix`` is mapped from; None for rows in memory.
        ann: proposes rows of ``matrix`` to score; None to score all.
    """

    ids: NDArray[np.int64]
    matrix: Matrix
    alive: NDArray[np.int64] | None = None
    newer: VectorRows | None = field(default=None)
    stamp: dict[str, object] | None = None
    ann: AnnCache | None = None

    def top(
        self, query: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> list[tuple[int, float]]:
        """Return id and cosine of the ``k`` photographs nearest to a unit vector, best first.

        The cosines are exact, also of rows that an approximate search proposed.

        Args:
            query: (D,), of length 1.
            k: photographs at most.
            allowed: ids of the photographs that may be found, ascending; None for all.
        """
        positions = self.alive if allowed is None else self._positions(allowed)
        proposed = None if self.ann is None else self.ann.candidates(query, k, positions)
        found, scores = top(self.matrix, query, k, positions if proposed is None else proposed)
        cosines = np.clip(scores, -1.0, 1.0)  # vectors kept as float16 are a little longer or shorter than 1
        hits = list(zip(self.ids[found].tolist(), cosines.tolist(), strict=True))
        if self.newer is not None:
            hits += self.newer.top(query, k, allowed)
            hits.sort(key=lambda hit: (-hit[1], hit[0]))
        return hits[:k]

    def __len__(self) -> int:
        held = len(self.ids) if self.alive is None else len(self.alive)
        return held + (len(self.newer) if self.newer is not None else 0)

    def _positions(self, allowed: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions of those of the allowed ids that are here and alive, ascending."""
        if not len(self.ids):
            return np.empty(0, dtype=np.int64)
        places = np.minimum(np.searchsorted(self.ids, allowed), len(self.ids) - 1)
        places = places[self.ids[places] == allowed]
        return places if self.alive is None else np.intersect1d(places, self.alive, assume_unique=True)


def load_rows(
    connection: sqlite3.Connection, cache: Path, *, in_memory: int = IN_MEMORY, ann: Path | None = None
) -> VectorRows:
    """Return the vectors of an index. Call it within one read transaction.

    Args:
        connection: of the index.
        cache: the file for vectors of more than ``in_memory`` photographs; it is made where it is missing,
            torn, of another index or state, or too stale. Where it cannot be written, they are held in memory
            as float16.
        in_memory: photographs.
        ann: the file of an approximate search, which is used if it was made from the mapped file.
    """
    rows = _load_rows(connection, cache, in_memory)
    if ann is None or rows.stamp is None:
        return rows
    return replace(rows, ann=ann_cache.load(ann, rows.stamp))


def _load_rows(connection: sqlite3.Connection, cache: Path, in_memory: int) -> VectorRows:
    (count,) = connection.execute("SELECT count(*) FROM vector").fetchone()
    dimension = _dimension(connection)
    if count <= in_memory:
        ids, matrix = _read_all(connection, count, dimension)
        return VectorRows(ids, matrix.astype(np.float32))
    stamp = _stamp(connection, dimension)
    mapped = _mapped(cache, stamp)
    if mapped is not None:
        rows = _brought_up_to_date(connection, *mapped, dimension)
        if rows is not None:
            return rows
    try:
        (newest,) = connection.execute("SELECT max(generation) FROM photo").fetchone()
        _build(connection, cache, {**stamp, "newest": newest, "count": count})
    except OSError as error:
        _logger.warning("%s cannot be written (%s); vectors are held in memory instead", cache, error)
    else:
        mapped = _mapped(cache, stamp)
        if mapped is not None:
            return VectorRows(mapped[0], mapped[1], stamp=mapped[2])
    return VectorRows(*_read_all(connection, count, dimension))


def _dimension(connection: sqlite3.Connection) -> int:
    found = connection.execute("SELECT value FROM about WHERE key = 'dimension'").fetchone()
    return int(found[0]) if found else 0


def _stamp(connection: sqlite3.Connection, dimension: int) -> dict[str, object]:
    about = dict(connection.execute("SELECT key, value FROM about WHERE key IN ('id', 'generation')"))
    return {
        "kind": _MAGIC,
        "index": about["id"],
        "generation": int(about["generation"]),
        "dimension": dimension,
    }


def _chunks(
    connection: sqlite3.Connection, query: str, parameters: tuple[object, ...] = ()
) -> Iterator[tuple[list[int], bytes]]:
    cursor = connection.execute(query, parameters)
    while rows := cursor.fetchmany(_CHUNK):
        yield [row[0] for row in rows], b"".join(row[1] for row in rows)


_ALL = "SELECT photo, value FROM vector ORDER BY photo"


def _read_all(
    connection: sqlite3.Connection, count: int, dimension: int
) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
    ids = np.empty(count, dtype=np.int64)
    matrix = np.empty((count, dimension), dtype=np.float16)
    start = 0
    for some, raw in _chunks(connection, _ALL):
        end = start + len(some)
        ids[start:end] = some
        matrix[start:end] = np.frombuffer(raw, dtype="<f2").reshape(len(some), dimension)
        start = end
    return ids, matrix


def _build(connection: sqlite3.Connection, cache: Path, stamp: dict[str, object]) -> None:
    """Write the file aside and rename it: head of 4096 bytes, float16 rows, ids.

    Raises:
        OSError: it cannot be written.
    """
    clear_old_parts(cache)
    ids: list[NDArray[np.int64]] = []
    with appearing(cache) as file:
        file.write(json.dumps(stamp).encode().ljust(_HEAD))
        for some, raw in _chunks(connection, _ALL):
            ids.append(np.asarray(some, dtype="<i8"))
            file.write(raw)
        for some_ids in ids:
            file.write(some_ids.tobytes())


def stamp_of(cache: Path) -> dict[str, object] | None:
    """Return the stamp of a file of vectors; None where there is none that can be read."""
    try:
        with cache.open("rb") as file:
            stamp: dict[str, object] = json.loads(file.read(_HEAD))
    except (OSError, ValueError):
        return None
    return stamp


def _mapped(
    cache: Path, stamp: dict[str, object]
) -> tuple[NDArray[np.int64], NDArray[np.float16], dict[str, object]] | None:
    """Return ids, rows and stamp of the file; None where it is missing, torn or of another index."""
    try:
        with cache.open("rb") as file:
            head = json.loads(file.read(_HEAD))
            size = os.fstat(file.fileno()).st_size
        if any(head[key] != stamp[key] for key in ("kind", "index", "dimension")):
            return None
        count, dimension, generation = int(head["count"]), int(head["dimension"]), int(head["generation"])
        start_of_ids = _HEAD + 2 * count * dimension
        if generation > int(str(stamp["generation"])) or size != start_of_ids + 8 * count:
            return None
        matrix = np.memmap(cache, dtype="<f2", mode="r", offset=_HEAD, shape=(count, dimension))
        ids = np.fromfile(cache, dtype="<i8", count=count, offset=start_of_ids)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return ids, np.asarray(matrix), head


def _brought_up_to_date(
    connection: sqlite3.Connection,
    ids: NDArray[np.int64],
    matrix: NDArray[np.float16],
    stamp: dict[str, object],
    dimension: int,
) -> VectorRows | None:
    """Return the rows of the file that still hold, and the newer ones; None where too much has changed.

    A restored backup, or a copy that another machine wrote into, may not know the file's generation: then the
    newest photographs that the file was made from are missing, or photographs that the file lacks are there.
    """
    changed = (
        "SELECT photo, value FROM vector JOIN photo ON photo.id = photo WHERE generation > ? ORDER BY photo"
    )
    generation = int(str(stamp["generation"]))
    (now,) = connection.execute("SELECT value FROM about WHERE key = 'generation'").fetchone()
    if int(now) == generation:
        return VectorRows(ids, matrix, stamp=stamp)
    known = "SELECT 1 FROM photo WHERE generation = ? LIMIT 1"
    if connection.execute(known, (stamp.get("newest"),)).fetchone() is None:
        return None
    same = connection.execute(
        "SELECT id FROM photo WHERE generation <= ? AND id IN (SELECT photo FROM vector) ORDER BY id",
        (generation,),
    )
    held = np.fromiter((row[0] for row in same), dtype=np.int64)
    places = np.searchsorted(ids, held)
    if len(ids) - len(held) > _MOST_STALE * len(ids) or not np.array_equal(
        ids[places.clip(max=len(ids) - 1)], held
    ):
        return None
    new_ids: list[int] = []
    new_rows: list[bytes] = []
    for some, raw in _chunks(connection, changed, (generation,)):
        new_ids += some
        new_rows.append(raw)
    if len(new_ids) > _MOST_STALE * len(ids):
        return None
    rows = np.frombuffer(b"".join(new_rows), dtype="<f2").reshape(len(new_ids), dimension).astype(np.float32)
    newer = VectorRows(np.asarray(new_ids, dtype=np.int64), rows) if new_ids else None
    return VectorRows(ids, matrix, None if len(held) == len(ids) else places, newer, stamp)
