from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, ClassVar

import pytest

from autotag.errors import ModelLoadError, UnknownNameError
from autotag.models.names import parse_name
from autotag.pipeline import inventory
from autotag.pipeline.pipeline import Pipeline
from autotag.pipeline.presets import load
from autotag.stages import AssemblePrompt, CaptionImages
from autotag.testing import FakeCaptioner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotag.protocols import Detector
    from autotag.records import Sample


@dataclass
class FindThings:
    """A stranger's stage that borrows a model."""

    model: str | Detector = field(default="mine", metadata={"model": "detector"})
    _: KW_ONLY
    name: str = "find_things"

    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"tags"})

    def __call__(self, samples: Sequence[Sample], /) -> None:
        """Nothing to do here."""


def _names(pipeline: Pipeline) -> list[tuple[str, str]]:
    return [(address.kind, address.name) for address in inventory.needed_models(pipeline)]


def test_a_pipeline_needs_what_its_stages_name_and_its_encoder():
    assert _names(load("base")) == [
        ("captioner", "blip-base"),
        ("extractor", "minilm"),
        ("encoder", "clip-vit-b-32"),
    ]


def test_a_stage_with_an_encoder_of_its_own_does_not_need_the_pipelines():
    assert _names(load("base", filter_tags={"encoder": "siglip-base"}))[-1] == ("encoder", "siglip-base")


def test_a_mode_that_looks_at_no_image_needs_no_encoder():
    assert _names(Pipeline([CaptionImages("git-base"), AssemblePrompt("caption")])) == [
        ("captioner", "git-base")
    ]
    assert _names(Pipeline([CaptionImages("git-base"), AssemblePrompt("fast")]))[-1][0] == "encoder"


def test_an_encoder_that_no_stage_asks_for_is_not_needed():
    assert _names(Pipeline([CaptionImages("git-base")])) == [("captioner", "git-base")]


def test_a_model_given_as_an_object_needs_no_weights():
    assert _names(Pipeline([CaptionImages(FakeCaptioner())])) == []


def test_a_model_named_twice_is_needed_once():
    first, second = CaptionImages("git-base", name="a"), CaptionImages("hf:microsoft/git-base-coco", name="b")
    assert _names(Pipeline([first, second])) == [("captioner", "git-base")]


def test_every_captioner_of_an_ensemble_is_needed():
    several = CaptionImages(["blip-base", FakeCaptioner(), "git-base"])
    assert _names(Pipeline([several])) == [("captioner", "blip-base"), ("captioner", "git-base")]


def test_the_options_of_a_strangers_stage_tell_what_it_borrows(monkeypatch):
    monkeypatch.setattr(
        "autotag.config.registry._table",
        lambda kind: {"mine": ("mine:load", "autotag")} if kind == "detector" else {},
    )
    assert _names(Pipeline([FindThings()])) == [("detector", "mine")]


def test_a_name_stands_for_a_preset_or_a_model():
    assert next(address.name for address in inventory.find_models("large")) == "blip-large"
    assert [address.name for address in inventory.find_models("siglip-base")] == ["siglip-base"]
    with pytest.raises(UnknownNameError, match="Did you mean 'siglip-base'"):
        inventory.find_models("siglip-bse")


def test_a_folder_is_here_and_a_model_outside_the_catalog_is_not_known_to_be(tmp_path):
    assert inventory.is_present(parse_name(str(tmp_path), "captioner"))
    assert not inventory.is_present(parse_name("hf:someone/else", "captioner"))


def test_fetching_a_model_outside_the_catalog_loads_it_with_all_that_it_needs(local_hub):
    address = parse_name("hf:someone/else", "captioner")
    local_hub.files["someone/else"] = dict.fromkeys(
        ("config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"), b"broken"
    )
    with pytest.raises(ModelLoadError, match="someone/else"):
        inventory.fetch(address)
    assert any("model.safetensors" in path for path in local_hub.asked)


def test_a_model_behind_a_url_is_never_missing():
    assert inventory.is_present(parse_name("remote:http://host/caption", "captioner"))
