from __future__ import annotations

import numpy as np
import pytest

from autotag.errors import ConfigError, UnknownNameError
from autotag.protocols import CaptionOptions
from autotag.records import Caption
from autotag.stages import CaptionImages
from autotag.testing import FakeCaptioner, FakeModels, check_stage, make_sample


def test_it_keeps_the_contract():
    check_stage(CaptionImages())
    check_stage(CaptionImages("blip-large", prompt="a photo of", num_beams=3, num_captions=2))


def test_a_batch_is_captioned_in_one_call_by_the_model_it_names():
    models = FakeModels(fake_captioner=FakeCaptioner())
    samples = [make_sample(colour="red"), make_sample(colour="blue")]
    stage = CaptionImages("blip-large")
    stage.setup(models)
    stage(samples)
    assert models.asked == [("captioner", "blip-large")]
    assert models.fake_captioner.batches == [2]
    assert [sample.captions[0].text for sample in samples] == ["a red picture", "a blue picture"]


def test_its_options_reach_the_captioner():
    stage = CaptionImages(FakeCaptioner(), prompt="look:", num_beams=2, num_captions=2)
    stage.setup(FakeModels())
    sample = make_sample()
    stage([sample])
    assert [caption.text for caption in sample.captions] == [
        "look: a red picture",
        "look: a red picture, version 2",
    ]


class Sampling(FakeCaptioner):
    """Heeds what sampling needs, and says with what options it was called."""

    extra_options = frozenset({"do_sample", "temperature", "top_p", "seed"})

    def caption(self, images, /, options):
        return [[Caption(str(options), "sampling")] * options.num_captions for _ in images]


def test_options_that_not_every_captioner_heeds_reach_one_that_does():
    given = {"do_sample": True, "temperature": 0.5, "top_p": 0.9, "seed": 3, "num_captions": 4}
    stage = CaptionImages(Sampling(), **given)
    stage.setup(FakeModels())
    sample = make_sample()
    stage([sample])
    assert [caption.text for caption in sample.captions] == [str(CaptionOptions(**given))] * 4


@pytest.mark.parametrize(
    ("captioner", "options", "option"),
    [
        (FakeCaptioner, {"min_new_tokens": 3}, "min_new_tokens"),
        (FakeCaptioner, {"do_sample": True}, "do_sample"),
        (Sampling, {"do_sample": True, "top_k": 5}, "top_k"),
        (Sampling, {"num_beams": 2, "beam_scores": "logits"}, "beam_scores"),
    ],
)
def test_a_captioner_that_does_not_heed_an_option_is_refused(captioner, options, option):
    stage = CaptionImages(captioner(), **options)
    with pytest.raises(ConfigError, match=rf"caption_images\.{option}: captioner .* knows no such option"):
        stage.setup(FakeModels())


def test_captions_of_other_stages_stay_in_front():
    stage = CaptionImages(FakeCaptioner(text="new"))
    stage.setup(FakeModels())
    sample = make_sample(captions=["old"])
    stage([sample])
    assert [caption.text for caption in sample.captions] == ["old", "new"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, r"caption_images\.max_new_tokens is 0; allowed: .* at least 1"),
        ({"num_beams": 0}, r"caption_images\.num_beams is 0"),
        ({"num_captions": 2}, r"caption_images\.num_captions is 2; allowed: .* at most 1"),
        ({"repetition_penalty": 0.0}, r"caption_images\.repetition_penalty is 0\.0; .* above 0"),
        ({"name": "second", "num_beams": -1}, r"second\.num_beams is -1"),
        ({"min_new_tokens": 31}, r"caption_images\.min_new_tokens is 31; allowed: .* at most 30"),
        ({"do_sample": True, "temperature": 0.0}, r"caption_images\.temperature is 0\.0; .* above 0"),
        ({"do_sample": True, "top_k": 0}, r"caption_images\.top_k is 0; .* at least 1"),
        ({"do_sample": True, "top_p": 1.5}, r"caption_images\.top_p is 1\.5; .* above 0 to 1"),
        ({"do_sample": True, "seed": -1}, r"caption_images\.seed is -1"),
        ({"do_sample": True, "num_beams": 2}, r"do_sample goes with one beam, and num_beams is 2"),
        ({"top_k": 5}, r"caption_images\.top_k is for sampling; set do_sample"),
        ({"beam_scores": "logits"}, r"caption_images\.beam_scores is for several beams"),
        ({"num_beams": 2, "beam_scores": "logit"}, r"beam_scores is 'logit'; allowed: 'log_probabilities'"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        CaptionImages(**options)


def test_an_unknown_model_is_refused_before_anything_loads():
    with pytest.raises(UnknownNameError, match="blip-base"):
        CaptionImages("blip-bass")


class Viewing(FakeCaptioner):
    """Says what it looked at."""

    view_id = "tiny"

    def view(self, image, /):
        raise AssertionError("a stage makes no views")

    def caption_views(self, views, /, options):
        return [[Caption(f"{view.shape} pixels, {options.num_beams} beams", "viewing")] for view in views]


def test_a_captioner_gets_the_views_that_its_samples_bring():
    stage = CaptionImages(Viewing(), num_beams=2)
    stage.setup(FakeModels())
    with_view, without = make_sample(), make_sample()
    with_view.views["tiny"] = np.zeros((3, 2, 2), dtype=np.uint8)
    stage([with_view])
    stage([without])
    assert with_view.captions[0].text == "(3, 2, 2) pixels, 2 beams"
    assert without.captions[0].text == "a red picture"
