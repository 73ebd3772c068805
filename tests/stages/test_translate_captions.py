from __future__ import annotations

import pytest

from autotag.errors import ConfigError, UnknownNameError
from autotag.pipeline.pipeline import Pipeline
from autotag.records import Caption
from autotag.stages import CaptionImages, TranslateCaptions
from autotag.testing import (
    FakeCaptioner,
    FakeModels,
    FakeTranslator,
    check_stage,
    check_translator,
    make_image,
    make_sample,
)


def captioned(*texts):
    sample = make_sample()
    sample.captions = [Caption(text, "blip-base", 0.5) for text in texts]
    return sample


def translated(stage, *lists):
    stage.setup(FakeModels())
    samples = [captioned(*texts) for texts in lists]
    stage(samples)
    return stage.model, [[one.text for one in sample.captions] for sample in samples]


def test_it_keeps_the_contract():
    check_translator(FakeTranslator())
    check_stage(TranslateCaptions(FakeTranslator(), "de"))


def test_the_translation_of_the_best_caption_comes_first_and_equal_texts_are_translated_once():
    stage = TranslateCaptions(FakeTranslator(), "de")
    translator, texts = translated(stage, ("a dog", "a cat"), ("a dog",), ())
    assert translator.batches == [1]
    assert texts == [["de: a dog", "a dog", "a cat"], ["de: a dog", "a dog"], []]


def test_several_captions_are_translated_in_their_order():
    stage = TranslateCaptions(FakeTranslator(), "fr", most=2)
    _, texts = translated(stage, ("a dog", "a cat", "an owl"))
    assert texts == [["fr: a dog", "fr: a cat", "a dog", "a cat", "an owl"]]


def test_a_translation_says_where_it_comes_from_and_has_no_score():
    stage = TranslateCaptions(FakeTranslator(), "de")
    stage.setup(FakeModels())
    sample = captioned("a dog")
    stage([sample])
    assert sample.captions == [
        Caption("de: a dog", "FakeTranslator from blip-base"),
        *captioned("a dog").captions,
    ]


def test_a_translation_that_is_empty_is_left_out():
    class Mute(FakeTranslator):
        def translate(self, texts, /, options):
            return [" "] * len(texts)

    _, texts = translated(TranslateCaptions(Mute(), "de"), ("a dog",))
    assert texts == [["a dog"]]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target": " "}, "target is empty"),
        ({"target": "en"}, "source and target are both 'en'"),
        ({"target": "de", "most": 0}, "most is 0"),
        ({"target": "de", "num_beams": 0}, "num_beams is 0"),
        ({"target": "de", "max_new_tokens": 0}, "max_new_tokens is 0"),
    ],
)
def test_options_out_of_range_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        TranslateCaptions(FakeTranslator(), **options)


def test_names_of_other_models_are_refused():
    with pytest.raises(ConfigError, match="'blip-base' is a captioner, not a translator"):
        TranslateCaptions("blip-base", "de")
    with pytest.raises(UnknownNameError, match="translator"):
        TranslateCaptions("opus", "de")


def test_a_pipeline_gives_the_stage_its_translator():
    stages = [CaptionImages(FakeCaptioner("a dog")), TranslateCaptions(FakeTranslator(), "de")]
    with Pipeline(stages) as pipeline:
        result = pipeline(make_image("red"))
    assert [caption.text for caption in result.captions] == ["de: a dog", "a dog"]
