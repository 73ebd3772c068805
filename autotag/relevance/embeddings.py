"""Image vectors once per sample, text vectors once per text."""

from __future__ import annotations

import base64
import binascii
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from autotag.relevance.sample_views import views_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from autotag.protocols import ImageTextEncoder
    from autotag.records import Sample

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


def image_vectors(samples: Sequence[Sample], encoder: ImageTextEncoder) -> NDArray[np.float32]:
    """(B, D) float32, unit rows: one vector per sample, left on the sample for the next stage to find.

    From the view that the encoder looks at where the samples bring it, else from their images.
    """
    missing = [sample for sample in samples if encoder.id not in sample.embeddings]
    if missing:
        views = views_of(missing, encoder)
        if views is None:
            vectors = encoder.embed_images([sample.image for sample in missing])
        else:
            vectors = cast("Any", encoder).embed_views(views)
        for sample, vector in zip(missing, vectors, strict=True):
            sample.embeddings[encoder.id] = np.asarray(vector, dtype=np.float32)
    return np.stack([sample.embeddings[encoder.id] for sample in samples])


class TextVectors:
    """The vectors of texts by one encoder, computed once and kept.

    The least recently used are forgotten beyond ``capacity`` texts.
    """

    def __init__(self, encoder: ImageTextEncoder, *, capacity: int = 50_000) -> None:
        self.encoder = encoder
        self.capacity = capacity
        self._vectors: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(T, D) float32, unit rows, in the order of ``texts``; (0, 0) for none."""
        if not texts:
            return np.zeros((0, 0), dtype=np.float32)
        missing = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if missing:
            self._vectors.update(zip(missing, self.encoder.embed_texts(missing), strict=True))
        rows = np.stack([self._vectors[text] for text in texts])
        self._keep(texts)
        return rows

    def _keep(self, texts: Sequence[str]) -> None:
        for text in texts:
            self._vectors.move_to_end(text)
        while len(self._vectors) > self.capacity:
            self._vectors.popitem(last=False)
