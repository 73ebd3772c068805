from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

import autotag
from autotag.errors import ConfigError, ModelUnavailableError, RequestRefusedError
from autotag.pipeline.pipeline import Pipeline
from autotag.records import Sample
from autotag.server.core.wishes import Pipelines, Wish
from autotag.stages import ModerateImages
from autotag.testing import FakeEncoder


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
            asyncio.run(Pipelines({"one": pipeline}).of(wish))


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


class GatedEncoder(FakeEncoder):
    """An encoder that waits at the gate before it embeds more labels than one turn has."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.entered, self.turns = threading.Event(), threading.Event(), 0

    def embed_texts(self, texts, /):
        if any("label" in text for text in texts):
            self.turns += 1
            self.entered.set()
            assert self.gate.wait(20)
        return super().embed_texts(texts)


LABELS = Wish(compared=tuple(f"label {number}" for number in range(100)))


async def begun(encoder: GatedEncoder, pipelines: Pipelines, wish: Wish = LABELS) -> asyncio.Task[Pipeline]:
    task = asyncio.create_task(pipelines.of(wish))
    assert await asyncio.to_thread(encoder.entered.wait, 20)
    return task


def test_wishes_that_are_made_and_new_ones_without_labels_wait_for_no_labels() -> None:
    async def test() -> None:
        encoder = GatedEncoder()
        with Pipeline([nothing], encoder=encoder) as pipeline:
            pipelines = Pipelines({"one": pipeline})
            plain = await pipelines.of(Wish())
            first = await begun(encoder, pipelines)
            same = asyncio.create_task(pipelines.of(LABELS))
            assert await pipelines.of(Wish()) is plain
            assert await pipelines.of(Wish(task="caption")) is not plain
            encoder.gate.set()
            assert await first is await same
            assert encoder.turns == 4  # a hundred labels once, a few at a time
            pipelines.close()

    asyncio.run(test())


def test_labels_that_nobody_waits_for_are_not_embedded_and_those_of_others_still_are() -> None:
    async def test() -> None:
        encoder = GatedEncoder()
        with Pipeline([nothing], encoder=encoder) as pipeline:
            pipelines = Pipelines({"one": pipeline})
            first = await begun(encoder, pipelines)
            left, kept = Wish(compared=("label x",)), Wish(compared=("label y",))
            leaving = asyncio.create_task(pipelines.of(left))
            one, other = (asyncio.create_task(pipelines.of(kept)) for _ in range(2))
            await asyncio.sleep(0)
            for task in (leaving, one):
                task.cancel()
            await asyncio.wait({leaving, one})
            again = asyncio.create_task(pipelines.of(left))  # before the loop has turned
            encoder.gate.set()
            for task in (first, other, again):
                await task
            assert encoder.turns == 4 + 2
            pipelines.close()

    asyncio.run(test())


def test_a_server_that_ends_does_not_embed_the_labels_that_are_left() -> None:
    async def test() -> None:
        encoder = GatedEncoder()
        with Pipeline([nothing], encoder=encoder) as pipeline:
            pipelines = Pipelines({"one": pipeline})
            first = await begun(encoder, pipelines)
            closing = asyncio.create_task(asyncio.to_thread(pipelines.close))
            while not pipelines._closed:
                await asyncio.sleep(0)
            encoder.gate.set()
            with pytest.raises(RequestRefusedError, match="shutting down"):
                await first
            await closing
            assert encoder.turns == 1

    asyncio.run(test())
