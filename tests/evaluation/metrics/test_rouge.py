from __future__ import annotations

import pytest

from autotag.evaluation.metrics.rouge import rouge_l


def test_500_caption_sets_score_as_by_the_reference_implementation(caption_sets, reference_scores) -> None:
    scores = rouge_l(*caption_sets)
    assert scores.tolist() == pytest.approx(reference_scores["rouge_l"], abs=1e-6)
    assert scores.mean() == pytest.approx(reference_scores["rouge_l_mean"], abs=1e-6)


def test_order_counts_and_gaps_do_not() -> None:
    inside, turned = rouge_l(["a dog runs", "runs dog a"], [["a big dog often runs"]] * 2)
    assert inside > turned > 0


def test_the_same_words_score_1_and_no_words_0() -> None:
    assert rouge_l(["A dog!", "", "zebra"], [["a dog"]] * 3).tolist() == [1, 0, 0]


def test_an_empty_reference_beside_another_changes_nothing() -> None:
    assert rouge_l(["a dog"], [["a dog", ""]]).tolist() == [1]


def test_an_image_without_a_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="a reference for every image"):
        rouge_l(["a dog"], [[]])
