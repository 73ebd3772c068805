"""The scores by which tags are cut, and the cuts that go with them. A cut means nothing without its score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from autotag.checks import check_choice, check_number
from autotag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

Score = Literal["cosine", "standardised"]
"""``"cosine"``: of the vectors of image and text, on a scale of each encoder's own. ``"standardised"``: the
same on a scale on which unrelated labels have a median of 0 and a 95th percentile of 1 on each image."""

DEFAULT_SCORE: Score = "standardised"
"""What ``FilterTags`` cuts when nothing else is said, see ``score_for``."""

STANDARDISED_CUT = 1.5
"""The default cut of standardised scores, for every encoder.

Between the cuts that three independently trained small encoders share for tags proposed by captions (1.58)
and for single words (1.43): see ``benchmarks/thresholds.py`` and docs/guides/thresholds.md.
"""

LOWEST: Mapping[Score, float] = {"cosine": -1.0, "standardised": -100.0}
"""The cut that nothing falls below; its negative is the highest that may be set."""


def score_for(score: Score | None, threshold: float | None, defaults: Mapping[str, float]) -> Score:
    """The score that is cut where ``score`` may be None.

    A threshold without its score is one of cosines, as everywhere else where CLIP filters. Without either,
    standardised scores are cut, unless the encoder brings a default threshold for cosines and none for them:
    then somebody has fitted that one to this encoder.

    Args:
        score: as it was given.
        threshold: as it was given.
        defaults: of the encoder, by score.
    """
    if score is not None:
        return score
    if threshold is not None or ("cosine" in defaults and "standardised" not in defaults):
        return "cosine"
    return DEFAULT_SCORE


def check_cut(stage: str, threshold: float | None, score: str | None) -> None:
    """Refuses an unknown score, and a threshold that is not on its scale, or without a score not on cosines'.

    Raises:
        ConfigError: naming the stage, the option and what is allowed.
    """
    if score is not None:
        check_choice(f"{stage}.score", score, get_args(Score))
    if threshold is None:
        return
    if score is None and isinstance(threshold, int | float) and abs(threshold) > -LOWEST["cosine"]:
        raise ConfigError(
            f"{stage}.threshold = {threshold!r} is no cosine; for a standardised score set {stage}.score = "
            "'standardised' too."
        )
    lowest = LOWEST["standardised"] if score == "standardised" else LOWEST["cosine"]
    check_number(f"{stage}.threshold", threshold, least=lowest, most=-lowest)
