"""Exact nearest neighbours: one matrix product over the rows that a filter leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32] | NDArray[np.float16]

_BLOCK = 256  # rows that are gathered or widened together: half a megabyte, which stays in the cache


def top(
    matrix: Matrix, query: NDArray[np.float32], k: int, positions: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return positions of the ``k`` best rows, best first, and their scores.

    Equal scores are ordered by position. Float16 rows are widened to float32 block by block, so that a file
    mapped into memory is read once and never copied whole.

    Args:
        matrix: (N, D) rows.
        query: (D,).
        k: rows at most, at least 1.
        positions: the rows to look at, ascending; None for all.
    """
    scores = _products(matrix, query, positions)
    if len(scores) > k:
        cut = np.partition(scores, len(scores) - k)[len(scores) - k]
        candidates = np.flatnonzero(scores >= cut)
    else:
        candidates = np.arange(len(scores))
    best = candidates[np.lexsort((candidates, -scores[candidates]))][:k]
    return (best if positions is None else positions[best]), scores[best]


def _products(
    matrix: Matrix, query: NDArray[np.float32], positions: NDArray[np.int64] | None
) -> NDArray[np.float32]:
    """Return (N,) scalar products, or those of the rows at ``positions``."""
    if matrix.dtype == np.float32 and positions is None:
        return np.asarray(matrix @ query)
    count = len(matrix) if positions is None else len(positions)
    scores = np.empty(count, dtype=np.float32)
    for start in range(0, count, _BLOCK):
        end = min(start + _BLOCK, count)
        rows = matrix[start:end] if positions is None else matrix[positions[start:end]]
        np.matmul(rows.astype(np.float32, copy=False), query, out=scores[start:end])
    return scores
