"""Score types and their thresholds. A threshold is only valid for its score type."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from autotag.config.checks import check_choice, check_number
from autotag.errors import ConfigError
from autotag.protocols import ScoreName, default_score_of

if TYPE_CHECKING:
    from collections.abc import Mapping

Score = ScoreName
"""``"cosine"``: of the vectors of image and text, on a scale of each encoder's own. ``"standardised"``: the
same on a scale on which unrelated labels have a median of 0 and a 95th percentile of 1 on each image."""

STANDARDISED_CUT = 1.5
"""The default threshold of standardised scores, for every encoder.

It lies between the best common thresholds of three independently trained small encoders for tags from
captions (1.58) and for single words (1.43): see ``benchmarks/thresholds.py`` and docs/guides/thresholds.md.
"""

LOWEST: Mapping[Score, float] = {"cosine": -1.0, "standardised": -100.0}
"""The lowest threshold of each score, which keeps everything; its negative is the highest."""


@dataclass(frozen=True, slots=True)
class LogisticMap:
    """Map scores to probabilities by a logistic curve (Platt 1999, "Probabilistic outputs for SVMs").

    Attributes:
        slope: how fast it rises; a quarter of it is the rise per unit of score at the middle.
        middle: the score with probability 0.5.
    """

    slope: float
    middle: float

    def probability(self, score: float) -> float:
        """Return the probability, in (0, 1), that a tag with this score is right."""
        return 1 / (1 + math.exp(-max(-60.0, min(60.0, self.slope * (score - self.middle)))))


def score_for(score: Score | None, threshold: float | None, encoder: object = None) -> Score:
    """Return the score to filter by where ``score`` may be None.

    A threshold without its score is one of cosines, as everywhere else where CLIP filters. Without either,
    the encoder's default score is taken (see ``autotag.protocols.HasDefaultScore``).

    Args:
        score: as it was given.
        threshold: as it was given.
        encoder: an ``ImageTextEncoder``; None where it is not known yet.
    """
    if score is not None:
        return score
    return "cosine" if threshold is not None else default_score_of(encoder)


def check_cut(stage: str, threshold: float | None, score: str | None) -> None:
    """Refuse an unknown score, and a threshold outside the range of its score (of cosines if it is None).

    Raises:
        ConfigError: names the stage, the option and the allowed values.
    """
    if score is not None:
        check_choice(f"{stage}.score", score, get_args(Score))
    if threshold is None:
        return
    if score is None and isinstance(threshold, int | float) and abs(threshold) > -LOWEST["cosine"]:
        raise ConfigError(
            f"{stage}.threshold = {threshold!r} is not a cosine (-1 to 1); for a standardised score also set "
            f"{stage}.score = 'standardised'."
        )
    lowest = LOWEST["standardised"] if score == "standardised" else LOWEST["cosine"]
    check_number(f"{stage}.threshold", threshold, least=lowest, most=-lowest)
