from __future__ import annotations

import json
import sys
import threading
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import autotag
from autotag.errors import ConfigError, UnknownNameError, WiringError
from autotag.models.names import parse_name
from autotag.pipeline.pipeline import Pipeline
from autotag.pipeline.presets import from_config, load, parse_overrides, preset_names, read_preset, to_config
from autotag.stages import (
    AssemblePrompt,
    CaptionImages,
    EmbedImages,
    ExtractKeyphrases,
    FilterTags,
    MergeTags,
)
from autotag.testing import FakeCaptioner, FakeEncoder, FakeExtractor, make_image

if TYPE_CHECKING:
    from types import FrameType

SIX = [
    "caption_images", "extract_keyphrases", "match_vocabulary",
    "merge_tags", "filter_tags", "assemble_prompt",
]  # fmt: skip
CAPTION = {"stage": "caption_images"}


def option(pipeline: Pipeline, stage: str, name: str) -> Any:
    return getattr(next(made for made in pipeline.stages if made.name == stage), name)


@pytest.mark.slow
def test_each_models_name_is_parsed_once_on_the_way_from_the_preset_to_the_result() -> None:
    parsed: list[str] = []

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is parse_name.__code__:
            parsed.append(str(frame.f_locals["name"]))

    threading.setprofile(count)
    sys.setprofile(count)
    try:
        with load("mini") as pipeline:
            assert pipeline(make_image()).caption
    finally:
        sys.setprofile(None)
        threading.setprofile(None)

    assert sorted(parsed) == ["blip-mini", "clip-mini", "minilm-mini"]


def test_a_stage_that_embeds_images_needs_the_pipelines_encoder() -> None:
    with pytest.raises(WiringError, match="'embed_images'.*needs the pipeline's encoder"):
        Pipeline([EmbedImages()], encoder=None)


