"""Photographs that are only vectors: each keyword adds its own direction to noise that all share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

SIZE = 32


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@dataclass
class TextDirections:
    """An encoder that knows where each keyword lies; a keyword that it does not know lies anywhere."""

    known: dict[str, NDArray[np.float64]]
    id: str = "directions"
    default_thresholds: dict[str, float] = field(default_factory=dict)

    def embed_images(self, images: Sequence[object], /) -> NDArray[np.float32]:
        raise NotImplementedError

    def embed_texts(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        rows = [self.known.get(text.removeprefix("a photo of "), self._any(text)) for text in texts]
        return unit(np.stack(rows))

    def _any(self, text: str) -> NDArray[np.float64]:
        return np.random.default_rng(sum(map(ord, text))).normal(size=SIZE)


@dataclass
class World:
    """Vectors, and the places that show each keyword."""

    encoder: TextDirections
    vectors: NDArray[np.float32]
    shown: dict[str, NDArray[np.intp]]


@pytest.fixture(scope="session")
def world() -> Callable[..., World]:
    def made(
        *words: str, photos: int = 300, share: float = 0.15, strength: float = 3.0, seed: int = 0
    ) -> World:
        draw = np.random.default_rng(seed)
        directions = {word: draw.normal(size=SIZE) / np.sqrt(SIZE) for word in words}
        rows = draw.normal(size=(photos, SIZE)) / np.sqrt(SIZE)
        shown = {}
        for word in words:
            there = draw.random(photos) < share
            rows[there] += strength * directions[word]
            shown[word] = np.flatnonzero(there)
        return World(TextDirections(directions), unit(rows), shown)

    return made
