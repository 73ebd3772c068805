from __future__ import annotations

import pytest

from autotag.errors import ConfigError
from autotag.relevance.scores import LOWEST, STANDARDISED_CUT, check_cut, score_for
from autotag.testing import FakeEncoder


@pytest.mark.parametrize(
    ("threshold", "score"),
    [
        (None, None),
        (0.25, None),
        (None, "cosine"),
        (-1, "cosine"),
        (1.0, "cosine"),
        (-100.0, "standardised"),
        (3, "standardised"),
    ],
)
def test_a_cut_on_its_scores_scale_is_taken(threshold, score):
    check_cut("filter_tags", threshold, score)


@pytest.mark.parametrize(
    ("threshold", "score", "message"),
    [
        (
            1.5,
            None,
            r"filter_tags\.threshold = 1\.5 is not a cosine .*; .* set filter_tags\.score = 'standardised'",
        ),
        ("high", None, r"filter_tags\.threshold is 'high'; allowed: a number from -1 to 1"),
        (1.5, "cosine", r"threshold is 1\.5; allowed: a number from -1 to 1"),
        (-100.5, "standardised", r"threshold is -100\.5; allowed: a number from -100 to 100"),
        (None, "sigmoid", r"filter_tags\.score is 'sigmoid'; allowed: 'cosine', 'standardised'"),
    ],
)
def test_any_other_is_refused(threshold, score, message):
    with pytest.raises(ConfigError, match=message):
        check_cut("filter_tags", threshold, score)


@pytest.mark.parametrize(
    ("score", "threshold", "encoder", "expected"),
    [
        (None, None, None, "standardised"),
        (None, None, object(), "standardised"),
        (None, None, FakeEncoder(default_score="standardised"), "standardised"),
        (None, None, FakeEncoder(default_score="cosine"), "cosine"),
        (None, 0.25, FakeEncoder(default_score="standardised"), "cosine"),
        ("standardised", 0.25, FakeEncoder(default_score="cosine"), "standardised"),
        ("cosine", None, None, "cosine"),
    ],
)
def test_the_score_where_none_is_named_is_the_encoders_default(score, threshold, encoder, expected):
    assert score_for(score, threshold, encoder) == expected


def test_the_default_cut_lies_on_its_scale_above_most_unrelated_labels():
    assert 1 < STANDARDISED_CUT < -LOWEST["standardised"]
