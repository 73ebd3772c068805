"""A detector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from autotag.protocols import ModelRequest
from autotag.records import Detection

_BRIGHT = 200  # of 255


class BrightDetector:
    """Finds the one box around all pixels that are bright in a picture which is not.

    Its score is the share of bright pixels in the box. A picture that is bright or dark all over has none.
    """

    image_size = 64

    @classmethod
    def load(cls, request: ModelRequest) -> BrightDetector:  # noqa: ARG003 - every factory is given one
        """What the entry point names."""
        return cls()

    def detect(self, images: Sequence[Image.Image], /) -> list[list[Detection]]:
        """Per image no detection or one, its box in pixels of the image handed in."""
        return [_bright_box(image) for image in images]


def _bright_box(image: Image.Image) -> list[Detection]:
    bright = np.asarray(image.convert("L")) >= _BRIGHT
    if bright.all() or not bright.any():
        return []
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    share = float(bright[top:bottom, left:right].mean())
    return [Detection("bright region", share, (float(left), float(top), float(right), float(bottom)))]
