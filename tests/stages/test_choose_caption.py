from __future__ import annotations

import pytest

from autotag import Pipeline
from autotag.errors import ConfigError, WiringError
from autotag.pipeline.presets import from_config, to_config
from autotag.records import Caption
from autotag.relevance.embeddings import image_vectors
from autotag.stages import CaptionImages, ChooseCaption, FilterTags
from autotag.testing import FakeCaptioner, FakeEncoder, FakeModels, check_stage, make_image, make_sample

SIMILARITIES = {"a dog": 0.5, "the sea": 0.3, "a car": 0.1}


def chosen(stage, captions, encoder=None):
    stage.setup(FakeModels(fake_encoder=encoder or FakeEncoder(SIMILARITIES)))
    sample = make_sample(captions=captions)
    stage([sample])
    return [caption.text for caption in sample.captions]


def test_it_keeps_the_contract():
    check_stage(ChooseCaption())
    check_stage(ChooseCaption(top_k=1, template="a photo of {}", encoder="clip-mini"))


def test_the_caption_that_fits_the_image_best_comes_first_and_the_others_after_it():
    assert chosen(ChooseCaption(), ["a car", "the sea", "a dog"]) == ["a dog", "the sea", "a car"]


def test_each_keeps_its_captioner_and_every_score():
    stage = ChooseCaption()
    stage.setup(FakeModels(fake_encoder=FakeEncoder(SIMILARITIES)))
    sample = make_sample()
    sample.captions = [Caption("a car", "coca", -0.2), Caption("a dog", "blip")]
    stage([sample])
    first, second = sample.captions
    assert (first.text, first.source, second.source) == ("a dog", "blip", "coca")
    assert first.score == pytest.approx(0.5, abs=1e-6)
    assert first.scores == {"choose_caption": first.score}
    assert second.score == pytest.approx(0.1, abs=1e-6)
    assert list(second.scores.items()) == [("coca", -0.2), ("choose_caption", second.score)]


def test_the_captioners_own_score_has_the_share_that_is_asked_for():
    written = [
        Caption("a dog", "blip", -1.0),
        Caption("the sea", "blip", -0.9),
        Caption("a car", "blip", -0.1),
    ]
    for share, first in ((0.0, "a dog"), (0.5, "a car"), (0.1, "a dog"), (100.0, "a car")):
        stage = ChooseCaption(own_share=share)
        stage.setup(FakeModels(fake_encoder=FakeEncoder(SIMILARITIES)))
        sample = make_sample()
        sample.captions = list(written)
        stage([sample])
        assert sample.captions[0].text == first, share
        assert sample.captions[0].score == pytest.approx(SIMILARITIES[first], abs=1e-6)


def test_an_own_share_needs_own_scores_where_there_is_a_choice():
    stage = ChooseCaption(own_share=1.0)
    stage.setup(FakeModels(fake_encoder=FakeEncoder(SIMILARITIES)))
    alone = make_sample()
    alone.captions = [Caption("a dog", "remote")]
    stage([alone])
    assert alone.captions[0].score == pytest.approx(0.5, abs=1e-6)
    several = make_sample()
    several.captions = [Caption("a dog", "remote"), Caption("a car", "remote")]
    with pytest.raises(ConfigError, match="own_share.*'remote' gives none.*num_beams"):
        stage([several])


@pytest.mark.parametrize("captions", [["sky b", "Sky sky", "sky a"], ["sky a", "sky b", "Sky sky"]])
def test_equal_scores_are_ordered_by_text(captions):
    assert chosen(ChooseCaption(), captions, FakeEncoder({"sky": 0.0})) == ["Sky sky", "sky a", "sky b"]


def test_equal_texts_of_several_captioners_all_stay_in_their_order():
    stage = ChooseCaption()
    stage.setup(FakeModels())
    sample = make_sample()
    sample.captions = [Caption("the sky", "second"), Caption("the sky", "first")]
    stage([sample])
    assert [caption.source for caption in sample.captions] == ["second", "first"]


