"""The eleven basic colour terms (Berlin and Kay 1969), each by a few points in RGB."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLOURS = {
    "black": ((15, 15, 15),),
    "white": ((250, 250, 250),),
    "grey": ((80, 80, 80), (130, 130, 130), (195, 190, 185)),
    "red": ((190, 30, 30), (120, 25, 25)),
    "orange": ((235, 120, 40), (250, 180, 110)),
    "yellow": ((240, 220, 50), (250, 240, 150)),
    "green": ((40, 140, 50), (40, 70, 40), (150, 190, 120)),
    "blue": ((50, 90, 190), (35, 45, 85), (150, 190, 230)),
    "purple": ((120, 50, 150),),
    "pink": ((240, 140, 190), (250, 200, 220)),
    "brown": ((110, 70, 40), (70, 45, 25), (165, 120, 85)),
}
NAMES = tuple(COLOURS)
_POINTS = np.array([point for points in COLOURS.values() for point in points], dtype=np.float32)
_OWNERS = np.repeat(np.arange(len(NAMES)), [len(points) for points in COLOURS.values()])
_SIDE = 64


def colour_shares(image: Image.Image) -> NDArray[np.float32]:
    """(11,) float32, sum 1: the share of pixels whose nearest colour this is, in the order of ``NAMES``."""
    small = image.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    pixels = np.asarray(small, dtype=np.float32).reshape(-1, 1, 3)
    nearest = np.linalg.norm(pixels - _POINTS, axis=2).argmin(axis=1)
    counts = np.bincount(_OWNERS[nearest], minlength=len(NAMES)).astype(np.float32)
    shares: NDArray[np.float32] = counts / counts.sum()
    return shares
