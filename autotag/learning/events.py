"""Group photographs that must not be on both sides of a test: of one event, of one burst, or near copies."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import combinations_with_replacement
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
_LINKS_AT_ONCE = 2**18


def events(folders: Sequence[str], taken: Sequence[str | None], vectors: Floats) -> Places:
    """Return the number of each photograph's event, (N,), counted from 0.

    Photographs of one folder between which no pause of ``PAUSE`` lies are of one event. A photograph without
    a time is an event of its own. Events that share near copies are joined.

    Args:
        folders: the folder of each photograph.
        taken: when each was taken, ISO 8601 without time zone, or None.
        vectors: (N, D) float32 unit vectors.
    """
    timed = sorted((folder, moment, place) for place, (folder, moment) in enumerate(_moments(folders, taken)))
    links = [
        (place, neighbour)
        for (folder, moment, place), (before, earlier, neighbour) in zip(timed[1:], timed[:-1], strict=True)
        if folder == before and moment - earlier <= PAUSE and datetime.min not in (moment, earlier)
    ]
    return _joined(near_copies(vectors), np.array(links, dtype=np.intp).reshape(-1, 2))


def _moments(folders: Sequence[str], taken: Sequence[str | None]) -> list[tuple[str, datetime]]:
    return [
        (folder, datetime.fromisoformat(moment) if moment else datetime.min)
        for folder, moment in zip(folders, taken, strict=True)
    ]


def near_copies(vectors: Floats, *, cosine: float = NEAR_COPY) -> Places:
    """Return the group of each photograph, (N,), counted from 0: near copies are of one group.

    So are two photographs that others connect. The memory grows with N, not with the number of pairs.

    Args:
        vectors: (N, D) float32 unit vectors.
        cosine: of near copies, at least.
    """
    groups = np.arange(len(vectors), dtype=np.intp)
    links = np.empty((0, 2), dtype=np.intp)
    starts = range(0, len(vectors), _ROWS_AT_ONCE)
    for start, other in combinations_with_replacement(starts, 2):
        cosines = vectors[start : start + _ROWS_AT_ONCE] @ vectors[other : other + _ROWS_AT_ONCE].T
        pairs = np.argwhere(cosines >= cosine) + np.array((start, other))
        news = pairs[groups[pairs[:, 0]] != groups[pairs[:, 1]]]
        if len(news):
            links = np.concatenate([links, news])
        if len(links) > _LINKS_AT_ONCE:
            groups, links = _joined(groups, links), links[:0]
    return _joined(groups, links)


def _joined(groups: Places, links: Places) -> Places:
    """Return groups, (N,), joined where a link, (L, 2) places, is between two."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(links):
        return groups
    count = int(groups.max()) + 1
    ones, others = groups[links].T
    graph = coo_array((np.ones(len(links), dtype=np.int8), (ones, others)), shape=(count, count))
    joined: Places = connected_components(graph, directed=False)[1].astype(np.intp)[groups]
    return joined


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
