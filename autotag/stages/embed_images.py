"""The image's vector in the result."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, ClassVar

from autotag.config.options import convert_options
from autotag.models.names import check_model
from autotag.relevance.embeddings import EMBEDDING, image_vectors, written_embedding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotag.protocols import ImageTextEncoder, Models
    from autotag.records import Sample


@dataclass
class EmbedImages:
    """Put the image's vector into the result's extras, where an index finds it.

    ``result.extras["embedding"]`` is ``{"encoder": id, "vector": text}``: base64 of little-endian float16, of
    length 1 before it is rounded. ``autotag.relevance.embeddings.read_embedding`` reads it. A vector that an
    earlier stage computed is used again.

    Args:
        encoder: name, folder or ``ImageTextEncoder``; None for the pipeline's own.
        name: the stage's name.

    Raises:
        ConfigError: an option is wrong.
    """

    _: KW_ONLY
    encoder: str | ImageTextEncoder | None = field(default=None, metadata={"model": "encoder"})
    name: str = "embed_images"
    _wanted: str | ImageTextEncoder | None = field(init=False, repr=False, compare=False)
    image_encoder: ImageTextEncoder = field(init=False, repr=False, compare=False)

    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({f"extras.{EMBEDDING}"})

    def __post_init__(self) -> None:
        convert_options(self, where=self.name)
        self._wanted = None if self.encoder is None else check_model(self.encoder, "encoder")

    def setup(self, models: Models, /) -> None:
        """Get the encoder."""
        self.image_encoder = models.encoder(self._wanted)

    def __call__(self, samples: Sequence[Sample], /) -> None:
        if not samples:
            return
        for sample, vector in zip(samples, image_vectors(samples, self.image_encoder), strict=True):
            sample.extras[EMBEDDING] = written_embedding(self.image_encoder.id, vector)