class TestPresets:
    def test_there_are_mini_base_large_and_artwork(self) -> None:
        assert preset_names() == ("artwork", "base", "large", "mini")

    @pytest.mark.parametrize(
        ("preset", "captioner", "extractor", "encoder"),
        [
            ("mini", "blip-mini", "minilm-mini", "clip-mini"),
            ("base", "blip-base", "minilm", "clip-vit-b-32"),
            ("large", "blip-large", "minilm", "clip-vit-l-14"),
        ],
    )
    def test_each_is_the_six_stages_with_its_models(
        self, preset: str, captioner: str, extractor: str, encoder: str
    ) -> None:
        pipeline = load(preset)
        ranked = ["choose_caption"] if preset == "mini" else []
        assert [stage.name for stage in pipeline.stages] == [SIX[0], *ranked, *SIX[1:]]
        assert option(pipeline, "caption_images", "model") == captioner
        assert option(pipeline, "extract_keyphrases", "model") == extractor
        assert pipeline.encoder == encoder
        assert option(pipeline, "match_vocabulary", "vocabulary") == "things"

    def test_base_is_the_default(self) -> None:
        assert to_config(load()) == to_config(load("base"))

    def test_a_file_of_ones_own_works_like_a_preset(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.toml"
        path.write_text('encoder = "clip-mini"\nbatch_size = 2\n[[stages]]\nstage = "match_vocabulary"\n'
                        'vocabulary = ["cat", "dog"]\n')  # fmt: skip
        for pipeline in (load(path), load(str(path)), from_config(path)):
            assert (pipeline.encoder, pipeline.batch_size) == ("clip-mini", 2)

    def test_an_unknown_preset_is_refused_with_the_near_miss(self) -> None:
        with pytest.raises(UnknownNameError, match=r"unknown preset 'bse'\. Did you mean 'base'\?"):
            load("bse")

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"cannot read the preset .*none\.toml.*No such file"):
            load(tmp_path / "none.toml")

    def test_a_file_is_a_preset_whatever_its_name_ends_in(self, tmp_path: Path) -> None:
        path = tmp_path / "my preset"
        path.write_text('encoder = "none"\n[[stages]]\nstage = "caption_images"\n')
        assert [stage.name for stage in load(path).stages] == ["caption_images"]

    @pytest.mark.parametrize("content", [b"encoder = ", b"\xff\xfe"])
    def test_a_file_that_is_no_toml_is_named(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(ConfigError, match=r"bad\.toml' is not a TOML file"):
            load(tmp_path / "bad.toml")


class TestOverrides:
    def test_settings_and_options_are_changed_by_name(self) -> None:
        changes = {"score": "cosine", "threshold": 0.25, "top_k": 8}
        pipeline = load("base", device="cpu", batch_size=4, filter_tags=changes)
        assert (pipeline.device, pipeline.batch_size) == ("cpu", 4)
        assert option(pipeline, "filter_tags", "threshold") == 0.25
        assert option(pipeline, "filter_tags", "top_k") == 8
        assert option(pipeline, "caption_images", "model") == "blip-base", "the rest stays"

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("encoder", "clip-mini"),
            ("device", "cpu"),
            ("dtype", "bfloat16"),
            ("batch_size", 3),
            ("decode_size", "full"),
            ("decode_threads", 1),
            ("decode_ahead", 4),
            ("allow_urls", True),
            ("max_pixels", 1000),
            ("max_pixels", "auto"),
            ("allow_truncated", True),
            ("deterministic", True),
            ("fast_paths", "off"),
            ("fast_paths", ("views",)),
        ],
    )
    def test_every_setting_of_a_pipeline_can_be_given(self, setting: str, value: Any) -> None:
        assert getattr(load("base", **{setting: value}), setting) == value

    def test_models_may_be_objects(self) -> None:
        pipeline = load(
            "mini",
            encoder=FakeEncoder({"picture": 0.9, "red": 0.6}),
            caption_images={"model": FakeCaptioner()},
            extract_keyphrases={"model": FakeExtractor()},
        )
        result = pipeline(make_image("red"))
        assert result.caption == "a red picture"
        assert "red" in " ".join(tag.text for tag in result.tags)

    def test_an_unknown_option_is_refused_with_the_near_miss(self) -> None:
        with pytest.raises(UnknownNameError, match=r"filter_tags: 'treshold'\. Did you mean 'threshold'\?"):
            load("base", filter_tags={"treshold": 0.25})

    def test_an_unknown_stage_is_refused_with_the_near_miss(self) -> None:
        with pytest.raises(UnknownNameError, match=r"'filter_tag'\. Did you mean 'filter_tags'\?"):
            load("base", filter_tag={"threshold": 0.25})

    @pytest.mark.parametrize(
        ("stage", "option"),
        [("moderate_images", "--moderate"), ("suggest_keywords", "--learn"), ("name_tags", "--language")],
    )
    def test_a_stage_that_the_preset_lacks_is_refused_with_the_option_that_adds_it(
        self, stage: str, option: str
    ) -> None:
        with pytest.raises(ConfigError, match=rf"^{stage} is not a stage of this preset; {option} "):
            load("base", **{stage: {"threshold": 0.6}})

    def test_another_stage_that_the_preset_lacks_is_refused_with_the_way_to_add_it(self) -> None:
        with pytest.raises(
            ConfigError, match=r"to add it, write \[\[stages\]\] with stage = 'detect_objects'"
        ):
            load("base", detect_objects={"threshold": 0.6})

    def test_a_wrong_type_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="filter_tags: threshold = 'high' does not fit"):
            load("base", filter_tags={"threshold": "high"})

    def test_options_are_a_mapping(self) -> None:
        with pytest.raises(ConfigError, match=r"filter_tags=0\.25: write the options to change"):
            load("base", filter_tags=0.25)  # type: ignore[arg-type]

    def test_a_renamed_stage_goes_by_its_new_name(self, tmp_path: Path) -> None:
        path = tmp_path / "two.toml"
        path.write_text('[[stages]]\nstage = "match_vocabulary"\nvocabulary = ["cat"]\n'
                        '[[stages]]\nstage = "filter_tags"\n'
                        '[[stages]]\nstage = "filter_tags"\nname = "again"\n')  # fmt: skip
        pipeline = load(path, again={"top_k": 3})
        assert option(pipeline, "again", "top_k") == 3
        assert option(pipeline, "filter_tags", "top_k") != 3

    def test_two_stages_of_one_name_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "two.toml"
        path.write_text('[[stages]]\nstage = "match_vocabulary"\nvocabulary = ["cat"]\n'
                        '[[stages]]\nstage = "filter_tags"\n[[stages]]\nstage = "filter_tags"\n')  # fmt: skip
        with pytest.raises(WiringError, match="two stages are called 'filter_tags'"):
            load(path)


class TestParsing:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("0.25", 0.25),
            ("8", 8),
            ("true", True),
            ("[1, 2]", [1, 2]),
            ('"8"', "8"),
            ("none", "none"),
            ("fast", "fast"),
            ("a photo of {}", "a photo of {}"),
            ("hf:Salesforce/blip", "hf:Salesforce/blip"),
            ("a=b", "a=b"),
            ("1\nother = 2", "1\nother = 2"),
        ],
    )
    def test_values_are_toml_and_bare_words_are_text(self, text: str, value: Any) -> None:
        assert parse_overrides([f"stage.option={text}"]) == {"stage": {"option": value}}

    def test_overrides_are_gathered_by_stage_and_ready_for_load(self) -> None:
        parsed = parse_overrides(
            ["filter_tags.score=cosine", "filter_tags.threshold=0.25", "merge_tags.case=false"]
        )
        assert parsed == {
            "filter_tags": {"score": "cosine", "threshold": 0.25},
            "merge_tags": {"case": False},
        }
        pipeline = load("base", **parsed)
        assert option(pipeline, "filter_tags", "threshold") == 0.25
        assert option(pipeline, "merge_tags", "case") is False

    def test_several_captioners_are_a_toml_array(self) -> None:
        parsed = parse_overrides(['caption_images.model=["blip-mini", "git-base"]'])
        pipeline = load("mini", **parsed)
        assert option(pipeline, "caption_images", "model") == ("blip-mini", "git-base")
        with pytest.raises(ConfigError, match=r"is not a TOML value.*in quotes"):
            parse_overrides(["caption_images.model=[blip-mini, git-base]"])

    @pytest.mark.parametrize("text", ["", "threshold=1", "filter_tags.threshold", ".a=1", "a.=1", "=1"])
    def test_another_form_is_refused(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"write stage\.option=value"):
            parse_overrides([text])

    @pytest.mark.parametrize("text", ["[1, 2", '"open', "{a = }"])
    def test_a_broken_toml_value_is_refused(self, text: str) -> None:
        with pytest.raises(ConfigError, match="is not a TOML value"):
            parse_overrides([f"a.b={text}"])


