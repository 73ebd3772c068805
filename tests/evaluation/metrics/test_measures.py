from __future__ import annotations

import numpy as np
import pytest

from autotag.evaluation.metrics.bleu import bleu, bleu_4, bleu_rows
from autotag.evaluation.metrics.measures import (
    Measure,
    bootstrap_interval,
    difference_interval,
    holm,
    mean_measure,
    paired_test,
    sum_measure,
)
from autotag.evaluation.metrics.tag_metrics import mean_average_precision

CHANCE = np.random.default_rng(11)


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = CHANCE.normal(5, 2, size=400)
    interval = bootstrap_interval(mean_measure("size", values), seed=0, resamples=4000)
    error = values.std() / 20
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.15 * error
    )


def test_95_of_100_intervals_hold_the_truth() -> None:
    held = 0
    for seed in range(200):
        values = np.random.default_rng(seed).random(80)
        interval = bootstrap_interval(mean_measure("half", values), seed=seed, resamples=400)
        assert interval is not None
        held += interval.low <= 0.5 <= interval.high
    assert 0.91 <= held / 200 <= 0.985


def test_a_test_of_equal_models_is_wrong_as_often_as_it_says() -> None:
    below = 0
    for seed in range(200):
        chance = np.random.default_rng(seed)
        one, other = (mean_measure("same", chance.random(30)) for _ in range(2))
        p_value = paired_test(one, other, seed=seed, rounds=199)
        assert p_value is not None
        below += p_value <= 0.05
    assert 0.02 <= below / 200 <= 0.085


def test_a_small_steady_difference_is_found_although_the_intervals_overlap() -> None:
    hard = CHANCE.random(100)
    one, other = mean_measure("one", hard + 0.02 + CHANCE.normal(0, 0.02, 100)), mean_measure("other", hard)
    first, second = bootstrap_interval(one, seed=1), bootstrap_interval(other, seed=1)
    difference = difference_interval(one, other, seed=1)
    assert first is not None
    assert second is not None
    assert difference is not None
    assert first.low < second.high
    assert 0 < difference.low < 0.02 < difference.high < 0.04
    assert paired_test(one, other, seed=1) == pytest.approx(1 / 5000)


def test_two_images_prove_nothing() -> None:
    assert paired_test(
        mean_measure("one", np.array([1.0, 1.0])), mean_measure("other", np.zeros(2)), seed=0
    ) == (pytest.approx(0.5, abs=0.05))


def test_one_image_has_no_interval() -> None:
    one = mean_measure("one", np.array([0.5]))
    assert bootstrap_interval(one, seed=0) is None
    assert difference_interval(one, one, seed=0) is None
    assert one.value == 0.5


def test_bleu_is_drawn_as_a_figure_of_the_whole_set(caption_sets) -> None:
    captions, references = (part[:60] for part in caption_sets)
    measure = sum_measure("bleu_4", bleu_rows(captions, references), bleu_4)
    twice = np.zeros((1, 60))
    twice[0, :5] = 2
    assert measure.value == pytest.approx(bleu(captions, references))
    assert measure.combine(measure.rows, twice)[0] == pytest.approx(
        bleu(captions[:5] * 2, references[:5] * 2), abs=1e-6
    )


def test_scores_of_two_scales_are_not_exchanged() -> None:
    true = CHANCE.random((40, 3)) < 0.5

    def combine(rows, weights):
        return mean_average_precision(rows, np.concatenate([true] * (len(rows) // 40)), weights)

    one, other = (Measure("map", CHANCE.random((40, 3)), combine, exchangeable=False) for _ in range(2))
    assert paired_test(one, other, seed=0) is None
    assert difference_interval(one, other, seed=0) is not None


def test_the_same_seed_gives_the_same_figures() -> None:
    one, other = mean_measure("one", CHANCE.random(50)), mean_measure("other", CHANCE.random(50))
    assert bootstrap_interval(one, seed=4) == bootstrap_interval(one, seed=4)
    assert bootstrap_interval(one, seed=4) != bootstrap_interval(one, seed=5)
    assert paired_test(one, other, seed=4) == paired_test(one, other, seed=4)


def test_looking_at_several_models_asks_for_more() -> None:
    assert holm({"b": 0.01, "a": 0.04, "c": 0.03}) == pytest.approx({"b": 0.03, "a": 0.06, "c": 0.06})
    assert holm({}) == {}


def test_models_of_other_images_are_not_compared() -> None:
    with pytest.raises(ValueError, match="not of the same images"):
        paired_test(mean_measure("one", np.zeros(3)), mean_measure("other", np.zeros(4)), seed=0)
