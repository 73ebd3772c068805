"""Group photographs that must not be on both sides of a test: of one event, of one burst, or near copies."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Places = NDArray[np.intp]

PAUSE = timedelta(hours=3)
"""A longer time without a photograph in a folder ends an event."""

NEAR_COPY = 0.97
"""Two photographs with this cosine or a higher one count as copies."""

_ROWS_AT_ONCE = 1024


def events(folders: Sequence[str], taken: Sequence[str | None], vectors: Floats) -> Places:
    """Return the number of each photograph's event, (N,), counted from 0.

    Photographs of one folder between which no pause of ``PAUSE`` lies are of one event. A photograph without
    a time is an event of its own. Events that share near copies are joined.

    Args:
        folders: the folder of each photograph.
        taken: when each was taken, ISO 8601 without time zone, or None.
        vectors: (N, D) float32 unit vectors.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones, others = _near_copies(vectors)
    timed = sorted((folder, moment, place) for place, (folder, moment) in enumerate(_moments(folders, taken)))
    for (folder, moment, place), (before, earlier, neighbour) in zip(timed[1:], timed[:-1], strict=True):
        if folder == before and moment - earlier <= PAUSE and datetime.min not in (moment, earlier):
            ones.append(place)
            others.append(neighbour)
    links = coo_array((np.ones(len(ones)), (ones, others)), shape=(len(vectors), len(vectors)))
    _, found = connected_components(links, directed=False)
    return np.asarray(found, dtype=np.intp)


def _moments(folders: Sequence[str], taken: Sequence[str | None]) -> list[tuple[str, datetime]]:
    return [
        (folder, datetime.fromisoformat(moment) if moment else datetime.min)
        for folder, moment in zip(folders, taken, strict=True)
    ]


def _near_copies(vectors: Floats) -> tuple[list[int], list[int]]:
    """Return the pairs of photographs that are near copies."""
    ones: list[int] = []
    others: list[int] = []
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        cosines = vectors[start : start + _ROWS_AT_ONCE] @ vectors[start:].T
        near, far = np.nonzero(cosines >= NEAR_COPY)
        later = far > near
        ones += (near[later] + start).tolist()
        others += (far[later] + start).tolist()
    return ones, others


def folds(groups: Places, count: int, *, seed: int = 0) -> Places:
    """Return the fold of each photograph, (N,), counted from 0: groups stay whole, folds get equally large.

    Args:
        groups: (N,) the group of each photograph.
        count: number of folds.
        seed: for the order of groups of the same size.
    """
    names, sizes = np.unique(groups, return_counts=True)
    mixed = np.random.default_rng(seed).permutation(len(names))
    order = mixed[np.argsort(-sizes[mixed], kind="stable")]
    held = np.zeros(count, dtype=np.intp)
    fold_of = np.zeros(len(names), dtype=np.intp)
    for name in order:
        fold_of[name] = int(np.argmin(held))
        held[fold_of[name]] += sizes[name]
    return fold_of[np.searchsorted(names, groups)]
