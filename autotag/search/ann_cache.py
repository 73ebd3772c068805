"""An approximate search by faiss over the mapped vectors of a large index, with an exact rescore.

The cache is a file beside the index that can be deleted at any time. It carries the stamp of the file of
vectors that it was made from, and is used only while that file stands. Its hits are scored again with the
stored vectors. No cache is written whose recall was not measured and found good.

``sq8`` keeps 8 bits a dimension. ``rabitq`` keeps one bit a dimension, after a random rotation (Gao and Long,
"RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for Approximate Nearest Neighbor
Search", SIGMOD 2024). Both look at every row.
"""

from __future__ import annotations

import json
import logging
import os
import time
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from autotag.errors import ConfigError, install_hint
from autotag.files.hidden_files import clear_old_parts
from autotag.files.replacing import PartFile
from autotag.search.exact import widened

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from autotag.search.exact import Matrix

Kind = Literal["sq8", "rabitq"]

NEEDED_RECALL = 0.98
"""Of the ten nearest photographs, so many a cache must find, for images and for texts, or it is not used."""

_FACTORY = {"sq8": "SQ8", "rabitq": "RR{dimension},RaBitQ"}
_CANDIDATES = {"sq8": (50, 200, 1000), "rabitq": (200, 1000, 2000, 5000, 10_000, 20_000)}
_MEASURED = 10
_TAIL = 4096
_MAGIC = "autotag ann 1"
_TRAINING_ROWS = 50_000
_BLOCK = 8192
_FEW_ROWS = 20_000  # so many that a filter leaves, or a twentieth of all, are searched exactly
_logger = logging.getLogger("autotag")


@dataclass(frozen=True, slots=True)
class Gate:
    """What was measured when a cache was built.

    Attributes:
        kind: ``"sq8"`` or ``"rabitq"``.
        candidates: rows that are scored again exactly, at least.
        image_recall: part of the ten nearest that were found, for vectors of photographs, in [0, 1].
        text_recall: the same for vectors of texts.
        image_queries: queries measured.
        text_queries: the same.
        build_s: seconds of processor time to build, without measuring.
        passed: whether both recalls are at least 0.98.
    """

    kind: Kind
    candidates: int
    image_recall: float
    text_recall: float
    image_queries: int
    text_queries: int
    build_s: float

    @property
    def passed(self) -> bool:
        """Return whether both recalls are at least ``NEEDED_RECALL``."""
        return min(self.image_recall, self.text_recall) >= NEEDED_RECALL


