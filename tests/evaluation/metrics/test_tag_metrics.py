from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from autotag.evaluation.metrics.tag_metrics import (
    average_precision,
    count_rows,
    f1,
    mean_average_precision,
    precision,
    recall,
)

CHANCE = np.random.default_rng(3)
TRUE = CHANCE.random((200, 12)) < 0.15
SCORES = np.round(TRUE * 0.3 + CHANCE.random((200, 12)), 1)  # rounded, so that many are equal
GIVEN = SCORES > 0.8
GIVEN[:, 4] = False  # a label that is never given


@pytest.mark.parametrize("average", ["micro", "macro"])
def test_precision_recall_and_f1_are_those_of_scikit_learn(average) -> None:
    sums = count_rows(GIVEN, TRUE).sum(axis=0)
    expected = precision_recall_fscore_support(TRUE, GIVEN, average=average, zero_division=0)[:3]
    found = [float(figure(sums, average)) for figure in (precision, recall, f1)]
    assert found == pytest.approx(expected, abs=1e-12)


def test_mean_average_precision_is_that_of_scikit_learn() -> None:
    assert mean_average_precision(SCORES, TRUE)[0] == pytest.approx(
        average_precision_score(TRUE, SCORES, average="macro"), abs=1e-12
    )


def test_a_tag_that_was_not_given_ranks_last() -> None:
    left_out = np.where(GIVEN, SCORES, -np.inf)
    lowest = np.where(GIVEN, SCORES, -1.0)
    assert mean_average_precision(left_out, TRUE)[0] == pytest.approx(
        average_precision_score(TRUE, lowest, average="macro"), abs=1e-12
    )


def test_weights_are_images_that_are_there_more_than_once() -> None:
    weights = CHANCE.integers(0, 4, size=(3, 200))
    found = average_precision(SCORES[:, 0], TRUE[:, 0], weights.astype(float))
    for row, score in zip(weights, found, strict=True):
        repeated = np.repeat(np.arange(200), row)
        assert score == pytest.approx(average_precision_score(TRUE[repeated, 0], SCORES[repeated, 0]))


def test_labels_that_no_image_has_are_left_out_of_the_mean() -> None:
    true = TRUE.copy()
    true[:, 5] = False
    others = np.delete(np.arange(12), 5)
    assert np.isnan(average_precision(SCORES[:, 5], true[:, 5])[0])
    assert mean_average_precision(SCORES, true) == pytest.approx(
        mean_average_precision(SCORES[:, others], true[:, others])
    )


def test_a_label_that_is_never_given_has_precision_0() -> None:
    sums = count_rows(GIVEN[:, 4:5], TRUE[:, 4:5]).sum(axis=0)
    assert float(precision(sums, "macro")) == 0
    assert float(f1(sums, "micro")) == 0


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="an image with a label"):
        mean_average_precision(SCORES, np.zeros_like(TRUE))
    with pytest.raises(ValueError, match="equal shapes"):
        count_rows(GIVEN, TRUE[:10])
