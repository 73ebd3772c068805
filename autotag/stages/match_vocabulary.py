"""Propose the labels of a vocabulary that match the image as tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - a config is converted by the annotations
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from autotag.config.checks import check_count
from autotag.config.options import convert_options
from autotag.errors import ConfigError, suggestion
from autotag.models.fast.text_reader import say_what_is_cut
from autotag.models.names import check_model
from autotag.records import Tag
from autotag.relevance.embeddings import image_vectors
from autotag.relevance.label_matrix import VocabularyMatrix
from autotag.relevance.scores import Score, check_cut
from autotag.relevance.unrelated_labels import UnrelatedLabels, unrelated_labels
from autotag.vocabularies.templates import check_template, filled
from autotag.vocabularies.vocabulary import Vocabulary, read_vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from autotag.protocols import ImageTextEncoder, Models
    from autotag.records import Sample


@dataclass
class MatchVocabulary:
    """Propose the labels that match the image best, after the existing tags.

    A label's score is the best cosine of the image with one of its names (the label and its synonyms), each
    in the template. Best first; equal scores in the vocabulary's order.

    Args:
        vocabulary: the name of a bundled vocabulary such as ``"things"``, a file (see
            ``Vocabulary.from_file``), a list of labels, a mapping of labels to synonyms, or a ``Vocabulary``.
            A file is read when the stage is built; write ``"./things"`` for a file with the name of a
            bundled vocabulary.
        top_k: labels per image, at least 1.
        threshold: the lowest score that is proposed; None proposes ``top_k`` labels whatever their scores. A
            cosine is from -1 to 1 and its threshold fits one encoder only; a standardised score is from -100
            to 100.
        score: the score of a label, which is compared with ``threshold``, see ``autotag.relevance.scores``.
        leave_out: labels that are not proposed, such as "animal", which adds little to "dog". Another
            ``vocabulary`` in a change of a preset or pipeline begins with none.
        template: sentence around a name, with one ``{}``; None for the vocabulary's own, by default
            "a photo of {}".
        language: of the tags and the template, for standardised scores: ``"en"``, ``"de"``, ``"es"``,
            ``"fr"``, ``"it"``, ``"nl"`` or ``"pt"``; an encoder that reads several languages scores them
            differently.
        encoder: name, folder or ``ImageTextEncoder``; None for the pipeline's own.
        name: the stage's name.

    Raises:
        ConfigError: an option is out of range, or the vocabulary is unknown or cannot be read.
    """

    vocabulary: str | Path | Sequence[str] | Mapping[str, Sequence[str]] | Vocabulary = field(
        metadata={"file": "one"}
    )
    _: KW_ONLY
    top_k: int = 10
    threshold: float | None = None
    score: Score = "cosine"
    leave_out: Sequence[str] = field(default=(), metadata={"of": "vocabulary"})
    template: str | None = None
    language: str = "en"
    encoder: str | ImageTextEncoder | None = field(default=None, metadata={"model": "encoder"})
    name: str = "match_vocabulary"
    _labels: Vocabulary = field(init=False, repr=False, compare=False)
    _wanted: str | ImageTextEncoder | None = field(init=False, repr=False, compare=False)
    image_encoder: ImageTextEncoder = field(init=False, repr=False, compare=False)
    _unrelated: UnrelatedLabels | None = field(init=False, repr=False, compare=False)
    _matrix: VocabularyMatrix = field(init=False, repr=False, compare=False)
    _left_out: list[int] = field(init=False, repr=False, compare=False)
    _embedded: VocabularyMatrix | None = field(default=None, init=False, repr=False, compare=False)

    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"tags"})

    def __post_init__(self) -> None:
        convert_options(self, where=self.name)
        check_count(f"{self.name}.top_k", self.top_k)
        check_cut(self.name, self.threshold, self.score)
        if self.template is not None:
            check_template(f"{self.name}.template", self.template)
        try:
            unrelated_labels(self.language)
        except ConfigError as error:
            raise ConfigError(f"{self.name}.{error}") from None
        self._wanted = None if self.encoder is None else check_model(self.encoder, "encoder")
        self._labels = _read(self.vocabulary, self.name)
        self._left_out = [_place(label, self._labels, self.name) for label in self.leave_out]

    def embed(self, encoder: ImageTextEncoder) -> None:
        """Embed the vocabulary ahead of ``setup``, by an encoder with the same weights as the stage's own."""
        template = self.template or self._labels.template
        self._embedded = VocabularyMatrix.embedded(self._labels, encoder, template=template)

    def setup(self, models: Models, /) -> None:
        """Borrow the encoder, and embed the vocabulary, or read its vectors where they are kept."""
        self.image_encoder = models.encoder(self._wanted)
        template = self.template or self._labels.template
        standardises = self.score == "standardised"
        self._unrelated = (
            UnrelatedLabels(self.image_encoder, template, language=self.language) if standardises else None
        )
        texts = (filled(template, name) for name in self._labels.all_names())
        say_what_is_cut(texts, self.image_encoder, self.name)
        self._matrix = self._embedded or VocabularyMatrix.embedded(
            self._labels, self.image_encoder, template=template
        )

    def __call__(self, samples: Sequence[Sample], /) -> None:
        if not samples:
            return
        vectors = image_vectors(samples, self.image_encoder)
        levels = self._unrelated.levels(vectors) if self._unrelated else [None] * len(vectors)
        cosines = self._matrix.similarities(vectors)
        cosines[:, self._left_out] = -np.inf
        for sample, row, level in zip(samples, cosines, levels, strict=True):
            sample.tags.extend(self._best(row, level))

    def _best(self, cosines: NDArray[np.float32], level: NDArray[np.float32] | None) -> list[Tag]:
        """Return the tags to propose for one image, from the cosines of all labels, (L,) float32."""
        order = np.argsort(-cosines, kind="stable")[: self.top_k]
        lowest = -np.inf if self.threshold is None else self.threshold
        scored = ((self._labels.labels[index], float(cosines[index])) for index in order)
        tags = (self._proposed(label, cosine, level) for label, cosine in scored if cosine > -np.inf)
        return [tag for tag in tags if tag.score >= lowest]

    def _proposed(self, label: str, cosine: float, level: NDArray[np.float32] | None) -> Tag:
        if level is None:
            return Tag.proposed(label, cosine, by=self.name)
        zero, unit = level.tolist()
        standardised = (cosine - zero) / unit
        return Tag(label, standardised, self.name, {f"{self.name}.cosine": cosine, self.name: standardised})


def _read(
    vocabulary: str | Path | Sequence[str] | Mapping[str, Sequence[str]] | Vocabulary, name: str
) -> Vocabulary:
    if isinstance(vocabulary, str | Path | Vocabulary):
        return read_vocabulary(f"{name}.vocabulary", vocabulary)
    return Vocabulary(vocabulary, name=name)


def _place(label: str, vocabulary: Vocabulary, name: str) -> int:
    """Return the index of a label.

    Raises:
        ConfigError: the vocabulary does not have this label.
    """
    if label not in vocabulary.labels:
        near = suggestion(label, vocabulary.labels)
        raise ConfigError(f"{name}.leave_out holds {label!r}, which is not a label of the vocabulary. {near}")
    return vocabulary.labels.index(label)
