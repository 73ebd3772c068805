"""Judge a keyword's head on photographs that it has not seen, and choose its threshold there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Places = NDArray[np.intp]

REMOVED_COUNTS = 3
"""A tag that somebody took the trouble to remove counts as this many wrong ones for a threshold."""

_DRAWS = 400
_SURE = (2.5, 97.5)  # percent
_KNOWN_AFTER = (
    10  # photographs after which a keyword's own threshold counts as much as all keywords' together
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """Keep what cross-validation says of a keyword.

    Attributes:
        average_precision: in [0, 1].
        low: lower end of its 95 % bootstrap interval over groups of photographs.
        high: its upper end.
        by_chance: what a head that knows nothing does not exceed in 97.5 of 100 cases.
        threshold: the logit with the best F1.
    """

    average_precision: float
    low: float
    high: float
    by_chance: float
    threshold: float

    @property
    def is_learned(self) -> bool:
        """Return whether the whole interval lies above chance."""
        return self.low > self.by_chance


def judged(
    logits: Floats, given: Places, groups: Places, *, removed: Places | None = None, seed: int = 0
) -> Judgement:
    """Return the judgement of one keyword.

    Args:
        logits: (N,) float32, each from heads that did not see the photograph.
        given: places of the photographs with the keyword, at least one and not all.
        groups: (N,) the group of each photograph; the interval draws groups.
        removed: places of photographs from which people removed the keyword; for the threshold, each counts
            as ``REMOVED_COUNTS`` photographs without the keyword.
        seed: of the draws.
    """
    order = np.argsort(-logits, kind="stable")
    ranks = np.empty(len(order), dtype=np.intp)
    ranks[order] = np.arange(len(order))
    mine = given[np.argsort(ranks[given])]
    above = ranks[mine] - np.arange(len(mine))  # photographs without the keyword that rank higher
    worse = above
    if removed is not None and len(removed):
        worse = above + (REMOVED_COUNTS - 1) * np.searchsorted(np.sort(ranks[removed]), ranks[mine])
    draw = np.random.default_rng(seed)
    names, group = np.unique(groups[mine], return_inverse=True)
    drawn = draw.multinomial(len(names), np.full(len(names), 1 / len(names)), size=_DRAWS)[:, group]
    low, high = np.percentile(_average_precisions(drawn, above), _SURE)
    value = float(_average_precisions(np.ones((1, len(mine)), dtype=np.intp), above)[0])
    chance = np.array([_by_chance(draw, len(mine), len(order)) for _ in range(_DRAWS // 4)])
    return Judgement(
        value,
        min(float(low), value),
        max(float(high), value),
        float(np.percentile(chance, _SURE[1])),
        best_cut(logits[mine], worse),
    )


def average_precision(logits: Floats, given: Places) -> float:
    """Return the average precision of logits, (N,), for a keyword on the photographs at ``given``."""
    ranks = np.empty(len(logits), dtype=np.intp)
    ranks[np.argsort(-logits, kind="stable")] = np.arange(len(logits))
    mine = np.sort(ranks[given])
    return float((np.arange(1, len(mine) + 1) / (mine + 1)).mean())


def _average_precisions(weights: NDArray[np.intp], above: Places) -> NDArray[np.float64]:
    """Return the average precision of each draw.

    Args:
        weights: (draws, P) how often each photograph with the keyword was drawn, best rank first.
        above: (P,) how many photographs without it rank higher.
    """
    found = np.cumsum(weights, axis=1)
    precisions = found / np.maximum(found + above, 1)
    summed: NDArray[np.float64] = (weights * precisions).sum(axis=1) / np.maximum(found[:, -1], 1)
    return summed


def _by_chance(draw: np.random.Generator, positives: int, photographs: int) -> float:
    """Return the average precision of a random order."""
    ranks = np.sort(draw.choice(photographs, positives, replace=False))
    return float((np.arange(1, positives + 1) / (ranks + 1)).mean())


def best_cut(found: Floats, above: Places) -> float:
    """Return the logit with the best F1, one of a photograph with the keyword.

    Args:
        found: (P,) logits of the photographs with the keyword, highest first.
        above: (P,) how many photographs without it rank higher.
    """
    right = np.arange(1, len(found) + 1)
    f1 = 2 * right / (right + above + len(found))
    return float(found[int(np.argmax(f1))])


def settled(thresholds: Floats, counts: NDArray[np.intp]) -> Floats:
    """Return the thresholds of all keywords, those of few photographs drawn towards the median of all.

    Args:
        thresholds: (K,) logits.
        counts: (K,) photographs of each keyword.
    """
    if not len(thresholds):
        return thresholds
    share = counts / (counts + _KNOWN_AFTER)
    found: Floats = (share * thresholds + (1 - share) * np.median(thresholds)).astype(np.float32)
    return found
