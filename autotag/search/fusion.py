"""Joins ranked lists whose scores cannot be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

DAMPING = 60
"""The constant of reciprocal rank fusion, as its authors chose it."""

ANY_WORD = 0.2
"""The weight of the ranking of photographs whose texts hold any of several words."""

EVERY_WORD = 1 - ANY_WORD
"""That of photographs whose texts hold all of them, which are in both rankings."""


def reciprocal_ranks(
    rankings: Sequence[Sequence[int]], weights: Sequence[float] | None = None
) -> dict[int, float]:
    """Return id -> score, best first: the sum over rankings of weight / (60 + rank), ranks from 1.

    Args:
        rankings: ids, best first.
        weights: of the rankings; None for 1 each.

    Equal scores are ordered by id. Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms
    Condorcet and individual rank learning methods", SIGIR 2009.
    """
    scores: dict[int, float] = {}
    for ranking, weight in zip(rankings, weights or [1.0] * len(rankings), strict=True):
        for rank, found in enumerate(ranking, 1):
            scores[found] = scores.get(found, 0.0) + weight / (DAMPING + rank)
    return dict(sorted(scores.items(), key=lambda entry: (-entry[1], entry[0])))
