"""Projects vectors to a plane for charts: principal component analysis (Pearson 1901; Hotelling 1933)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def principal_plane(vectors: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean (D,) and the first two principal directions (2, D) of vectors (N, D).

    Directions have length 1, and their component of largest magnitude is positive, so that the same vectors
    give the same picture. If the vectors vary in fewer directions, the missing rows are zeros.
    """
    rows = np.asarray(vectors, dtype=np.float64)
    mean = rows.mean(axis=0)
    _, sizes, directions = np.linalg.svd(rows - mean, full_matrices=False)
    plane = np.zeros((2, rows.shape[1]))
    for number in range(min(2, int((sizes > 1e-9).sum()))):
        direction = directions[number]
        plane[number] = direction * np.sign(direction[np.argmax(np.abs(direction))])
    return mean, plane
