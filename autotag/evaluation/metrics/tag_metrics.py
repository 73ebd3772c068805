"""Measures of tags: precision, recall, F1 and mean average precision over a set of labels.

Precision, recall and F1 equal those of scikit-learn with ``zero_division=0``; average precision equals its
``average_precision_score``, without interpolation. RAM (arXiv:2306.03514) reports the same: the mean over
labels at one threshold, where a label that is never given has precision 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Average = Literal["micro", "macro"]


def count_rows(given: NDArray[np.bool_], true: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return each image's counts: (N, L), (N, L) -> (N, 3 L).

    The columns are: labels given and true, labels given, labels true.

    Raises:
        ValueError: the shapes differ.
    """
    if given.shape != true.shape:
        raise ValueError(f"given and true labels need equal shapes, not {given.shape} and {true.shape}")
    return np.concatenate([given & true, given, true], axis=1).astype(np.float64)


def precision(sums: NDArray[np.float64], average: Average) -> NDArray[np.float64]:
    """Return the precision, in [0, 1], from sums of ``count_rows``: (..., 3 L) -> (...)."""
    right, given, _ = _counts(sums, average)
    return _mean_over_labels(_ratio(right, given))


def recall(sums: NDArray[np.float64], average: Average) -> NDArray[np.float64]:
    """Return the recall, in [0, 1], from sums of ``count_rows``: (..., 3 L) -> (...)."""
    right, _, true = _counts(sums, average)
    return _mean_over_labels(_ratio(right, true))


def f1(sums: NDArray[np.float64], average: Average) -> NDArray[np.float64]:
    """Return F1, in [0, 1], from sums of ``count_rows``: (..., 3 L) -> (...).

    F1 is the harmonic mean of precision and recall; ``"macro"`` is the mean of the labels' own F1.
    """
    right, given, true = _counts(sums, average)
    return _mean_over_labels(_ratio(2 * right, given + true))


def average_precision(
    scores: NDArray[np.floating], true: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the average precision of one label over N images, for B weightings of the images.

    Args:
        scores: (N,); ``-inf`` where the label was not given. Equal scores are one step of the curve.
        true: (N,), whether each image has the label.
        weights: (B, N), how often each image counts; None for once each, with B = 1.

    Returns:
        (B,) in [0, 1]; NaN where no image with the label counts.
    """
    weights = np.ones((1, len(scores))) if weights is None else weights
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    ordered = np.asarray(scores)[order]
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    counted = weights[:, order]
    found = np.cumsum(counted * true[order], axis=1)[:, ends]
    looked_at = np.cumsum(counted, axis=1)[:, ends]
    total = found[:, -1]
    steps = np.diff(found, axis=1, prepend=0.0)
    area = (steps * _ratio(found, looked_at)).sum(axis=1)
    return np.where(total > 0, area / np.where(total > 0, total, 1.0), np.nan)


def mean_average_precision(
    scores: NDArray[np.floating], true: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the mean of ``average_precision`` over the labels in use: (N, L), (N, L) -> (B,).

    Raises:
        ValueError: the shapes differ, or no image has a label.
    """
    if scores.shape != true.shape:
        raise ValueError(f"scores and true labels need equal shapes, not {scores.shape} and {true.shape}")
    if not true.any():
        raise ValueError("mean average precision needs an image with a label")
    parts = [average_precision(scores[:, label], true[:, label], weights) for label in range(true.shape[1])]
    stacked = np.stack(parts)
    known = ~np.isnan(stacked)
    return _ratio(np.where(known, stacked, 0.0).sum(axis=0), known.sum(axis=0).astype(np.float64))


def _counts(
    sums: NDArray[np.float64], average: Average
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Split sums into right, given and true counts: (..., L) each, or (..., 1) for ``"micro"``."""
    counts = sums.reshape(*sums.shape[:-1], 3, -1)
    if average == "micro":
        counts = counts.sum(axis=-1, keepdims=True)
    return counts[..., 0, :], counts[..., 1, :], counts[..., 2, :]


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``part / whole``, or 0 where ``whole`` is 0."""
    ratio: NDArray[np.float64] = np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), 0.0)
    return ratio


def _mean_over_labels(ratios: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(ratios.mean(axis=-1), dtype=np.float64)
