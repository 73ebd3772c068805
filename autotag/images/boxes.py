"""Rectangles in an image, as (N, 4) arrays of left, top, right, bottom in pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


_CROWDS = 128
"""Crowded boxes are kept one by one, up to this number. What is left is scattered, and pairs are faster."""
_FEW_PAIRS = 400_000  # that are looked at in less time than 128 boxes one by one
_MOST_PAIRS = 4_000_000


def inside(
    boxes: NDArray[np.floating], width: float, height: float
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Cut boxes at the edges of an image, and leave out boxes without anything left.

    Args:
        boxes: (N, 4) left, top, right, bottom; values may be outside the image or not finite.
        width: of the image, in pixels.
        height: of the image, in pixels.

    Returns:
        The M <= N boxes that have an area inside the image, (M, 4), and their indices, (M,), ascending. A box
        with a value that is not a number has no area; an infinite value is cut like any other.
    """
    cut = np.clip(np.asarray(boxes, dtype=np.float64).reshape(-1, 4), 0, [width, height, width, height])
    whole = ~np.isnan(cut).any(axis=1)
    kept = np.flatnonzero(whole & (cut[:, 2] > cut[:, 0]) & (cut[:, 3] > cut[:, 1]))
    return cut[kept], kept


def best_of_overlapping(
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    overlap: float,
    groups: NDArray[np.integer] | None = None,
) -> NDArray[np.intp]:
    """Return the boxes that non-maximum suppression keeps, best first.

    The best box stays, and every other of its group that overlaps it by more than ``overlap`` goes; then the
    next best that is left stays, and so on (greedy NMS, as in ``torchvision.ops.nms``). Equal scores are
    taken in the order of the boxes.

    Args:
        boxes: (N, 4) left, top, right, bottom, finite.
        scores: (N,).
        overlap: intersection over union, in [0, 1].
        groups: (N,) labels; boxes of two labels never suppress each other. None for one group.

    Returns:
        (M,) indices into ``boxes``.
    """
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    if groups is not None and len(corners):
        apart = corners.max() - corners.min() + 1  # moves each group to a place of its own
        corners = corners + (np.asarray(groups) * apart)[:, None]
    left = np.argsort(-np.asarray(scores), kind="stable")
    sides = np.ascontiguousarray(corners[left].T)
    sides = np.vstack([sides, (sides[2] - sides[0]) * (sides[3] - sides[1])])
    kept: list[np.intp] = []
    while len(left):
        if len(kept) in {0, _CROWDS}:
            alone = _without_pairs(sides, overlap, _MOST_PAIRS if kept else _FEW_PAIRS)
            if alone is not None:
                kept.extend(left[alone])
                break
        kept.append(left[0])
        first, others = sides[:, 0], sides[:, 1:]
        across = np.minimum(others[2], first[2]) - np.maximum(others[0], first[0])
        down = np.minimum(others[3], first[3]) - np.maximum(others[1], first[1])
        both = np.maximum(across, 0) * np.maximum(down, 0)
        stay = both <= overlap * (others[4] + first[4] - both)
        left, sides = left[1:][stay], others[:, stay]
    return np.array(kept, dtype=np.intp)


def _without_pairs(sides: NDArray[np.float64], overlap: float, most: int) -> NDArray[np.bool_] | None:
    """Return which boxes greedy suppression keeps, from the pairs of boxes that share enough columns.

    Two boxes overlap by no more than their sides do, so the second of a pair begins before ``overlap`` of the
    first one's width is left.

    Args:
        sides: (5, N) left, top, right, bottom and area, best box first.
        overlap: see ``best_of_overlapping``.
        most: pairs to look at.

    Returns:
        (N,); None where there are more pairs.
    """
    order = np.argsort(sides[0], kind="stable")
    left, right = sides[0, order], sides[2, order]
    places = np.arange(len(order))
    last = right - overlap * (1 - 1e-9) * (right - left)  # a little more, against rounding
    counts = np.maximum(np.searchsorted(left, last, side="right") - places - 1, 0)
    if int(counts.sum()) > most:
        return None
    top, bottom, area = sides[1, order], sides[3, order], sides[4, order]
    other = np.arange(int(counts.sum())) + np.repeat(places + 1 - (np.cumsum(counts) - counts), counts)
    down = np.minimum(np.repeat(bottom, counts), bottom[other]) - np.maximum(
        np.repeat(top, counts), top[other]
    )
    close = np.flatnonzero(down > 0)
    one, other, down = np.repeat(places, counts)[close], other[close], down[close]
    both = np.maximum(np.minimum(right[one], right[other]) - left[other], 0) * down
    hit = both > overlap * (area[one] + area[other] - both)
    one, other = order[one[hit]], order[other[hit]]
    better, worse = np.minimum(one, other), np.maximum(one, other)
    kept = np.ones(len(order), dtype=bool)
    by_rank = np.argsort(better, kind="stable")
    for first, second in zip(better[by_rank].tolist(), worse[by_rank].tolist(), strict=True):
        if kept[first]:
            kept[second] = False
    return kept
