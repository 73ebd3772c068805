"""CIDEr-D against the reference implementation."""

from __future__ import annotations

import pytest

from autotag.evaluation.metrics.cider import CiderD, caption_tokens

REFERENCES = [
    ["A dog runs across the grass.", "A brown dog is running on green grass", "The dog runs, runs and runs!"],
    ["Two men look at a red bus.", "A red double-decker bus in the city's main street"],
    [
        "A child in a blue shirt plays with a ball",
        "A little boy kicks a ball on the beach",
        "A boy on a beach.",
    ],
    ["People walk on the beach at sunset"],
    ["A man rides a bike down the street", "A cyclist on a red bike", "man on a bike in the city"],
]
CAPTIONS = [
    "a dog is running on the grass",
    "a red bus in the street",
    "a dog plays with a ball on the grass",
    "people walk on the beach at sunset",
    "a a a bike bike",
]

# What the CiderScorer of pycocoevalcap 1.2 says of these, each text joined from its caption_tokens().
EXPECTED = [2.413600895434239, 2.2659102904898316, 1.9861695132029702, 10.0, 0.9480204471563805]
EXPECTED_MEAN = 3.5227402292566845


def test_scores_are_those_of_the_reference_implementation() -> None:
    scores = [CiderD(REFERENCES).score(image, caption) for image, caption in enumerate(CAPTIONS)]
    assert scores == pytest.approx(EXPECTED, abs=1e-6)
    assert CiderD(REFERENCES).mean(CAPTIONS) == pytest.approx(EXPECTED_MEAN, abs=1e-6)


@pytest.mark.parametrize("caption", ["", "...", "zebra crossing"])
def test_nothing_shared_scores_0(caption: str) -> None:
    assert CiderD(REFERENCES).score(0, caption) == 0


def test_an_empty_reference_lowers_the_score_and_breaks_nothing() -> None:
    alone = CiderD([["a dog runs on grass"], ["a cat"]]).score(0, "a dog runs on grass")
    assert alone == pytest.approx(10)
    assert CiderD([["a dog runs on grass", ""], ["a cat"]]).score(0, "a dog runs on grass") == pytest.approx(
        5
    )


def test_with_one_image_every_word_is_common_and_scores_0() -> None:
    assert CiderD([["a dog runs on the grass"]]).score(0, "a dog runs on the grass") == 0


def test_repeating_a_word_does_not_raise_the_score() -> None:
    cider = CiderD(REFERENCES)
    assert cider.score(4, "a bike bike bike bike") < cider.score(4, "a bike")


def test_case_and_marks_do_not_matter() -> None:
    cider = CiderD(REFERENCES)
    assert cider.score(1, "A RED bus, in the street!") == cider.score(1, "a red bus in the street")
    assert caption_tokens("The city's 2 double-decker buses.") == [
        "the",
        "city's",
        "2",
        "double",
        "decker",
        "buses",
    ]


@pytest.mark.parametrize("references", [[], [["a dog"], []]])
def test_an_image_without_references_is_refused(references: list[list[str]]) -> None:
    with pytest.raises(ValueError, match="a reference for every image"):
        CiderD(references)


def test_a_caption_too_few_is_refused() -> None:
    with pytest.raises(ValueError, match="4 captions for 5 images"):
        CiderD(REFERENCES).mean(CAPTIONS[:4])


def test_500_caption_sets_score_as_by_the_reference_implementation(caption_sets, reference_scores) -> None:
    captions, references = caption_sets
    cider = CiderD(references)
    scores = [cider.score(image, caption) for image, caption in enumerate(captions)]
    assert len(scores) == 500
    assert scores == pytest.approx(reference_scores["cider_d"], abs=1e-6)
    assert cider.mean(captions) == pytest.approx(reference_scores["cider_d_mean"], abs=1e-6)


def test_other_languages_have_words_too() -> None:
    assert caption_tokens("Ein Mädchen, das läuft.") == ["ein", "mädchen", "das", "läuft"]
    assert caption_tokens("Собака бежит!") == ["собака", "бежит"]
    assert caption_tokens("一只狗 runs") == ["一", "只", "狗", "runs"]


def test_two_ways_to_write_an_accent_are_one_word() -> None:
    assert caption_tokens("cafe\u0301") == caption_tokens("caf\u00e9") == ["café"]
