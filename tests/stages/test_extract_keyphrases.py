from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from autotag.errors import ConfigError, UnknownNameError
from autotag.protocols import KeyphraseOptions
from autotag.records import Tag
from autotag.stages import ExtractKeyphrases
from autotag.testing import FakeExtractor, FakeModels, check_stage, make_sample


@dataclass
class ScriptedExtractor:
    keyphrases: dict[str, list[tuple[str, float]]]
    options: list[KeyphraseOptions] = field(default_factory=list)

    def extract(self, texts, /, options):
        self.options.append(options)
        return [self.keyphrases[text] for text in texts]


def ready(extractor, **options) -> ExtractKeyphrases:
    stage = ExtractKeyphrases(extractor, **options)
    stage.setup(FakeModels())
    return stage


def test_it_keeps_the_contract():
    check_stage(ExtractKeyphrases())
    check_stage(ExtractKeyphrases(candidates="ngrams", stop_words=("der", "die"), diversity=0.5))


def test_every_caption_of_a_batch_is_embedded_once():
    extractor = FakeExtractor()
    samples = [make_sample(captions=["a dog", "a cat"]), make_sample(captions=["a dog"]), make_sample()]
    ready(extractor)(samples)
    assert extractor.batches == [2]
    assert [[tag.text for tag in sample.tags] for sample in samples] == [["dog", "cat"], ["dog"], []]


def test_a_phrase_of_two_captions_comes_once_with_its_best_score():
    extractor = ScriptedExtractor({"one": [("dog", 0.4), ("sea", 0.3)], "two": [("sky", 0.6), ("dog", 0.5)]})
    sample = make_sample(captions=["one", "two"])
    ready(extractor)([sample])
    assert [(tag.text, tag.score) for tag in sample.tags] == [("sky", 0.6), ("dog", 0.5), ("sea", 0.3)]


def test_tags_of_other_stages_stay():
    sample = make_sample(captions=["a dog"], tags={"dog": 0.9})
    ready(FakeExtractor())([sample])
    assert sample.tags == [
        Tag.proposed("dog", 0.9, "fake"),
        Tag.proposed("dog", 0.9, "extract_keyphrases"),
    ]


def test_its_options_reach_the_extractor():
    extractor = ScriptedExtractor({"one": []})
    options = {
        "candidates": "ngrams",
        "ngram_range": (2, 3),
        "top_n": 7,
        "diversity": 0.2,
        "stop_words": None,
    }
    ready(extractor, **options)([make_sample(captions=["one"])])
    assert extractor.options == [KeyphraseOptions(**options)]


def test_without_captions_the_extractor_is_left_alone():
    extractor = FakeExtractor()
    ready(extractor)([make_sample()])
    assert extractor.batches == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": "words"}, r"candidates = 'words' does not fit; it takes one of 'phrases', 'ngrams'"),
        ({"ngram_range": (2, 1)}, r"extract_keyphrases\.ngram_range is \(2, 1\)"),
        ({"top_n": 0}, r"extract_keyphrases\.top_n is 0"),
        ({"diversity": 1.5}, r"extract_keyphrases\.diversity is 1\.5; allowed: a number from 0 to 1"),
        ({"stop_words": "french"}, r"extract_keyphrases\.stop_words is 'french'"),
        ({"stop_words": "ja", "candidates": "ngrams"}, r"for 'ja' use 'phrases'"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        ExtractKeyphrases(**options)


def test_an_unknown_model_is_refused_before_anything_loads():
    with pytest.raises(UnknownNameError, match="minilm"):
        ExtractKeyphrases("minilmm")
