"""Convert a result to what other applications' APIs use: a caption, and tags with a confidence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autotag.relevance.scores import STANDARDISED_CUT
from autotag.stages.filter_tags import FilterTags

if TYPE_CHECKING:
    from autotag.pipeline.pipeline import Pipeline
    from autotag.records import Result, Tag

_STANDARDISED_SLOPE = 1.6
_COSINE_SLOPE = 25.0


@dataclass(frozen=True, slots=True)
class SureTag:
    """A tag.

    Attributes:
        text: the tag.
        confidence: in [0, 1], 0.5 at the cut of its score; not calibrated with labelled photographs.
    """

    text: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The caption and the tags of an image.

    Attributes:
        caption: may be empty.
        tags: best first.
    """

    caption: str
    tags: tuple[SureTag, ...] = ()

    @classmethod
    def of(cls, result: Result, cosine_cut: float | None) -> Answer:
        """Return the answer in a result; ``cosine_cut`` is what ``cut_of`` says."""
        tags = (SureTag(tag.text, round(confidence(tag, cosine_cut), 4)) for tag in result.tags)
        return cls(result.caption, tuple(tags))


def confidence(tag: Tag, cosine_cut: float | None) -> float:
    """Return a number in [0, 1] that grows with a tag's score and is 0.5 at the cut.

    Args:
        tag: scored by ``filter_tags`` or ``match_vocabulary``.
        cosine_cut: where cosines are cut; None for 0.
    """
    scorer = next(reversed(list(tag.scores)), "")
    if f"{scorer}.cosine" in tag.scores:
        return _logistic(_STANDARDISED_SLOPE * (tag.score - STANDARDISED_CUT))
    return _logistic(_COSINE_SLOPE * (tag.score - (cosine_cut or 0.0)))


def cut_of(pipeline: Pipeline) -> float | None:
    """Return the pipeline's threshold for cosines: its own, or its encoder's; None without one."""
    stage = next((stage for stage in pipeline.stages if isinstance(stage, FilterTags)), None)
    if stage is None or stage.threshold is not None:
        return stage.threshold if stage else None
    with pipeline.exclusive_encoder() as encoder:
        return encoder.default_thresholds.get("cosine")


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, value))))
