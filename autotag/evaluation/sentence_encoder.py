"""The sentence encoder that measures the similarity of texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from autotag.config.fast_paths import FastPaths
from autotag.errors import ConfigError, ModelUnavailableError
from autotag.models.names import check_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

DEFAULT_SENTENCE_ENCODER = "minilm"

_OTHERWISE = (
    "It compares texts; --similarity-model minilm-mini comes with autotag, --similarity-model FOLDER uses "
    "your own, --similarity-model none leaves it out."
)


@dataclass(frozen=True, slots=True)
class SentenceEncoder:
    """A named function that embeds texts.

    Attributes:
        name: the model's name.
        encode: texts -> (T, D) float32, unit rows.
    """

    name: str
    encode: Callable[[Sequence[str]], NDArray[np.float32]]

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts: (T, D) float32 unit rows, and zeros for an empty text, which is similar to nothing."""
        rows = self.encode([text or " " for text in texts])
        spoken = np.array([bool(text.strip()) for text in texts])
        return np.where(spoken[:, None], rows, np.float32(0))


def load_sentence_encoder(
    name: str = DEFAULT_SENTENCE_ENCODER,
    *,
    device: str = "auto",
    batch_size: int = 64,
    otherwise: str = _OTHERWISE,
) -> SentenceEncoder:
    """Load the sentence-transformers model of this name, in float32 and without fast paths.

    Args:
        name: an extractor of the catalog, a folder, or ``"keybert:<hub id>"``.
        device: as for ``Pipeline``.
        batch_size: number of texts that are embedded at once.
        otherwise: what to do without its weights, for the error.

    Raises:
        ConfigError: the model is unknown, or is not a sentence-transformers model.
        ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
    """
    from autotag.models.pool import ModelPool

    check_model(name, "extractor")
    pool = ModelPool(device=device, fast_paths=FastPaths.parse("off"))
    try:
        extractor: Any = pool.extractor(name)
    except ModelUnavailableError as error:
        raise ModelUnavailableError(
            name,
            f"{error} {otherwise}",
            looked_in=error.looked_in,
            download_size=error.download_size,
        ) from error
    model: Any = getattr(extractor, "model", None)
    if not hasattr(model, "encode"):
        raise ConfigError(f"{name!r} has no sentence-transformers model to embed texts with.")

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        rows = model.encode(
            list(texts), batch_size=batch_size, show_progress_bar=False, normalize_embeddings=True
        )
        return np.asarray(rows, dtype=np.float32)

    return SentenceEncoder(name, encode)
