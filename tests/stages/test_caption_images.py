from __future__ import annotations

import numpy as np
import pytest

from autotag import Pipeline
from autotag.errors import ConfigError, StageError, UnknownNameError, WiringError
from autotag.models.pool import ModelPool
from autotag.pipeline.presets import from_config, to_config
from autotag.protocols import CaptionOptions
from autotag.records import Caption, Detection, Sample
from autotag.stages import CaptionImages, ChooseCaption
from autotag.testing import (
    FakeCaptioner,
    FakeEncoder,
    FakeModels,
    check_stage,
    make_image,
    make_sample,
)


def test_it_keeps_the_contract():
    check_stage(CaptionImages())
    check_stage(CaptionImages("blip-large", prompt="a photo of", num_beams=3, candidates=2))
    check_stage(CaptionImages(["blip-large", "git-base"], candidates=2))


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
    stage = CaptionImages(FakeCaptioner(), prompt="look:", num_beams=2, candidates=2)
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
    given = {"do_sample": True, "temperature": 0.5, "top_p": 0.9, "seed": 3}
    stage = CaptionImages(Sampling(), candidates=4, **given)
    stage.setup(FakeModels())
    sample = make_sample()
    stage([sample])
    assert [caption.text for caption in sample.captions] == [str(CaptionOptions(num_captions=4, **given))] * 4


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
    with pytest.raises(
        ConfigError, match=rf"caption_images\.{option}: captioner .* does not support this option"
    ):
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
        ({"candidates": 0}, r"caption_images\.candidates is 0; allowed: .* at least 1"),
        ({"candidates": 3, "num_beams": 2}, r"caption_images\.candidates is 3; allowed: .* at most 2"),
        ({"model": []}, r"caption_images\.model is empty; name at least one captioner"),
        ({"model": ["blip-mini", "blip-mini"]}, r"caption_images\.model has 'blip-mini' twice"),
        (
            {"model": ["blip-base", "hf:Salesforce/blip-image-captioning-base"]},
            r"has 'hf:Salesforce/blip-image-captioning-base' twice",
        ),
        ({"model": ["blip-mini", "clip-mini"]}, r"'clip-mini' is an encoder"),
        ({"repetition_penalty": 0.0}, r"caption_images\.repetition_penalty is 0\.0; .* above 0"),
        ({"name": "second", "num_beams": -1}, r"second\.num_beams is -1"),
        ({"min_new_tokens": 31}, r"caption_images\.min_new_tokens is 31; allowed: .* at most 30"),
        ({"do_sample": True, "temperature": 0.0}, r"caption_images\.temperature is 0\.0; .* above 0"),
        ({"do_sample": True, "top_k": 0}, r"caption_images\.top_k is 0; .* at least 1"),
        ({"do_sample": True, "top_p": 1.5}, r"caption_images\.top_p is 1\.5; .* above 0 to 1"),
        ({"do_sample": True, "seed": -1}, r"caption_images\.seed is -1"),
        ({"do_sample": True, "num_beams": 2}, r"do_sample needs one beam, but num_beams is 2"),
        ({"top_k": 5}, r"caption_images\.top_k needs sampling; set do_sample"),
        ({"beam_scores": "logits"}, r"caption_images\.beam_scores needs several beams"),
        ({"num_beams": 2, "beam_scores": "logit"}, r"beam_scores = 'logit' does not fit; it takes"),
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


def test_candidates_of_a_beam_search_need_no_number_of_beams():
    sample = make_sample()
    stage = CaptionImages(Telling(), candidates=3)
    stage.setup(FakeModels())
    stage([sample])
    [told] = {caption.text for caption in sample.captions}
    assert told == str(CaptionOptions(num_beams=3, num_captions=3))


class Telling(FakeCaptioner):
    """Says with what options it was called."""

    def caption(self, images, /, options):
        return [[Caption(str(options), "telling")] * options.num_captions for _ in images]


def test_every_captioner_writes_its_candidates_in_their_order():
    stage = CaptionImages([FakeCaptioner("one"), FakeCaptioner("two")], candidates=2)
    stage.setup(FakeModels())
    samples = [make_sample(captions=["old"]), make_sample()]
    stage(samples)
    written = ["one", "one, version 2", "two", "two, version 2"]
    assert [[caption.text for caption in sample.captions] for sample in samples] == [
        ["old", *written],
        written,
    ]


def test_each_captioner_gets_a_batch_in_one_call():
    captioners = [FakeCaptioner(), FakeCaptioner()]
    stage = CaptionImages(captioners)
    stage.setup(FakeModels())
    stage([make_sample(), make_sample()])
    assert [captioner.batches for captioner in captioners] == [[2], [2]]


def test_a_list_of_captioners_survives_a_config():
    stages = [CaptionImages(["blip-mini", "git-base"], candidates=3), ChooseCaption()]
    config = to_config(Pipeline(stages, encoder="clip-mini"))
    assert config["stages"][0] == {
        "stage": "caption_images",
        "model": ["blip-mini", "git-base"],
        "candidates": 3,
    }
    assert to_config(from_config(config)) == config
    with pytest.raises(ConfigError, match=r"model is an object \(FakeCaptioner\)"):
        to_config(Pipeline([CaptionImages(["blip-mini", FakeCaptioner()])]))


