"""Convert a result to what other applications' APIs use: a caption, and tags with a confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from autotag.models.cards import find_card
from autotag.relevance.scores import STANDARDISED_CUT, LogisticMap
from autotag.stages.filter_tags import FilterTags

if TYPE_CHECKING:
    from autotag.pipeline.pipeline import Pipeline
    from autotag.records import Result, Tag

COMPARED = "labels_of_request"
"""The name of the stage that scores the labels of a request, and the source of its tags."""

_STANDARDISED_SLOPE = 1.6
_COSINE_SLOPE = 25.0


@dataclass(frozen=True, slots=True)
class Confidences:
    """How the scores of a pipeline become confidences.

    Attributes:
        cosine: for cosines.
        standardised: for standardised scores.
        calibrated: whether the two were measured for the pipeline's encoder, see ``ModelCard.probabilities``.
            Otherwise they only rise with the score, and are 0.5 at its cut.
    """

    cosine: LogisticMap
    standardised: LogisticMap
    calibrated: bool

    @classmethod
    def of(cls, pipeline: Pipeline) -> Confidences:
        """Return the confidences of a pipeline whose models are loaded."""
        stage = next((stage for stage in pipeline.stages if isinstance(stage, FilterTags)), None)
        encoder = pipeline.encoder if stage is None or stage.encoder is None else stage.encoder
        card = find_card(encoder, "encoder") if isinstance(encoder, str) else None
        if card is not None and card.probabilities:
            return cls(card.probabilities["cosine"], card.probabilities["standardised"], calibrated=True)
        cut = 0.0 if stage is None else _cosine_cut(pipeline, stage)
        standardised = LogisticMap(_STANDARDISED_SLOPE, STANDARDISED_CUT)
        return cls(LogisticMap(_COSINE_SLOPE, cut), standardised, calibrated=False)

    def confidence(self, tag: Tag) -> float:
        """Return a number in [0, 1] for a tag that ``filter_tags`` or ``match_vocabulary`` scored."""
        scorer = next(reversed(list(tag.scores)), "")
        is_standardised = f"{scorer}.cosine" in tag.scores
        return (self.standardised if is_standardised else self.cosine).probability(tag.score)


@dataclass(frozen=True, slots=True)
class SureTag:
    """A tag.

    Attributes:
        text: the tag.
        confidence: in [0, 1], see ``Confidences``.
        matches: whether its score reaches the cut.
    """

    text: str
    confidence: float
    matches: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """The caption and the tags of an image.

    Attributes:
        caption: may be empty.
        tags: best first.
        labels: every label that the request wanted to be compared with the image, best first.
    """

    caption: str
    tags: tuple[SureTag, ...] = ()
    labels: tuple[SureTag, ...] = ()

    @classmethod
    def of(cls, result: Result, confidences: Confidences) -> Answer:
        """Return the answer in a result."""
        tags: list[SureTag] = []
        labels: list[SureTag] = []
        for tag in result.tags:
            is_label = tag.source == COMPARED
            matches = not is_label or tag.score >= STANDARDISED_CUT
            sure = SureTag(tag.text, round(confidences.confidence(tag), 4), matches)
            (labels if is_label else tags).append(sure)
        return cls(result.caption, tuple(tags), tuple(labels))


def _cosine_cut(pipeline: Pipeline, stage: FilterTags) -> float:
    """Return the threshold for cosines: the stage's own, or its encoder's; 0 without one."""
    if stage.threshold is not None:
        return stage.threshold
    with pipeline.exclusive_encoder() as encoder:
        return encoder.default_thresholds.get("cosine", 0.0)
