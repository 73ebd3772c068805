"""Keep the tags that match the image."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, ClassVar

from autotag.config.checks import check_count
from autotag.config.options import convert_options
from autotag.errors import ConfigError
from autotag.models.names import check_model
from autotag.relevance.embeddings import TextVectors, image_vectors
from autotag.relevance.scores import STANDARDISED_CUT, Score, check_cut, score_for
from autotag.relevance.unrelated_labels import UnrelatedLabels, unrelated_labels
from autotag.vocabularies.templates import PHOTO, check_template, filled

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from autotag.protocols import ImageTextEncoder, Models
    from autotag.records import Sample, Tag


@dataclass
class FilterTags:
    """Score each tag by how well it fits the image and keep the best, best first.

    ``"cosine"`` is the cosine of the image's vector and the vector of the tag in its template (CLIP, Radford
    et al. 2021, arXiv:2103.00020). ``"standardised"`` maps it to a scale that does not depend on the encoder:
    on each image, unrelated labels have a median of 0 and a 95th percentile of 1. The tag then keeps its
    cosine under ``"<name>.cosine"``. Equal scores are ordered by text.

    Args:
        threshold: the lowest score that is kept: a cosine from -1 to 1, or a standardised score from -100 to
            100. None for the default: the encoder's own for cosines, one value for all encoders for
            standardised scores.
        score: the score that is computed and compared with ``threshold``, see ``relevance.scores``. None for
            ``"cosine"`` if ``threshold`` is given; else the encoder's default score.
        top_k: most tags per image, at least 1; None for all that reach the threshold.
        template: sentence around a tag, with one ``{}``.
        language: of the tags and the template, for standardised scores: ``"en"``, ``"de"``, ``"es"``,
            ``"fr"``, ``"it"``, ``"nl"`` or ``"pt"``; an encoder that reads several languages scores them
            differently.
        encoder: name, folder or ``ImageTextEncoder``; None for the pipeline's own.
        name: the stage's name.

    Attributes:
        cut: after ``setup``: the lowest score that is kept.

    Raises:
        ConfigError: an option is out of range; from ``setup``, if ``threshold`` is None and the encoder has
            no default for cosines, or if the encoder knows too few words for standardised scores.
    """

    _: KW_ONLY
    threshold: float | None = None
    score: Score | None = None
    top_k: int | None = 10
    template: str = PHOTO
    language: str = "en"
    encoder: str | ImageTextEncoder | None = field(default=None, metadata={"model": "encoder"})
    name: str = "filter_tags"
    _wanted: str | ImageTextEncoder | None = field(init=False, repr=False, compare=False)
    image_encoder: ImageTextEncoder = field(init=False, repr=False, compare=False)
    _texts: TextVectors = field(init=False, repr=False, compare=False)
    _unrelated: UnrelatedLabels | None = field(init=False, repr=False, compare=False)
    cut: float = field(init=False, repr=False, compare=False)

    requires: ClassVar[frozenset[str]] = frozenset({"tags"})
    provides: ClassVar[frozenset[str]] = frozenset({"tags"})

    def __post_init__(self) -> None:
        convert_options(self, where=self.name)
        check_cut(self.name, self.threshold, self.score)
        if self.top_k is not None:
            check_count(f"{self.name}.top_k", self.top_k)
        check_template(f"{self.name}.template", self.template)
        try:
            unrelated_labels(self.language)
        except ConfigError as error:
            raise ConfigError(f"{self.name}.{error}") from None
        self._wanted = None if self.encoder is None else check_model(self.encoder, "encoder")

    def setup(self, models: Models, /) -> None:
        """Get the encoder, and embed the unrelated labels that standardised scores need.

        Raises:
            ConfigError: see the class.
        """
        self.image_encoder = models.encoder(self._wanted)
        self._texts = TextVectors(self.image_encoder)
        score, self.cut = self.cut_for(self.image_encoder)
        standardises = score == "standardised"
        self._unrelated = (
            UnrelatedLabels(self.image_encoder, self.template, language=self.language)
            if standardises
            else None
        )

    def cut_for(self, encoder: ImageTextEncoder) -> tuple[Score, float]:
        """Return which score is compared with an encoder, and the lowest that is kept.

        Raises:
            ConfigError: ``threshold`` is None, and the encoder has no default for cosines.
        """
        score = score_for(self.score, self.threshold, encoder)
        return score, self._threshold_for(encoder, score)

    def __call__(self, samples: Sequence[Sample], /) -> None:
        for sample, tags in zip(samples, self.judged(samples), strict=True):
            sample.tags = [tag for tag in tags if tag.score >= self.cut][: self.top_k]

    def judged(self, samples: Sequence[Sample], /) -> list[list[Tag]]:
        """Return all tags of each sample with their scores, best first; the samples are not changed."""
        tagged = [sample for sample in samples if sample.tags]
        if not tagged:
            return [[] for _ in samples]
        texts = list(dict.fromkeys(tag.text for sample in tagged for tag in sample.tags))
        rows = self._texts([filled(self.template, text) for text in texts])
        text_vectors = dict(zip(texts, rows, strict=True))
        vectors = image_vectors(tagged, self.image_encoder)
        levels = self._unrelated.levels(vectors) if self._unrelated else [None] * len(vectors)
        judged = iter(
            [self._scored(tag, float(text_vectors[tag.text] @ vector), level) for tag in sample.tags]
            for sample, vector, level in zip(tagged, vectors, levels, strict=True)
        )
        return [
            sorted(next(judged), key=lambda tag: (-tag.score, tag.text)) if sample.tags else []
            for sample in samples
        ]

    def _scored(self, tag: Tag, cosine: float, level: NDArray[np.float32] | None) -> Tag:
        if level is None:
            return tag.scored(cosine, by=self.name)
        zero, unit = level.tolist()
        return tag.scored(cosine, by=f"{self.name}.cosine").scored((cosine - zero) / unit, by=self.name)

    def _threshold_for(self, encoder: ImageTextEncoder, score: Score) -> float:
        if self.threshold is not None:
            return self.threshold
        if score in encoder.default_thresholds:
            return encoder.default_thresholds[score]
        if score == "standardised":
            return STANDARDISED_CUT
        raise ConfigError(
            f"{self.name}.threshold is not set, and encoder {encoder.id!r} has no default threshold for "
            f"{score!r}. Set one that suits this encoder, such as {self.name}.threshold=0.2; or "
            f"{self.name}.threshold=-1.0 to keep the top_k best whatever their scores; or {self.name}.score="
            "'standardised', whose default suits every encoder."
        )
