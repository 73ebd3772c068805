"""``serve_async``: tagging for programs that are written with asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from os import fspath
from typing import TYPE_CHECKING

from autotag.config.checks import check_choice, check_count, check_list, check_number, shown
from autotag.errors import ConfigError
from autotag.pipeline.presets import load
from autotag.server.core.batcher import Batcher
from autotag.server.core.limits import Limits
from autotag.server.core.wishes import MOST_TAGS, Pipelines, Wish
from autotag.vocabularies.vocabulary import BUNDLED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike
    from types import TracebackType

    from autotag.images.reading import ImageInput
    from autotag.pipeline.pipeline import Pipeline
    from autotag.records import Result


class AsyncTagger:
    """Tags images for many tasks of one event loop, in batches; an async context manager.

    Args:
        pipeline: what finds the tags; closed at the end.
        name: what the preset is called.
        limits: how much is taken on at once.
    """

    def __init__(self, pipeline: Pipeline, name: str, limits: Limits) -> None:
        self._pipeline = pipeline
        self._pipelines = Pipelines({name: pipeline})
        self._limits = limits
        self._batcher: Batcher | None = None

    async def __aenter__(self) -> AsyncTagger:
        await asyncio.to_thread(self._pipelines.load)
        self._batcher = Batcher(self._pipelines, self._limits)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        batcher, self._batcher = self._batcher, None
        if batcher is not None:
            await batcher.drain(self._limits.timeout)
            await asyncio.to_thread(batcher.close)
        await asyncio.to_thread(self._pipeline.close)

    async def tag(
        self,
        image: ImageInput,
        *,
        top_k: int | None = None,
        vocabulary: str | None = None,
        labels: Sequence[str] = (),
        source: str | None = None,
        timeout: float | None = None,
    ) -> Result:
        """Return what is found in one image; images of many calls go through the models together.

        Args:
            image: what ``pipeline(image)`` takes.
            top_k: tags at most, from 1 to 100; None for the preset's own, or 10 of the labels.
            vocabulary: a bundled vocabulary that tags are looked for in; None for the preset's own.
            labels: if any, the only tags that are allowed; not together with a vocabulary.
            source: what the result calls the image.
            timeout: seconds, at most ``limits.timeout``; None for these.

        Raises:
            ConfigError: an option is of a wrong type or out of range, or both ``labels`` and ``vocabulary``
                are given.
            RequestRefusedError: too much is waiting, time is up, an option is wrong, or the block has ended.
            ImageReadError: the image cannot be read.
            StageError: a stage failed on it.
        """
        if self._batcher is None:
            from autotag.errors import PipelineClosedError

            raise PipelineClosedError("use it inside: async with autotag.serve_async(...) as tagger.")
        if top_k is not None:
            check_count("top_k", top_k, most=MOST_TAGS)
        if timeout is not None:
            check_number("timeout", timeout, least=0, most=self._limits.timeout, above=True)
        if vocabulary is not None:
            check_choice("vocabulary", vocabulary, BUNDLED)
        wish = Wish(top_k=top_k, vocabulary=vocabulary, labels=_checked(labels))
        if wish.labels and vocabulary is not None:
            raise ConfigError("labels and vocabulary are both given; tags come from one of them.")
        return await self._batcher.tag(image, wish, source=source, timeout=timeout)


def _checked(labels: Sequence[str]) -> tuple[str, ...]:
    check_list("labels", labels)
    if not isinstance(labels, Iterable) or not all(isinstance(label, str) for label in labels):
        raise ConfigError(f"labels is {shown(labels)}; write a list of texts.")
    return tuple(labels)


def serve_async(
    preset: str | PathLike[str] = "base", *, device: str | None = None, limits: Limits | None = None
) -> AsyncTagger:
    """Return a tagger for ``async with``; its models are loaded when the block begins.

    ::

        async with autotag.serve_async("base") as tagger:
            result = await tagger.tag("photo.jpg")  # in each of many tasks, such as requests

    More calls at once than ``limits.max_waiting`` (256) are refused. For a list of photographs use
    ``Pipeline.stream`` in a thread, or hold an ``asyncio.Semaphore`` around each call.

    Args:
        preset: a preset's name, or the path of a TOML file.
        device: as ``load`` takes it; None for the preset's own.
        limits: how much is taken on at once.

    Raises:
        ConfigError: no such preset or device.
    """
    return AsyncTagger(load(preset, device=device), fspath(preset), limits or Limits())
