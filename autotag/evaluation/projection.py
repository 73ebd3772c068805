"""Vectors in a plane, to look at: principal component analysis (Pearson 1901; Hotelling 1933)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def principal_plane(vectors: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean (D,) of some vectors (N, D), and the two directions (2, D) in which they differ most.

    Directions have length 1, and their largest component is positive, so that the same vectors give the same
    picture; where there are fewer, they are zeros.
    """
    rows = np.asarray(vectors, dtype=np.float64)
    mean = rows.mean(axis=0)
    _, sizes, directions = np.linalg.svd(rows - mean, full_matrices=False)
    plane = np.zeros((2, rows.shape[1]))
    for number in range(min(2, int((sizes > 1e-9).sum()))):
        direction = directions[number]
        plane[number] = direction * np.sign(direction[np.argmax(np.abs(direction))])
    return mean, plane