@dataclass(frozen=True, slots=True)
class AnnCache:
    """Proposes rows that are probably the nearest.

    Attributes:
        index: of faiss, whose ids are positions in the matrix that it was made from.
        gate: what was measured.
    """

    index: Any
    gate: Gate

    def candidates(
        self, query: NDArray[np.float32], k: int, positions: NDArray[np.int64] | None = None
    ) -> NDArray[np.int64] | None:
        """Return positions to score exactly, ascending; None where an exact search of all costs less.

        Args:
            query: (D,).
            k: rows that are wanted.
            positions: the rows that may be found; None for all.
        """
        size = int(self.index.ntotal)
        left = size if positions is None else len(positions)
        wanted = max(self.gate.candidates, 2 * k)
        if left < max(_FEW_ROWS, size // 20) or wanted > left:
            return None
        options = None if positions is None else self._only(positions)
        found = self.index.search(np.ascontiguousarray(query[None]), wanted, params=options)[1][0]
        return np.sort(found[found >= 0])

    def _only(self, positions: NDArray[np.int64]) -> Any:
        faiss = _faiss()
        allowed = np.zeros(int(self.index.ntotal), dtype=np.bool_)
        allowed[positions] = True
        selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        if self.gate.kind == "sq8":
            return faiss.SearchParameters(sel=selector)
        return faiss.SearchParametersPreTransform(index_params=faiss.RaBitQSearchParameters(sel=selector))


def build(
    matrix: Matrix,
    path: Path,
    stamp: Mapping[str, object],
    kind: Kind,
    *,
    photographs: NDArray[np.int64],
    texts: NDArray[np.float32],
) -> Gate:
    """Build a cache, measure it, and write it if it is good enough. An older one stays if it is not.

    It is written aside and renamed, so that no reader sees half of it.

    Args:
        matrix: (N, D) the vectors, of length 1.
        path: the file to write.
        stamp: of the file of vectors that ``matrix`` comes from.
        kind: see the module.
        photographs: positions of photographs that serve as queries; each does not count as its own neighbour.
        texts: (T, D) vectors of texts that serve as queries.

    Raises:
        ConfigError: faiss-cpu is not installed.
        OSError: the file cannot be written.
    """
    started = time.process_time()
    index = _built(matrix, kind)
    seconds = time.process_time() - started
    gate = _measured(index, matrix, kind, photographs=photographs, texts=texts, seconds=seconds)
    if gate.passed:
        _write(index, path, {**stamp, "kind": _MAGIC, "gate": asdict(gate)})
    return gate


def load(path: Path, stamp: Mapping[str, object]) -> AnnCache | None:
    """Return the cache; None where it is missing, torn, or made from other vectors than ``stamp`` says."""
    tail = _tail(path)
    if tail is None:
        return None
    if not _is_of(tail, stamp):
        _logger.warning("%s was made from older vectors; they are searched exactly. Build it again.", path)
        return None
    try:
        faiss = _faiss()
    except ConfigError as error:
        _logger.warning("%s is not used: %s", path, error)
        return None
    if _checksum(path, int(tail["size"])) != tail["checksum"]:
        _logger.warning("%s is damaged; vectors are searched exactly. Build it again.", path)
        return None
    return AnnCache(faiss.read_index(os.fspath(path)), Gate(**tail["gate"]))


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ConfigError(f"an approximate search needs: {install_hint('ann')}") from error
    return faiss


def _built(matrix: Matrix, kind: Kind) -> Any:
    faiss = _faiss()
    index = faiss.index_factory(
        matrix.shape[1], _FACTORY[kind].format(dimension=matrix.shape[1]), faiss.METRIC_INNER_PRODUCT
    )
    step = max(1, len(matrix) // _TRAINING_ROWS)
    index.train(widened(matrix[::step]))
    for start in range(0, len(matrix), _BLOCK):
        index.add(widened(matrix[start : start + _BLOCK]))
    return index


def _measured(
    index: Any,
    matrix: Matrix,
    kind: Kind,
    *,
    photographs: NDArray[np.int64],
    texts: NDArray[np.float32],
    seconds: float,
) -> Gate:
    """Return the gate for the fewest candidates that pass, or for the most that are allowed."""
    queries = np.concatenate([widened(matrix[photographs]), texts])
    selves = np.concatenate([photographs, np.full(len(texts), -1)])
    nearest = _nearest(matrix, queries, selves)
    for candidates in _CANDIDATES[kind]:
        some = min(candidates, len(matrix))
        proposed = index.search(queries, some)[1]
        found = np.array([np.isin(row, near).mean() for row, near in zip(nearest, proposed, strict=True)])
        image_recall, text_recall = (
            float(part.mean()) for part in (found[: len(photographs)], found[len(photographs) :])
        )
        gate = Gate(kind, some, image_recall, text_recall, len(photographs), len(texts), round(seconds, 2))
        if gate.passed or some == len(matrix):
            break
    return gate


def _nearest(matrix: Matrix, queries: NDArray[np.float32], selves: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (Q, 10) positions of the rows nearest to each query, without the query's own row."""
    wanted = min(_MEASURED, len(matrix) - 1)
    positions = np.empty((len(queries), 0), dtype=np.int64)
    scores = np.empty((len(queries), 0), dtype=np.float32)
    for start in range(0, len(matrix), _BLOCK):
        some = queries @ widened(matrix[start : start + _BLOCK]).T
        own = (selves >= start) & (selves < start + some.shape[1])
        some[own, selves[own] - start] = -np.inf
        places = np.broadcast_to(np.arange(start, start + some.shape[1]), some.shape)
        scores, positions = np.hstack([scores, some]), np.hstack([positions, places])
        if scores.shape[1] > wanted:
            best = np.argpartition(scores, -wanted, axis=1)[:, -wanted:]
            scores = np.take_along_axis(scores, best, axis=1)
            positions = np.take_along_axis(positions, best, axis=1)
    return positions


def _write(index: Any, path: Path, tail: dict[str, object]) -> None:
    """Write the index of faiss, and behind it a tail of 4096 bytes."""
    clear_old_parts(path)
    with PartFile(path) as part:
        try:
            _faiss().write_index(index, os.fspath(part.path))
        except RuntimeError as error:  # faiss's own, for a full disk or a missing right
            raise OSError(f"{part.path} cannot be written: {error}") from error
        size = part.path.stat().st_size
        tail |= {"size": size, "checksum": _checksum(part.path, size)}
        with part.path.open("ab") as file:
            file.write(json.dumps(tail).encode().ljust(_TAIL))
        part.sync()
        part.replace()


def _tail(path: Path) -> dict[str, Any] | None:
    """Return what stands behind the index of faiss; None where the file is missing or torn."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END) - _TAIL
            file.seek(max(size, 0))
            tail: dict[str, Any] = json.loads(file.read(_TAIL))
        whole = tail["kind"] == _MAGIC and tail["size"] == size
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        _logger.warning("%s is torn; vectors are searched exactly. Build it again.", path)
        return None
    return tail


def _checksum(path: Path, size: int) -> int:
    found = 0
    with path.open("rb") as file:
        while size > 0 and (block := file.read(min(size, 1 << 20))):
            found = zlib.crc32(block, found)
            size -= len(block)
    return found


def gate_of(path: Path, stamp: Mapping[str, object] | None) -> dict[str, object] | None:
    """Return what was measured when a cache was built, its size, and whether it is of these vectors.

    None where there is no cache that is whole.
    """
    tail = _tail(path)
    if tail is None:
        return None
    return {**tail["gate"], "bytes": tail["size"], "in_use": stamp is not None and _is_of(tail, stamp)}


def _is_of(tail: Mapping[str, object], stamp: Mapping[str, object]) -> bool:
    return all(tail.get(key) == value for key, value in stamp.items() if key != "kind")
