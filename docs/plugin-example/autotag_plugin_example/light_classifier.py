"""A classifier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autotag.protocols import ModelRequest


class LightClassifier:
    """Says how light and how dark a picture is."""

    labels = ("light", "dark")
    exclusive = True
    image_size = 64

    @classmethod
    def load(cls, request: ModelRequest) -> LightClassifier:  # noqa: ARG003 - every factory is given one
        """What the entry point names."""
        return cls()

    def classify(self, images: Sequence[Image.Image], /) -> NDArray[np.float32]:
        """Per image the mean brightness, and what is missing to white: (B, 2), from 0 to 1."""
        light = np.array([np.asarray(image.convert("L")).mean() / 255 for image in images], dtype=np.float32)
        return np.stack([light, 1 - light], axis=1)
