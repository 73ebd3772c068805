"""The eleven basic colour terms (Berlin and Kay 1969), each by one point in RGB."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "red": (200, 30, 30),
    "orange": (240, 130, 30),
    "yellow": (240, 220, 50),
    "green": (40, 140, 50),
    "blue": (50, 90, 190),
    "purple": (120, 50, 150),
    "pink": (240, 150, 180),
    "brown": (110, 70, 40),
}
NAMES = tuple(COLOURS)
_POINTS = np.array(list(COLOURS.values()), dtype=np.float32)
_SIDE = 64


def colour_shares(image: Image.Image) -> NDArray[np.float32]:
    """(11,) float32, sum 1: the share of pixels whose nearest colour this is, in the order of ``NAMES``."""
    small = image.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    pixels = np.asarray(small, dtype=np.float32).reshape(-1, 1, 3)
    nearest = np.linalg.norm(pixels - _POINTS, axis=2).argmin(axis=1)
    counts = np.bincount(nearest, minlength=len(NAMES)).astype(np.float32)
    shares: NDArray[np.float32] = counts / counts.sum()
    return shares
