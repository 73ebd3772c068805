from __future__ import annotations

from dataclasses import replace

import pytest

from autotag.errors import ConfigError
from autotag.relevance.embeddings import image_vectors
from autotag.stages import AssemblePrompt
from autotag.testing import FakeEncoder, FakeModels, check_stage, make_sample
from autotag.vocabularies.vocabulary import Vocabulary

SMALL = {
    "mediums": ("a photo", "a painting"),
    "artists": ("by Ann Lee", "by Bob Hill"),
    "movements": ("cubism",),
    "trendings": ("trending on flickr",),
    "flavors": ("sharp focus", "soft light", "8k", "8 k", "x" * 500, "schÃ¶n 😀"),
    "negatives": ("blurry", "bad anatomy"),
}
ENCODER_MODES = ["best", "fast", "classic", "negative"]


def prompt_of(stage, encoder=None, **sample):
    models = FakeModels(fake_encoder=encoder or FakeEncoder())
    stage.setup(models)
    made = make_sample(**{"captions": ["a dog on a beach."], **sample})
    stage([made])
    return made.prompt


def test_it_keeps_the_contract():
    check_stage(AssemblePrompt())
    check_stage(AssemblePrompt(separator="; ", max_tags=1))


def test_the_best_caption_and_the_new_tags_make_the_prompt():
    sample = make_sample(
        captions=["a dog on a beach", "a cat"], tags={"dog": 0.9, "sunset": 0.8, "waves": 0.7}
    )
    AssemblePrompt(separator=" | ", max_tags=1)([sample])
    assert sample.prompt == "a dog on a beach | sunset"


