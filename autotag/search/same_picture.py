"""Decides by their pixels whether two photographs are the same picture, at any size, quality or brightness.

Each photograph is reduced to a grey thumbnail of 64x64, whatever its shape. Pairs whose coarse versions
correlate are candidates; for each, the change of frame between the two is estimated (Lucas and Kanade, "An
iterative image registration technique", IJCAI 1981, coarse to fine), so that a slight crop does not matter,
and what remains is compared in its details, where two photographs of similar things differ. Pages of text are
alike at 64x64, so that pictures on a flat ground are compared again at 256x256.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

SIDE = 64
"""Width and height of a grey thumbnail."""

SAME = 0.8
"""The least likeness of the details at which two pictures are the same."""

MOST_LOCAL = 1.25
"""The greatest difference of the details in one of 8x8 fields, relative to them, that is allowed."""

PAGE_SIDE = 256
"""Width and height of a grey thumbnail of a page."""

LEAST_PAGE = 400
"""The shortest side, in pixels, of a picture whose text can be told apart in such a thumbnail."""

_FLAT = 0.35  # of a page is within four grey levels of its ground
_MOST_LOCAL_ON_PAGES = 0.9
_COARSE = 12
_NEAR = 0.82  # correlation of the coarse versions of candidates; light crops keep 0.83 and more
_LEAST_CONTRAST = 2.0  # grey levels; pictures with less have no details to compare
_ROWS = 256  # thumbnails compared with all others at once
_MOST_CANDIDATES = 100  # of one picture, the nearest; bounds the work for pictures that all look alike
_PAIRS = 256  # pairs aligned at once: some 30 MB
_LEVELS = ((4, 6, 0.4), (2, 3, 0.5), (1, 2, 0.0))  # shrink factor, steps, least likeness to go on
_PAGE_LEVELS = ((16, 6, 0.0), (8, 3, 0.0), (4, 2, 0.0), (1, 1, 0.0))
_MOST_ZOOM = 1.25
_MOST_SHIFT = 0.2  # of the side


def grey_thumbnail(image: Image.Image, side: int = SIDE) -> NDArray[np.uint8]:
    """Return (side, side) grey levels of an image, stretched to a square."""
    grey = image.convert("L").resize((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.asarray(grey, dtype=np.uint8)


def same_pictures(
    thumbnails: NDArray[np.uint8],
    are_apart: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]],
    is_same: Callable[[int, int], bool] = lambda _one, _other: True,
) -> dict[int, tuple[int, float]]:
    """Return position -> position of the first thumbnail that shows the same picture, and their likeness.

    Thumbnails that come first, or whose picture is there once, are no keys. Each was compared with its own
    first, so that no chain of small changes leads to another picture. Memory grows with the number of
    thumbnails, not with its square.

    Args:
        thumbnails: (N, 64, 64), the preferred ones first.
        are_apart: told two arrays of positions, says which pairs are known to differ.
        is_same: told the positions of two that are alike, says whether they are the same at a closer look.
    """
    coarse = _coarse(thumbnails)
    firsts: dict[int, tuple[int, float]] = {}
    is_open = np.ones(len(coarse), dtype=np.bool_)
    for start in range(0, len(coarse), _ROWS):
        rows = start + np.flatnonzero(is_open[start : start + _ROWS])
        columns = start + np.flatnonzero(is_open[start:])
        ones, others = _candidates(coarse, rows, columns)
        are_possible = ~are_apart(ones, others)
        ones, others = ones[are_possible], others[are_possible]
        found, local = likenesses(thumbnails[ones], thumbnails[others])
        for pair in np.flatnonzero((found >= SAME) & (local <= MOST_LOCAL)):
            one, other = int(ones[pair]), int(others[pair])
            if is_open[one] and is_open[other] and is_same(one, other):
                firsts[other] = (one, float(found[pair]))
                is_open[other] = False
    return firsts


def _candidates(
    coarse: Floats, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs, the smaller position first and ascending, whose coarse versions are near."""
    likeness = coarse[rows] @ coarse[columns].T
    first, second = np.nonzero(likeness >= _NEAR)
    is_later = columns[second] > rows[first]
    first, second = first[is_later], second[is_later]
    counts = np.bincount(first, minlength=len(rows))
    if len(first) and counts.max() > _MOST_CANDIDATES:
        best = np.lexsort((-likeness[first, second], first))
        place = np.arange(len(best)) - np.repeat(np.cumsum(counts) - counts, counts)
        kept = np.sort(best[place < _MOST_CANDIDATES])
        first, second = first[kept], second[kept]
    return rows[first], columns[second]


