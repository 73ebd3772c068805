"""The scores by which tags are cut, and the cuts that go with them. A cut means nothing without its score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from autotag.errors import ConfigError
from autotag.ranges import check_choice, check_number

if TYPE_CHECKING:
    from collections.abc import Mapping

Score = Literal["cosine", "standardised"]
"""``"cosine"``: of the vectors of image and text, on a scale of each encoder's own. ``"standardised"``: the
same on a scale on which unrelated labels have a median of 0 and a 95th percentile of 1 on each image."""

DEFAULT_SCORE: Score = "standardised"
"""What ``FilterTags`` cuts when nothing else is said."""

STANDARDISED_CUT = 1.5
"""The default cut of standardised scores, for every encoder.

Between the cuts that three independently trained small encoders share for tags proposed by captions (1.58)
and for single words (1.43): see ``benchmarks/thresholds.py`` and docs/guides/thresholds.md.
"""

LOWEST: Mapping[Score, float] = {"cosine": -1.0, "standardised": -100.0}
"""The cut that nothing falls below; its negative is the highest that may be set."""


def check_cut(stage: str, threshold: float | None, score: str | None) -> None:
    """Refuses an unknown score, a threshold that is not on its scale, and one whose score is not named.

    Raises:
        ConfigError: naming the stage, the option and what is allowed.
    """
    if score is None:
        if threshold is not None:
            raise ConfigError(
                f"{stage}.threshold = {threshold!r} says nothing without its score; set {stage}.score too: "
                "'cosine' for this encoder's own scale, 'standardised' for that of every encoder."
            )
        return
    check_choice(f"{stage}.score", score, get_args(Score))
    if threshold is not None:
        lowest = next(LOWEST[known] for known in LOWEST if known == score)
        check_number(f"{stage}.threshold", threshold, least=lowest, most=-lowest)
