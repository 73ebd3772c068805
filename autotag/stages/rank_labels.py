"""Rank the labels of each vocabulary by how well they match the image."""

from __future__ import annotations

from collections.abc import Collection, Sequence  # noqa: TC003 - a config is converted by the annotations
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path  # noqa: TC003 - a config is converted by the annotations
from typing import TYPE_CHECKING, ClassVar

from autotag.config.checks import check_count
from autotag.config.options import convert_options
from autotag.errors import ConfigError
from autotag.models.fast.text_reader import say_what_is_cut
from autotag.models.names import check_model
from autotag.prompts.modes import top
from autotag.records import Tag
from autotag.relevance.embeddings import image_vectors
from autotag.relevance.label_matrix import VocabularyMatrix
from autotag.vocabularies.templates import SLOT, filled
from autotag.vocabularies.vocabulary import Vocabulary, read_vocabulary

if TYPE_CHECKING:
    from autotag.protocols import ImageTextEncoder, Models
    from autotag.records import Sample


@dataclass
class RankLabels:
    """Write ``rankings``: each vocabulary's labels that match the image best, with their cosines.

    A label's score is the best cosine of the image with one of its names (the label and its synonyms), each
    in the vocabulary's template. Best first; equal scores in the vocabulary's order.

    Args:
        vocabularies: names of bundled ones, files (see ``Vocabulary.from_file``) or ``Vocabulary`` objects.
            The key in ``rankings`` is the vocabulary's name, for a file its name without ending.
        top_k: labels per vocabulary and image.
        living_artists: False leaves living artists out of the bundled vocabulary.
        encoder: name, folder or ``ImageTextEncoder``; None for the pipeline's own.
        name: the stage's name.

    Raises:
        ConfigError: an option is out of range, a vocabulary cannot be read, or two have the same name.
    """

    vocabularies: Sequence[str | Path | Vocabulary] = field(
        default=("mediums", "artists", "movements", "trendings", "flavors"), metadata={"file": "each"}
    )
    _: KW_ONLY
    top_k: int = 5
    living_artists: bool = True
    encoder: str | ImageTextEncoder | None = field(default=None, metadata={"model": "encoder"})
    name: str = "rank_labels"
    _read: dict[str, Vocabulary] = field(init=False, repr=False, compare=False)
    _wanted: str | ImageTextEncoder | None = field(init=False, repr=False, compare=False)
    image_encoder: ImageTextEncoder = field(init=False, repr=False, compare=False)
    _matrices: dict[str, VocabularyMatrix] = field(init=False, repr=False, compare=False)

    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"rankings"})

    def __post_init__(self) -> None:
        convert_options(self, where=self.name)
        check_count(f"{self.name}.top_k", self.top_k)
        self._wanted = None if self.encoder is None else check_model(self.encoder, "encoder")
        self._read = {}
        for given in self.vocabularies:
            vocabulary = read_vocabulary(
                f"{self.name}.vocabularies", given, template=SLOT, living_artists=self.living_artists
            )
            if vocabulary.name in self._read:
                raise ConfigError(f"{self.name}.vocabularies: two are called {vocabulary.name!r}; rename one")
            self._read[vocabulary.name] = vocabulary

    @property
    def ranking_names(self) -> Collection[str]:
        """The keys in ``rankings`` that the stage writes; another stage cannot write them, too."""
        return self._read.keys()

    def setup(self, models: Models, /) -> None:
        """Get the encoder, and compute the vectors of the labels or read them from the cache."""
        self.image_encoder = models.encoder(self._wanted)
        for vocabulary in self._read.values():
            texts = (filled(vocabulary.template, name) for name in vocabulary.all_names())
            say_what_is_cut(texts, self.image_encoder, f"{self.name}, {vocabulary.name}")
        self._matrices = {
            name: VocabularyMatrix.embedded(vocabulary, self.image_encoder)
            for name, vocabulary in self._read.items()
        }

    def __call__(self, samples: Sequence[Sample], /) -> None:
        if not samples:
            return
        vectors = image_vectors(samples, self.image_encoder)
        for name, vocabulary in self._read.items():
            scores = self._matrices[name].similarities(vectors)
            for sample, row in zip(samples, scores, strict=True):
                sample.rankings[name] = [
                    Tag.proposed(vocabulary.labels[place], float(row[place]), by=self.name)
                    for place in top(row, self.top_k)
                ]
