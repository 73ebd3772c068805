from __future__ import annotations

import math

import pytest

from autotag.evaluation.metrics.bleu import bleu, bleu_4, bleu_rows


def test_500_caption_sets_score_as_by_the_reference_implementation(caption_sets, reference_scores) -> None:
    assert bleu(*caption_sets) == pytest.approx(reference_scores["bleu_4"], abs=1e-6)


def test_the_same_words_score_1() -> None:
    assert bleu(["a dog runs on grass"], [["A dog runs on grass."]]) == pytest.approx(1)


def test_too_short_a_caption_is_held_against_it() -> None:
    half = bleu(["a dog runs on"], [["a dog runs on the green grass today"]])
    assert half == pytest.approx(math.exp(1 - 8 / 4), abs=1e-6)


def test_the_nearest_reference_counts_and_of_two_the_shorter() -> None:
    [row] = bleu_rows(["one two three"], [["a b c d", "a b", "a b c d e f"]])
    assert row[-1] == 2


def test_matches_are_summed_over_images() -> None:
    rows = bleu_rows(["a b c d e", "v w x y z"], [["a b c d e"], ["a a a a a"]])
    assert float(bleu_4(rows.sum(axis=0))) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("caption", ["", "...", "zebra"])
def test_nothing_shared_scores_0(caption: str) -> None:
    assert bleu([caption], [["a dog runs on grass"]]) == pytest.approx(0, abs=1e-3)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        bleu([], [])
    with pytest.raises(ValueError, match="a reference for every image"):
        bleu(["a dog"], [[]])
    with pytest.raises(ValueError, match="zip"):
        bleu(["a dog"], [])
