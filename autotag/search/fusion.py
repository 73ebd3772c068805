"""Joins ranked lists whose scores cannot be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

DAMPING = 60
"""The constant of reciprocal rank fusion, as its authors chose it."""


def reciprocal_ranks(rankings: Sequence[Sequence[int]]) -> dict[int, float]:
    """Return id -> score, best first: the sum over rankings of 1 / (60 + rank), ranks from 1.

    Equal scores are ordered by id. Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms
    Condorcet and individual rank learning methods", SIGIR 2009.
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, found in enumerate(ranking, 1):
            scores[found] = scores.get(found, 0.0) + 1 / (DAMPING + rank)
    return dict(sorted(scores.items(), key=lambda entry: (-entry[1], entry[0])))