def test_without_captions_the_tags_make_it():
    sample = make_sample(tags={"dog": 0.9, "sunset": 0.8})
    AssemblePrompt()([sample])
    assert sample.prompt == "dog, sunset"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"mode": "fastest"},
            r"mode = 'fastest' does not fit; it takes one of 'plain', .*Did you mean 'fast'",
        ),
        ({"max_tags": -1}, r"assemble_prompt\.max_tags is -1"),
        ({"max_flavors": 0}, r"assemble_prompt\.max_flavors is 0"),
        ({"min_flavors": -1}, r"assemble_prompt\.min_flavors is -1"),
        ({"candidates": 0}, r"assemble_prompt\.candidates is 0"),
        ({"compat": "clip"}, r"assemble_prompt: compat = 'clip' does not fit"),
        ({"compat": "clip-interrogator"}, r"mode, with compat, is 'plain'; allowed: 'best'"),
        ({"mode": "fast", "flavors": "flavor"}, r"assemble_prompt\.flavors is 'flavor'.*mean 'flavors'"),
        ({"mode": "fast", "flavors": ("blue <end_of_text>",)}, r"<end_of_text>"),
        ({"mode": "fast", "flavors": ("blue", "")}, r"'' is not a label"),
        ({"mode": "fast", "encoder": "clip-minni"}, r"clip-mini"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        AssemblePrompt(**options)


@pytest.mark.parametrize("mode", ENCODER_MODES)
def test_every_mode_keeps_the_contract(mode):
    check_stage(AssemblePrompt(mode, **SMALL))


@pytest.mark.parametrize("mode", ["plain", "caption"])
def test_plain_and_caption_borrow_no_encoder(mode):
    models = FakeModels()
    stage = AssemblePrompt(mode)
    stage.setup(models)
    assert stage.image_encoder is None
    assert models.asked == []


def test_caption_mode_is_the_best_caption():
    assert prompt_of(AssemblePrompt("caption"), captions=["a dog.", "a cat"]) == "a dog"


@pytest.mark.parametrize(
    ("mode", "needs"),
    [("plain", {"tags"}), ("caption", {"captions"}), ("best", {"captions"}), ("negative", set())],
)
def test_each_mode_says_what_it_reads(mode, needs):
    assert AssemblePrompt(mode, **SMALL).requires == needs


def test_fast_adds_the_most_similar():
    encoder = FakeEncoder({"soft light": 0.9, "cubism": 0.8, "by Bob Hill": 0.7})
    prompt = prompt_of(AssemblePrompt("fast", max_flavors=3, **SMALL), encoder)
    assert prompt == "a dog on a beach, soft light, cubism, by Bob Hill"


def test_classic_has_one_of_each():
    encoder = FakeEncoder({"soft light": 0.9, "a painting": 0.8, "by Bob Hill": 0.7})
    prompt = prompt_of(AssemblePrompt("classic", max_flavors=1, **SMALL), encoder)
    assert prompt == "a dog on a beach, a painting by Bob Hill, trending on flickr, cubism, soft light"


def test_best_is_at_least_as_similar_as_the_others():
    encoder = FakeEncoder({"soft light": 0.9})
    prompt = prompt_of(AssemblePrompt("best", **SMALL), encoder)
    assert "soft light" in prompt
    assert prompt.startswith("a dog on a beach")


def test_negative_needs_no_caption_and_takes_the_least_similar():
    encoder = FakeEncoder({"blurry": -0.9, "bad anatomy": -0.5})
    assert prompt_of(AssemblePrompt("negative", **SMALL), encoder, captions=[]).startswith("blurry")


@pytest.mark.parametrize("mode", ENCODER_MODES)
@pytest.mark.parametrize("part", ["flavors", "artists"])
def test_parts_can_be_left_out(mode, part):
    labels = SMALL[part]
    for nothing in (None, ()):
        stage = AssemblePrompt(mode, **{**SMALL, part: nothing})
        prompt = prompt_of(stage)
        assert not any(label in prompt for label in labels)


@pytest.mark.parametrize("mode", ENCODER_MODES)
def test_with_no_phrase_at_all_the_caption_is_left(mode):
    nothing = dict.fromkeys(SMALL, ())
    assert prompt_of(AssemblePrompt(mode, **nothing)) == ("" if mode == "negative" else "a dog on a beach")


def test_vocabularies_come_by_name_file_list_and_object(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("# mine\n\nlomography\nlomography\nfilm grain\n", encoding="utf-8")
    nothing = dict.fromkeys(SMALL, None)
    for given in (str(file), ("lomography", "film grain"), Vocabulary(["lomography", "film grain"])):
        stage = AssemblePrompt("fast", **{**nothing, "flavors": given})
        assert {"lomography", "film grain"} == set(prompt_of(stage).split(", ")[1:])
    bundled = AssemblePrompt("fast", **{**nothing, "mediums": "mediums"})
    assert set(prompt_of(bundled).split(", ")[1:]) <= set(Vocabulary.bundled("mediums").labels)


def test_living_artists_can_be_left_out():
    everyone = AssemblePrompt("fast")._read["artists"]
    gone = AssemblePrompt("fast", living_artists=False)._read["artists"]
    assert set(gone) < set(everyone)


def test_without_the_package_compat_says_how_to_get_its_lists(monkeypatch):
    monkeypatch.setattr("autotag.vocabularies.clip_interrogator_lists.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install clip-interrogator"):
        AssemblePrompt("fast", compat="clip-interrogator")


def test_one_stage_serves_many_images_as_each_alone():
    stage = AssemblePrompt("best", **SMALL)
    stage.setup(FakeModels())
    samples = [make_sample(colour=colour, captions=[f"a {colour} picture"]) for colour in ("red", "green")]
    stage(samples)
    alone = [make_sample(colour=colour, captions=[f"a {colour} picture"]) for colour in ("red", "green")]
    for sample in alone:
        stage([sample])
    assert [sample.prompt for sample in samples] == [sample.prompt for sample in alone]


def test_the_vector_made_ahead_is_used():
    encoder = FakeEncoder()
    stage = replace(AssemblePrompt("fast", **SMALL))
    stage.setup(FakeModels(fake_encoder=encoder))
    sample = make_sample(captions=["a dog"])
    image_vectors([sample], stage.image_encoder)
    stage([sample])
    assert encoder.image_batches == [1]
