"""An image-text encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autotag.language.phrases import words
from autotag.protocols import ModelRequest
from autotag_plugin_example.colours import NAMES, colour_shares


class ColourEncoder:
    """Embeds an image as its shares of eleven colours, and a text as the colours that it names.

    A text without a colour is as near to each of them.
    """

    id = "colour-histogram"
    image_size = 64

    @property
    def default_thresholds(self) -> Mapping[str, float]:
        """A colour counts when it is about a third as strong as all colours together."""
        return {"cosine": 0.3}

    @classmethod
    def load(cls, request: ModelRequest) -> ColourEncoder:  # noqa: ARG003 - every factory is given one
        """What the entry point names."""
        return cls()

    def embed_images(self, images: Sequence[Image.Image], /) -> NDArray[np.float32]:
        """(B, 11) float32, unit rows."""
        return _unit_rows([colour_shares(image) for image in images])

    def embed_texts(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """(T, 11) float32, unit rows."""
        return _unit_rows([_named(text) for text in texts])


def _named(text: str) -> NDArray[np.float32]:
    named = set(words(text)) & set(NAMES)
    return np.array([not named or name in named for name in NAMES], dtype=np.float32)


def _unit_rows(rows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    if not rows:
        return np.zeros((0, len(NAMES)), dtype=np.float32)
    stacked = np.stack(rows)
    unit: NDArray[np.float32] = stacked / np.linalg.norm(stacked, axis=1, keepdims=True)
    return unit
