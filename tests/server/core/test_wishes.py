from __future__ import annotations

from pathlib import Path

import pytest

import autotag
from autotag.errors import ConfigError, ModelUnavailableError
from autotag.pipeline.pipeline import Pipeline
from autotag.records import Sample
from autotag.server.core.wishes import Pipelines, Wish
from autotag.stages import ModerateImages


@autotag.stage(provides={"captions"})
def nothing(_sample: Sample) -> None:
    """Find nothing, without a model."""


@pytest.mark.parametrize("wish", [Wish(), Wish(moderate=True), Wish(task="analyze")])
def test_missing_weights_of_a_preset_are_not_the_clients_mistake(wish, monkeypatch) -> None:
    def missing(_pipeline: Pipeline) -> None:
        raise ModelUnavailableError("net", "there is no file")

    with Pipeline([ModerateImages("zero-shot", encoder="clip-mini")]) as pipeline:
        monkeypatch.setattr(Pipeline, "load", missing)
        with pytest.raises(ModelUnavailableError):
            Pipelines({"one": pipeline}).of(wish)


@pytest.mark.parametrize("moderator", ["nsfw-vit", "lite-imagenet"])
def test_a_named_moderator_is_loaded_with_the_presets(
    moderator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with Pipeline([ModerateImages("zero-shot", encoder="clip-mini")]) as moderates:
        Pipelines({"one": moderates}, moderator=moderator).load()  # the preset has one of its own
    with Pipeline([nothing]) as pipeline:
        Pipelines({"one": pipeline}).load()
        with pytest.raises(ModelUnavailableError, match=moderator):
            Pipelines({"one": pipeline}, moderator=moderator).load()


def test_a_moderator_whose_labels_have_no_known_meaning_is_refused_when_the_server_is_built(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.json").write_text('{"id2label": {"0": "cat", "1": "dog"}}', encoding="utf-8")
    with (
        Pipeline([nothing]) as pipeline,
        pytest.raises(ConfigError, match="calls 'cat', 'dog'"),
    ):
        Pipelines({"one": pipeline}, moderator=str(tmp_path))
