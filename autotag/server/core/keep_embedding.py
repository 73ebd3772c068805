"""The vector of an image as a field of its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from autotag.relevance.embeddings import image_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotag.protocols import ImageTextEncoder, Models
    from autotag.records import Sample

EMBEDDING = "embedding"
"""The key under which ``Result.extras`` holds the vector, a list of numbers."""


@dataclass
class KeepEmbedding:
    """Keeps the unit vector that the pipeline's encoder gives an image, as ``extras["embedding"]``."""

    name: str = "keep_embedding"
    _encoder: ImageTextEncoder = field(init=False, repr=False, compare=False)

    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({f"extras.{EMBEDDING}"})

    def setup(self, models: Models, /) -> None:
        """Get the pipeline's own encoder."""
        self._encoder = models.encoder(None)

    def __call__(self, samples: Sequence[Sample], /) -> None:
        if samples:
            for sample, vector in zip(samples, image_vectors(samples, self._encoder), strict=True):
                sample.extras[EMBEDDING] = [float(number) for number in vector]