def coarse_likeness(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the correlation in [-1, 1] of two coarse thumbnails; 0 where one has no contrast."""
    first, second = _coarse(np.stack([one, other]))
    return float(first @ second)


def _coarse(thumbnails: NDArray[np.uint8]) -> Floats:
    """Return (N, 144) rows of mean 0 and length 1; rows of 0 for pictures without contrast."""
    rows = np.empty((len(thumbnails), _COARSE * _COARSE), dtype=np.float32)
    for place, thumbnail in enumerate(thumbnails):
        small = Image.fromarray(thumbnail).resize((_COARSE, _COARSE), Image.Resampling.BOX)
        rows[place] = np.asarray(small, dtype=np.float32).ravel()
    rows -= rows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows[lengths[:, 0] < _LEAST_CONTRAST * _COARSE] = 0
    return np.asarray(rows / np.maximum(lengths, 1e-6), dtype=np.float32)


def likenesses(ones: NDArray[np.uint8], others: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """Return the likeness of pairs of pictures in [-1, 1], and their greatest local difference, both (M,).

    The same picture has ``SAME`` or more of the first and ``MOST_LOCAL`` or less of the second; where
    something moved between two photographs, the second is greater.

    Args:
        ones: (M, 64, 64) thumbnails.
        others: (M, 64, 64) thumbnails.
    """
    likeness = np.zeros(len(ones), dtype=np.float32)
    local = np.full(len(ones), np.inf, dtype=np.float32)
    for start in range(0, len(ones), _PAIRS):
        part = slice(start, start + _PAIRS)
        one, other = ones[part].astype(np.float32), others[part].astype(np.float32)
        likeness[part], local[part] = _compared(one, other)
        unsure = np.flatnonzero((likeness[part] >= SAME) & (local[part] > MOST_LOCAL))
        if len(unsure):  # the frame of the larger picture is estimated better from the smaller one
            _, again = _compared(other[unsure], one[unsure])
            local[start + unsure] = np.minimum(local[start + unsure], again)
    return likeness, local


def is_flat(thumbnail: NDArray[np.uint8]) -> bool:
    """Return whether much of a thumbnail has one grey level, as pages, screenshots and drawings do."""
    levels = np.bincount(thumbnail.ravel(), minlength=256)
    ground = int(levels.argmax())
    return bool(levels[max(ground - 4, 0) : ground + 5].sum() >= _FLAT * thumbnail.size)


def same_page(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Return whether two thumbnails (256, 256) that are alike show the same text."""
    first, second = one[None].astype(np.float32), other[None].astype(np.float32)
    return any(
        _compared(*pair, _PAGE_LEVELS)[1][0] <= _MOST_LOCAL_ON_PAGES
        for pair in ((first, second), (second, first))
    )


def _compared(
    ones: Floats, others: Floats, levels: Sequence[tuple[int, int, float]] = _LEVELS
) -> tuple[Floats, Floats]:
    """Align pairs coarse to fine; pairs that are unlike at one level are left out of the next."""
    likeness = np.zeros(len(ones), dtype=np.float32)
    local = np.full(len(ones), np.inf, dtype=np.float32)
    left = np.arange(len(ones))
    frames = np.tile(np.asarray([1, 1, 0, 0], dtype=np.float32), (len(ones), 1))
    for factor, steps, least in levels:
        if not len(left):
            break
        one, other = _shrunk(ones[left], factor), _shrunk(others[left], factor)
        frames = _aligned(one, other, frames, steps)
        moved, inside = _seen(one, frames)
        one_details, other_details = _details(moved), _details(other)
        likeness[left] = _correlation(one_details, other_details, inside)
        if factor == 1:
            local[left] = _greatest_difference(one_details, other_details, inside)
        on = likeness[left] >= least
        left, frames = left[on], frames[on]
    return likeness, local


def _shrunk(pictures: Floats, factor: int) -> Floats:
    """Return pictures whose pixels are the means of factor x factor pixels."""
    return _every(_every(pictures, factor), factor, axis=2) / np.float32(factor**2)


def _every(pictures: Floats, factor: int, *, axis: int = 1) -> Floats:
    """Return the sums of so many neighbours along an axis."""
    return np.asarray(
        np.add.reduceat(pictures, np.arange(0, pictures.shape[axis], factor), axis=axis), dtype=np.float32
    )


def _aligned(ones: Floats, others: Floats, frames: Floats, steps: int) -> Floats:
    """Return frames (M, 4), zoom and shift in x and y, through which the ones look like the others.

    Each step solves the least squares problem that is linear in frame, brightness and contrast.
    """
    count, side, _ = ones.shape
    places = _places(side)
    down, right = (gradient * side for gradient in np.gradient(ones, axis=(1, 2)))
    for _ in range(steps):
        seen, inside = _seen(ones, frames)
        in_x, in_y = _seen(right, frames)[0], _seen(down, frames)[0]
        columns = np.stack(
            [seen, np.ones_like(seen), in_x * places, in_y * places[:, None], in_x, in_y], axis=1
        ).reshape(count, 6, -1)
        weighted = columns * inside.reshape(count, 1, -1)
        normal = weighted @ columns.transpose(0, 2, 1) + np.eye(6, dtype=np.float32) * 1e-3
        found = np.linalg.solve(normal, weighted @ others.reshape(count, -1, 1))[:, :, 0]
        contrast = np.maximum(found[:, :1], 0.1)
        frames = frames + np.clip(found[:, 2:] / contrast, -0.05, 0.05)
        frames[:, :2] = np.clip(frames[:, :2], 1 / _MOST_ZOOM, _MOST_ZOOM)
        frames[:, 2:] = np.clip(frames[:, 2:], -_MOST_SHIFT, _MOST_SHIFT)
    return frames


def _seen(pictures: Floats, frames: Floats) -> tuple[Floats, Floats]:
    """Return the pictures seen through frames, interpolated linearly, and 1 where a pixel lies inside."""
    across, across_inside = _interpolation(frames[:, 0:1], frames[:, 2:3], pictures.shape[1])
    down, down_inside = _interpolation(frames[:, 1:2], frames[:, 3:4], pictures.shape[1])
    inside = down_inside[:, :, None] * across_inside[:, None, :]
    return np.asarray(down @ pictures @ across.transpose(0, 2, 1), dtype=np.float32), inside


def _interpolation(zoom: Floats, shift: Floats, side: int) -> tuple[Floats, Floats]:
    """Return (M, side, side) weights of the old pixels in each new one, and 1 for new pixels inside."""
    pixels = (zoom * _places(side) + shift) * np.float32(side) - np.float32(0.5)
    inside = (pixels >= -0.5) & (pixels <= side - 0.5)
    distance = np.abs(np.clip(pixels, 0, side - 1)[:, :, None] - np.arange(side, dtype=np.float32))
    weights = np.maximum(1 - distance, 0)
    return weights.astype(np.float32, copy=False), inside.astype(np.float32)


def _places(side: int) -> Floats:
    """Return the middles of the pixels along a side of length 1."""
    return ((np.arange(side) + 0.5) / side).astype(np.float32)


def _details(pictures: Floats) -> Floats:
    """Return pictures less their mean over 5x5 pixels."""
    padded = np.pad(pictures, ((0, 0), (2, 2), (2, 2)), mode="edge")
    means = np.lib.stride_tricks.sliding_window_view(padded, 5, axis=1).sum(axis=-1)
    means = np.lib.stride_tricks.sliding_window_view(means, 5, axis=2).sum(axis=-1)
    return np.asarray(pictures - means / 25, dtype=np.float32)


def _correlation(ones: Floats, others: Floats, inside: Floats) -> Floats:
    product = (inside * ones * others).sum(axis=(1, 2))
    lengths = (inside * ones**2).sum(axis=(1, 2)) * (inside * others**2).sum(axis=(1, 2))
    return np.asarray(product / np.maximum(np.sqrt(lengths), 1e-6), dtype=np.float32)


def _greatest_difference(ones: Floats, others: Floats, inside: Floats) -> Floats:
    """Return the greatest squared difference of details in fields of 8x8 pixels, relative to the field's."""
    count = ones.shape[1] // 8

    def fields(values: Floats) -> Floats:
        return np.asarray(values.reshape(len(values), count, 8, count, 8).sum(axis=(2, 4)))

    one, other, both = fields(inside * ones**2), fields(inside * others**2), fields(inside * ones * others)
    contrast = np.sqrt(other.sum(axis=(1, 2)) / np.maximum(one.sum(axis=(1, 2)), 1e-6))[:, None, None]
    difference = one * contrast**2 + other - 2 * contrast * both
    noise = 9.0 * 8 * 8  # squares of three grey levels over a field
    relative = difference / (np.maximum(one * contrast**2, other) + noise)
    return np.asarray(relative.max(axis=(1, 2)), dtype=np.float32)
