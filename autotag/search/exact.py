"""Exact nearest neighbours: one matrix product over the rows that a filter leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32] | NDArray[np.float16]

_BLOCK = 256  # rows that are gathered or widened together: half a megabyte, which stays in the cache
_LONG_RUN = 64  # rows beside one another, on average, that are multiplied where they are
_EXPONENTS_APART = np.float32(2.0**112)  # biases of float32 and float16: 127 - 15
_NO_COPIED_SIGN = np.int32(-0x70000001)  # all bits but 28 to 30


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
    if positions is not None and 2 * len(positions) > len(matrix):  # to gather most rows takes longer
        scores = _products(matrix, query, None)[positions]
    else:
        scores = _products(matrix, query, positions)
    if len(scores) > k:
        cut = np.partition(scores, len(scores) - k)[len(scores) - k]
        candidates = np.flatnonzero(scores >= cut)
    else:
        candidates = np.arange(len(scores))
    best = candidates[np.lexsort((candidates, -scores[candidates]))][:k]
    return (best if positions is None else positions[best]), scores[best]


def widened(rows: Matrix) -> NDArray[np.float32]:
    """Return rows as float32."""
    if rows.dtype == np.float32:
        return np.ascontiguousarray(rows, dtype=np.float32)
    bits = _moved(rows.view(np.int16).astype(np.int32)).view(np.float32)
    bits *= _EXPONENTS_APART
    return bits


def _moved(bits: NDArray[np.int32]) -> NDArray[np.int32]:
    """Move the bits of float16, whose sign is extended, to their places in a float32, in place."""
    bits <<= 13  # ten bits of a mantissa become 23
    bits &= _NO_COPIED_SIGN
    return bits


def _products(
    matrix: Matrix, query: NDArray[np.float32], positions: NDArray[np.int64] | None
) -> NDArray[np.float32]:
    """Return (N,) scalar products, or those of the rows at ``positions``, ascending.

    A filter by folder or date leaves long runs of rows, as photographs are indexed folder by folder.
    """
    if positions is not None and (runs := _long_runs(positions)):
        return np.concatenate([_products(matrix[start:end], query, None) for start, end in runs])
    if matrix.dtype == np.float16:
        return _products_of_halves(matrix, query, positions)
    if positions is None:
        return np.asarray(matrix @ query)
    scores = np.empty(len(positions), dtype=np.float32)
    rows = np.empty((min(_BLOCK, len(positions)), matrix.shape[1]), dtype=np.float32)
    for start in range(0, len(positions), _BLOCK):
        some = positions[start : start + _BLOCK]
        gathered = np.take(matrix, some, axis=0, out=rows[: len(some)], mode="clip")  # "raise" would copy
        np.matmul(gathered, query, out=scores[start : start + len(some)])
    return scores


def _long_runs(positions: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return start and end of each run of positions without a gap; nothing where runs are short."""
    last = np.flatnonzero(np.diff(positions, append=-1) != 1)
    if not len(positions) or len(last) * _LONG_RUN > len(positions):
        return []
    first = np.append(0, last[:-1] + 1)
    return list(zip(positions[first].tolist(), (positions[last] + 1).tolist(), strict=True))


def _products_of_halves(
    matrix: Matrix, query: NDArray[np.float32], positions: NDArray[np.int64] | None
) -> NDArray[np.float32]:
    """Return the products of finite float16 rows; moving bits is several times faster than ``astype``.

    The exponent of a float16 that is moved to the place of a float32's is too small by 112. The query is
    multiplied by 2**112 instead of every row; powers of two change no digit.
    """
    count = len(matrix) if positions is None else len(positions)
    raw = matrix.view(np.int16)
    scores = np.empty(count, dtype=np.float32)
    bits = np.empty((min(_BLOCK, count), matrix.shape[1]), dtype=np.int32)
    raised = query * _EXPONENTS_APART
    for start in range(0, count, _BLOCK):
        end = min(start + _BLOCK, count)
        some = bits[: end - start]
        some[...] = raw[start:end] if positions is None else raw[positions[start:end]]  # the sign is extended
        np.matmul(_moved(some).view(np.float32), raised, out=scores[start:end])
    return scores