def test_the_template_is_what_the_encoder_reads():
    encoder = FakeEncoder({"a drawing of a car": 0.9, "a dog": 0.5})
    stage = ChooseCaption(template="a drawing of {}")
    assert chosen(stage, ["a dog", "a car"], encoder) == ["a car", "a dog"]


def test_top_k_keeps_the_best():
    assert chosen(ChooseCaption(top_k=2), ["a car", "the sea", "a dog"]) == ["a dog", "the sea"]


def test_an_image_of_which_no_captioner_said_anything_has_no_caption():
    assert chosen(ChooseCaption(), []) == []
    assert chosen(ChooseCaption(), ["", " \n"]) == []
    silent = Pipeline([CaptionImages(FakeCaptioner(" ")), ChooseCaption()], encoder=FakeEncoder())
    with silent:
        result = silent(make_image())
    assert (result.caption, result.captions, result.error) == ("", (), None)


def test_a_caption_without_a_word_is_dropped():
    assert chosen(ChooseCaption(), ["", "a car"]) == ["a car"]


def test_a_batch_costs_one_call_per_modality_and_known_texts_none():
    encoder = FakeEncoder(SIMILARITIES)
    stage = ChooseCaption()
    stage.setup(FakeModels(fake_encoder=encoder))
    stage([make_sample(captions=["a dog", "a car"]), make_sample(captions=["a dog"]), make_sample()])
    stage([make_sample(captions=["a car"])])
    assert encoder.image_batches == [2, 1]
    assert encoder.text_batches == [2]


def test_a_vector_made_ahead_is_used_and_changes_nothing():
    encoder = FakeEncoder(SIMILARITIES)
    stage = ChooseCaption()
    stage.setup(FakeModels(fake_encoder=encoder))
    prepared, plain = (make_sample(captions=["a car", "a dog"]) for _ in range(2))
    image_vectors([prepared], stage.image_encoder)
    stage([prepared])
    assert encoder.image_batches == [1]
    stage([plain])
    assert prepared.captions == plain.captions


def test_it_shares_the_image_vector_with_the_stages_after_it():
    encoder = FakeEncoder(SIMILARITIES)
    stages = [ChooseCaption(), FilterTags()]
    for stage in stages:
        stage.setup(FakeModels(fake_encoder=encoder))
    sample = make_sample(captions=["a dog"], tags={"dog": 0.5})
    for stage in stages:
        stage([sample])
    assert encoder.image_batches == [1]


def test_without_candidates_or_an_encoder_a_pipeline_is_refused_before_anything_loads():
    with pytest.raises(WiringError, match=r"needs 'captions'.* Put 'caption_images' in front"):
        Pipeline([ChooseCaption()])
    with pytest.raises(WiringError, match=r"'choose_caption' \(position 2\) needs the pipeline's encoder"):
        Pipeline([CaptionImages("blip-mini"), ChooseCaption()], encoder=None)
    Pipeline([CaptionImages("blip-mini"), ChooseCaption(encoder="clip-mini")], encoder=None)


def test_its_options_survive_a_config():
    stages = [CaptionImages("blip-mini"), ChooseCaption(top_k=3, template="a photo of {}")]
    config = to_config(Pipeline(stages, encoder="clip-mini"))
    assert config["stages"][1] == {"stage": "choose_caption", "top_k": 3, "template": "a photo of {}"}
    assert to_config(from_config(config)) == config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"own_share": -0.1}, "choose_caption.own_share"),
        ({"top_k": 0}, r"choose_caption\.top_k is 0"),
        ({"template": "a photo"}, r"choose_caption\.template is 'a photo'"),
        ({"name": "best", "top_k": -1}, r"best\.top_k is -1"),
        ({"encoder": "clip-minni"}, "clip-mini"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        ChooseCaption(**options)
