"""The scores by which tags are cut, and the cuts that go with them. A cut means nothing without its score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from autotag.ranges import check_choice, check_number

if TYPE_CHECKING:
    from collections.abc import Mapping

Score = Literal["cosine", "standardised"]
"""``"cosine"``: of the vectors of image and text, on a scale of each encoder's own. ``"standardised"``: by
how many standard deviations that cosine stands above those of unrelated labels on the same image."""

LOWEST: Mapping[Score, float] = {"cosine": -1.0, "standardised": -100.0}
"""The cut that nothing falls below; its negative is the highest that may be set."""


def check_cut(stage: str, threshold: float | None, score: str) -> None:
    """Refuses an unknown score, or a threshold that is not on its scale.

    Raises:
        ConfigError: naming the stage, the option and what is allowed.
    """
    check_choice(f"{stage}.score", score, get_args(Score))
    if threshold is not None:
        lowest = next(LOWEST[known] for known in LOWEST if known == score)
        check_number(f"{stage}.threshold", threshold, least=lowest, most=-lowest)
