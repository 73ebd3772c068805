"""The keywords of a file of ``autotag learn``, as a classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from autotag.config import registry
from autotag.errors import ConfigError, ModelLoadError
from autotag.files.bounded_files import named_path
from autotag.models.names import parse_name
from autotag.protocols import image_size_of
from autotag.relevance.learned_keywords import LearnedKeywords

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from autotag.protocols import ImageTextEncoder, ModelRequest


class KeywordClassifier:
    """Classify images by keywords that people's photographs taught.

    The labels are the keywords without their parents. A keyword that people removed from similar photographs
    has a probability of 0.

    Args:
        learned: the keywords.
        encoder: the one that they were learned with.

    Raises:
        ConfigError: they were learned with another one.
    """

    exclusive = False

    def __init__(
        self, learned: LearnedKeywords, encoder: ImageTextEncoder, *, file: str = "keywords"
    ) -> None:
        learned.check_encoder(encoder.id, file=file)
        self.labels = tuple(keyword.text for keyword in learned.keywords)
        self.thresholds = tuple(keyword.threshold for keyword in learned.keywords)
        self._learned = learned
        self._encoder = encoder

    @classmethod
    def load(cls, request: ModelRequest) -> KeywordClassifier:
        """Load a file of ``autotag learn`` and the encoder that it names.

        Raises:
            ConfigError: the file is missing, damaged or of another format, or its encoder has changed.
            ModelLoadError: the file does not name an encoder, because it was a folder.
            ModelUnavailableError: the encoder is not on this machine and cannot be downloaded.
        """
        learned = LearnedKeywords.load(named_path(request.location))
        if not learned.encoder_name:
            raise ModelLoadError(
                request.name,
                f"classifier {request.name!r}: its keywords were learned with an encoder in a folder, whose "
                "place the file does not keep. Use the stage suggest_keywords with that encoder.",
            )
        try:
            address = parse_name(learned.encoder_name, "encoder")
        except ConfigError as error:
            raise ModelLoadError(request.name, f"classifier {request.name!r}: {error}") from error
        factory: Any = registry.resolve("encoder", address.factory)
        encoder = factory(address.request(request.device, request.dtype, request.fast_paths))
        return cls(learned, encoder, file=request.location)

    @property
    def image_size(self) -> int | None:
        """Return the side in pixels of the square that the encoder looks at; None when unknown."""
        return image_size_of(self._encoder)

    def classify(self, images: Sequence[Image.Image], /) -> NDArray[np.float32]:
        """Return the probability of each keyword in B upright RGB images: (B, K) float32."""
        if not images:
            return np.zeros((0, len(self.labels)), dtype=np.float32)
        vectors = self._encoder.embed_images(images)
        declined = self._learned.declined(vectors)[:, : len(self.labels)]
        return np.where(declined, np.float32(0), self._learned.probabilities(vectors))