class TestRoundTrip:
    @pytest.mark.parametrize("preset", ["mini", "base", "large"])
    def test_a_preset_comes_back_the_same(self, preset: str) -> None:
        pipeline = load(preset)
        again = from_config(to_config(pipeline))
        assert again.stages == pipeline.stages
        assert again.encoder == pipeline.encoder
        assert to_config(again) == to_config(pipeline)

    def test_everything_that_differs_is_kept_also_through_json(self) -> None:
        pipeline = Pipeline(
            [
                CaptionImages("blip-large", prompt="a photo of", num_beams=3),
                ExtractKeyphrases(ngram_range=(1, 3), stop_words=None, diversity=0.5),
                MergeTags(plural=False),
                FilterTags(score="cosine", threshold=1, name="first"),  # an int, where a float is meant
                FilterTags(top_k=None),
                AssemblePrompt(max_tags=3),
            ],
            encoder="clip-mini",
            device="cpu",
            batch_size=4,
            allow_urls=True,
        )
        config = to_config(pipeline)
        again = from_config(json.loads(json.dumps(config)))
        assert again.stages == pipeline.stages
        assert (again.encoder, again.device, again.batch_size, again.allow_urls) == (
            "clip-mini",
            "cpu",
            4,
            True,
        )
        assert to_config(again) == config

    def test_it_is_what_toml_can_hold(self) -> None:
        config = to_config(Pipeline([CaptionImages(), ExtractKeyphrases(stop_words=None)], encoder=None))
        text = f"encoder = {json.dumps(config['encoder'])}\n" + "".join(
            "[[stages]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in table.items())
            for table in config["stages"]
        )
        assert tomllib.loads(text) == config
        assert from_config(tomllib.loads(text)).encoder is None

    def test_a_model_given_as_an_object_cannot_be_written(self) -> None:
        with pytest.raises(ConfigError, match=r"caption_images: model is an object \(FakeCaptioner\)"):
            to_config(Pipeline([CaptionImages(FakeCaptioner())]))
        with pytest.raises(ConfigError, match=r"the pipeline: encoder is an object \(FakeEncoder\)"):
            to_config(Pipeline([CaptionImages()], encoder=FakeEncoder()))

    def test_what_a_preset_file_says_is_what_is_read(self) -> None:
        assert read_preset("mini")["encoder"] == "clip-mini"

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({}, "a config needs stages"),
            ({"stages": "filter_tags"}, "a config needs stages"),
            ({"stages": ["filter_tags"]}, "a config needs stages"),
            ({"stages": []}, "at least one stage"),
            (
                {"stages": [{"stage": "caption_images"}], "divice": "cpu"},
                r"the pipeline: 'divice'\. Did you mean 'device'",
            ),
            (
                {"stages": [CAPTION], "batch_size": "many"},
                "batch_size = 'many' does not fit",
            ),
            ({"stages": [{"stage": "filter_tags"}]}, "needs 'tags'"),
        ],
    )
    def test_a_wrong_config_is_refused(self, config: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            from_config(config)


def test_load_is_autotag_load() -> None:
    assert autotag.load is load


def test_files_are_looked_for_beside_the_preset_and_then_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    monkeypatch.chdir(here)
    preset = there / "mine.toml"
    preset.write_text(
        'encoder = "clip-mini"\n[[stages]]\nstage = "rank_labels"\nvocabularies = ["mediums", "pets.txt"]\n'
    )
    with pytest.raises(ConfigError, match=f"{there}/pets.txt': neither a bundled vocabulary nor a file"):
        load(preset)

    (here / "pets.txt").write_text("cat\n")
    assert option(load(preset), "rank_labels", "vocabularies") == ("mediums", "pets.txt")
    (there / "pets.txt").write_text("dog\n")
    for path in (preset, Path("../there/mine.toml")):
        assert option(load(path), "rank_labels", "vocabularies") == ("mediums", f"{there}/pets.txt")
    changed = load(preset, rank_labels={"vocabularies": ["pets.txt"]})
    assert option(changed, "rank_labels", "vocabularies") == ("pets.txt",)
