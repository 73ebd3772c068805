from __future__ import annotations

import pytest

from autotag.errors import ModelUnavailableError
from autotag.pipeline.pipeline import Pipeline
from autotag.server.core.wishes import Pipelines, Wish
from autotag.stages import ModerateImages


@pytest.mark.parametrize("wish", [Wish(), Wish(moderate=True), Wish(task="analyze")])
def test_missing_weights_of_a_preset_are_not_the_clients_mistake(wish, monkeypatch) -> None:
    def missing(_pipeline: Pipeline) -> None:
        raise ModelUnavailableError("net", "there is no file")

    with Pipeline([ModerateImages("zero-shot", encoder="clip-mini")]) as pipeline:
        monkeypatch.setattr(Pipeline, "load", missing)
        with pytest.raises(ModelUnavailableError):
            Pipelines({"one": pipeline}).of(wish)