@pytest.mark.slow
def test_each_model_is_loaded_once_and_given_to_every_stage_that_names_it():
    pool = ModelPool(device="cpu")
    first, second = CaptionImages(["blip-mini", FakeCaptioner()]), CaptionImages("blip-mini", name="again")
    first.setup(pool)
    second.setup(pool)
    assert first._captioners[0] is second._captioners[0]
    pool.close()


def test_captioners_look_each_at_their_own_view():
    viewing = Viewing()
    stage = CaptionImages([FakeCaptioner("plain"), viewing])
    stage.setup(FakeModels())
    sample = make_sample()
    sample.views["tiny"] = np.zeros((3, 2, 2), dtype=np.uint8)
    stage([sample])
    assert [caption.text for caption in sample.captions] == ["plain", "(3, 2, 2) pixels, 1 beams"]
    assert viewing.batches == []


def test_an_option_that_one_of_several_captioners_does_not_heed_is_refused_by_its_name():
    stage = CaptionImages([Sampling(), FakeCaptioner()], do_sample=True)
    with pytest.raises(ConfigError, match="captioner 'FakeCaptioner' does not support this option"):
        stage.setup(FakeModels())


class Failing(FakeCaptioner):
    """Fails on every image."""

    def caption(self, images, /, options):
        raise ValueError("no eyes")


def test_a_failure_names_the_captioner():
    pipeline = Pipeline([CaptionImages([FakeCaptioner(), Failing()])], encoder=None)
    with pytest.raises(StageError, match=r"'caption_images' failed on .*no eyes \(captioner 'Failing'\)"):
        pipeline(make_image())


def test_an_ensemble_is_one_stage_in_description_statistics_and_batch_sizes():
    captioners = [FakeCaptioner("a dog"), FakeCaptioner("a car")]
    encoder = FakeEncoder({"a dog": 0.1, "a car": 0.4})
    pipeline = Pipeline(
        [CaptionImages(captioners), ChooseCaption()],
        encoder=encoder,
        batch_size=4,
        stage_batch_sizes={"caption_images": 2},
    )
    assert pipeline.describe().splitlines()[0].split()[:2] == ["1.", "caption_images"]
    with pipeline:
        results = list(pipeline.stream([make_image()] * 4))
        rows = {row.name: row.items for row in pipeline.stats().stages}
    assert {result.caption for result in results} == {"a car"}
    assert [caption.text for caption in results[0].captions] == ["a car", "a dog"]
    assert [captioner.batches for captioner in captioners] == [[2, 2], [2, 2]]
    assert rows["caption_images"] == rows["choose_caption"] == 4


@pytest.mark.slow
def test_two_real_captioners_write_about_one_image_what_each_writes_alone():
    def captions(model):
        with Pipeline([CaptionImages(model, candidates=2)], encoder=None, device="cpu") as pipeline:
            return pipeline(make_image("green")).captions

    assert captions(["blip-mini", FakeCaptioner()]) == (*captions("blip-mini"), *captions(FakeCaptioner()))


def test_regions_are_captioned_as_one_batch_after_the_images() -> None:
    image = make_image("red", (80, 40))
    image.paste("blue", (40, 0, 80, 40))
    first, second = FakeCaptioner(), FakeCaptioner("something")
    stage = CaptionImages((first, second), regions=True)
    stage.setup(FakeModels())
    samples = [Sample(name, image, (800, 400)) for name in ("a", "b")]
    samples[0].detections = [
        Detection("car", 0.9, (440, 40, 760, 360)),
        Detection("dot", 0.9, (0, 0, 20, 400)),
        Detection("wall", 0.8, (40, 40, 360, 360)),
    ]
    stage(samples)
    assert [(caption.text, caption.source) for caption in samples[0].captions] == [
        (first.caption([image], CaptionOptions())[0][0].text, "fake"),
        ("something", "fake"),
        ("a blue picture", "fake on car"),
        ("a red picture", "fake on wall"),
        ("something", "fake on car"),
        ("something", "fake on wall"),
    ]
    assert len(samples[1].captions) == 2
    assert first.batches[:2] == [2, 2]


def test_regions_need_a_stage_that_finds_boxes() -> None:
    with pytest.raises(WiringError, match="detections"):
        Pipeline([CaptionImages(FakeCaptioner(), regions=True)])
    check_stage(CaptionImages(FakeCaptioner(), regions=True))


def test_lone_surrogates_in_a_caption_are_replaced():
    stage = CaptionImages(FakeCaptioner("a cat \ud83d on a mat"))
    stage.setup(FakeModels())
    sample = make_sample()
    stage([sample])
    assert sample.captions[0].text == "a cat \N{REPLACEMENT CHARACTER} on a mat"
