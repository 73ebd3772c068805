"""Compute each sample's image vector once, and each text's vector once."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from cachetools import LRUCache

from autotag.errors import ModelError
from autotag.relevance.sample_views import views_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from autotag.protocols import ImageTextEncoder
    from autotag.records import Sample

_LENGTH_TOLERANCE = 0.01  # of vectors in half precision

EMBEDDING = "embedding"
"""The key in a result's extras under which the stage ``embed_images`` leaves the image's vector."""


def written_embedding(encoder_id: str, vector: NDArray[np.float32]) -> dict[str, str]:
    """Return a vector of shape (D,) and the encoder that made it as JSON types: base64 of float16."""
    return {"encoder": encoder_id, "vector": base64.b64encode(vector.astype("<f2").tobytes()).decode("ascii")}


def read_embedding(extras: Mapping[str, Any]) -> tuple[str, NDArray[np.float16]] | None:
    """Return encoder id and vector, (D,) float16, from a result's extras; None where there is none.

    Raises:
        ValueError: something else stands in its place.
    """
    found = extras.get(EMBEDDING)
    if found is None:
        return None
    try:
        vector = np.frombuffer(base64.b64decode(found["vector"], validate=True), dtype="<f2")
        encoder_id = str(found["encoder"])
    except (KeyError, TypeError, binascii.Error) as error:
        raise ValueError(f"extras[{EMBEDDING!r}] does not hold an encoder and a vector") from error
    if not len(vector) or not np.isfinite(vector).all():
        raise ValueError(f"extras[{EMBEDDING!r}] holds an empty vector or one that is not finite")
    return encoder_id, vector


def unit_vectors(vectors: object, encoder: ImageTextEncoder) -> NDArray[np.float32]:
    """Return the vectors of an encoder as float32, checked.

    Raises:
        ModelError: a number is not finite, or a row is not of length 1.
    """
    found = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(found, axis=-1)
    if not np.isfinite(lengths).all():
        raise ModelError(encoder.id, f"encoder {encoder.id!r} gives vectors that are not finite")
    if (np.abs(lengths - 1) > _LENGTH_TOLERANCE).any():
        wrong = float(lengths.flat[int(np.abs(lengths - 1).argmax())])
        raise ModelError(encoder.id, f"encoder {encoder.id!r} gives a vector of length {wrong:.3g}, not 1")
    return found


def image_vectors(samples: Sequence[Sample], encoder: ImageTextEncoder) -> NDArray[np.float32]:
    """Return one vector per sample, (B, D) float32, rows of length 1; store new ones on the samples.

    The vectors are made from the samples' views if all have the encoder's view, else from their images.

    Raises:
        ModelError: the encoder gives vectors that are not finite, or not of length 1.
    """
    missing = [sample for sample in samples if encoder.id not in sample.embeddings]
    if missing:
        views = views_of(missing, encoder)
        if views is None:
            vectors = encoder.embed_images([sample.image for sample in missing])
        else:
            vectors = cast("Any", encoder).embed_views(views)
        for sample, vector in zip(missing, unit_vectors(vectors, encoder), strict=True):
            sample.embeddings[encoder.id] = vector
    return np.stack([sample.embeddings[encoder.id] for sample in samples])


class TextVectors:
    """Compute and cache the vectors of texts by one encoder.

    Beyond ``capacity`` texts, the least recently used are dropped.
    """

    def __init__(self, encoder: ImageTextEncoder, *, capacity: int = 50_000) -> None:
        self.encoder = encoder
        self._vectors: LRUCache[str, NDArray[np.float32]] = LRUCache(capacity)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of ``texts`` in order: (T, D) float32, rows of length 1; (0, 0) for none.

        Raises:
            ModelError: the encoder gives vectors that are not finite, or not of length 1.
        """
        if not texts:
            return np.zeros((0, 0), dtype=np.float32)
        unique = dict.fromkeys(texts)
        found = {text: self._vectors[text] for text in unique if text in self._vectors}
        missing = [text for text in unique if text not in found]
        if missing:
            vectors = unit_vectors(self.encoder.embed_texts(missing), self.encoder)
            made = dict(zip(missing, vectors, strict=True))
            found |= made
            self._vectors.update(made)
        return np.stack([found[text] for text in texts])
