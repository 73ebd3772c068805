"""An encoder for tests of the index and of stores, whose vectors are known without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

DIMENSION = 16
_KNOWN = ("dog", "cat", "beach", "rocket")


@dataclass
class Words:
    """An encoder whose vector of a text is the sum of its known words' directions; every image is a dog."""

    id: str = "words-1"
    default_thresholds: dict[str, float] = field(default_factory=dict)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (T, 16) vectors of length 1."""
        found = np.full((len(texts), DIMENSION), 1e-3, dtype=np.float32)
        for row, text in enumerate(texts):
            for place, name in enumerate(_KNOWN):
                found[row, place] += name in text.split()
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def embed_images(self, images: Sequence[object]) -> NDArray[np.float32]:
        """Return (B, 16) vectors of length 1."""
        return self.embed_texts(["dog" for _ in images])


ENCODER = Words()
