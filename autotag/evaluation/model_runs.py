"""Runs models over a data set and records their texts, tags, times and memory."""

from __future__ import annotations

import gc
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from autotag.config import registry
from autotag.config.checks import check_list
from autotag.errors import ConfigError, UnknownNameError
from autotag.models import cards
from autotag.pipeline import presets
from autotag.pipeline.pipeline import Pipeline
from autotag.stages import CaptionImages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from autotag.evaluation.datasets import EvaluationSet
    from autotag.records import Result, Tag

TextField = Literal["caption", "prompt"]

_STATM = Path("/proc/self/statm")
_LOOK_EVERY = 0.02


@dataclass(frozen=True, slots=True)
class ModelRun:
    """The output of one model for every image, with times and memory.

    Attributes:
        name: the model's name as given.
        texts: the caption or prompt of each image; "" if there is none.
        tags: the tags of each image; None if the model gives no tags.
        errors: per image the reason of its failure, or None.
        load_seconds: time to load the weights.
        seconds: time for all images after loading, including reading them.
        memory: peak growth of the process in bytes, or on a GPU the peak of allocated memory; None if the
            system does not report it.
    """

    name: str
    texts: tuple[str, ...]
    tags: tuple[tuple[Tag, ...], ...] | None
    errors: tuple[str | None, ...]
    load_seconds: float
    seconds: float
    memory: int | None

    @property
    def images_per_second(self) -> float:
        """Images processed per second."""
        return len(self.texts) / self.seconds

    @property
    def failed(self) -> int:
        """Number of images with an error."""
        return sum(error is not None for error in self.errors)

    @property
    def empty(self) -> int:
        """Number of images that did not fail but got an empty text."""
        pairs = zip(self.texts, self.errors, strict=True)
        return sum(not text.strip() and error is None for text, error in pairs)


def pipelines_of(names: Sequence[str], **settings: object) -> dict[str, Pipeline]:
    """Return the pipelines to compare, by name. No weights are loaded yet.

    Args:
        names: presets, TOML files, or captioners (catalog names, ``"hf:<hub id>"``, folders), each once.
        **settings: settings of ``Pipeline``, such as ``device``; None leaves a setting unchanged.

    Raises:
        UnknownNameError: a name is neither a preset nor a captioner; a similar name is suggested.
        ConfigError: a name is given twice, or a setting is wrong.
    """
    check_list("names", names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{twice[0]!r} is named twice; each model is run once.")
    changes = {name: value for name, value in settings.items() if value is not None}
    return {name: _pipeline(name, changes) for name in names}


def run_model(
    name: str,
    pipeline: Pipeline,
    dataset: EvaluationSet,
    *,
    text: TextField = "caption",
    on_image: Callable[[], None] | None = None,
) -> ModelRun:
    """Run a pipeline over every image and close it.

    Args:
        name: the model's name in reports.
        pipeline: not loaded yet, because loading is measured too.
        dataset: the images.
        text: which text to keep, the caption or the prompt.
        on_image: called after each image.

    Raises:
        ModelUnavailableError: weights are missing.
        StageBrokenError: a stage failed on many images in a row.
    """
    memory = _PeakMemory()
    results: list[Result] = []
    with pipeline, memory.watched():
        started = time.perf_counter()
        pipeline.load()
        loaded = time.perf_counter()
        for result in pipeline.stream([example.image for example in dataset.examples], on_error="record"):
            results.append(result)
            if on_image is not None:
                on_image()
        ended = time.perf_counter()
        gives_tags = _provides(pipeline, "tags")
    gc.collect()
    return ModelRun(
        name=name,
        texts=tuple(result.caption if text == "caption" else result.prompt for result in results),
        tags=tuple(result.tags for result in results) if gives_tags else None,
        errors=tuple(result.error for result in results),
        load_seconds=loaded - started,
        seconds=ended - loaded,
        memory=memory.peak,
    )


def run_of_ensemble(runs: Sequence[ModelRun], shares: Sequence[float]) -> ModelRun:
    """Combine the runs of an ensemble's members, over the same images, into one run.

    Its texts are the members' texts joined by `` | ``; an image failed if it failed in every run. Times are
    summed, and memory is the largest, because the models run one after the other.

    Args:
        runs: the runs of the members.
        shares: weight of each member, shown in the name: ``"blip-base 0.6 + coca-l 0.4"``.
    """
    memories = [run.memory for run in runs if run.memory is not None]
    texts = zip(*(run.texts for run in runs), strict=True)
    errors = zip(*(run.errors for run in runs), strict=True)
    return ModelRun(
        name=" + ".join(f"{run.name} {share:.3g}" for run, share in zip(runs, shares, strict=True)),
        texts=tuple(" | ".join(text for text in row if text.strip()) for row in texts),
        tags=None,
        errors=tuple(row[0] if all(row) else None for row in errors),
        load_seconds=sum(run.load_seconds for run in runs),
        seconds=sum(run.seconds for run in runs),
        memory=max(memories) if memories else None,
    )


def check_fits(pipelines: Mapping[str, Pipeline], dataset: EvaluationSet, text: TextField) -> None:
    """Refuse models that do not produce the texts or tags that the data set evaluates.

    Raises:
        ConfigError: a model does not write the text, or gives no tags where the data set has only tags.
    """
    for name, pipeline in pipelines.items():
        if dataset.has_texts:
            check_text(name, pipeline, text)
        elif not _provides(pipeline, "tags"):
            raise ConfigError(f"{name!r} gives no tags, but {dataset.name!r} evaluates tags.")


def check_text(name: str, pipeline: Pipeline, text: TextField) -> None:
    """Refuse a model that does not write this kind of text.

    Raises:
        ConfigError: it does not write it.
    """
    if not _provides(pipeline, "captions" if text == "caption" else "prompt"):
        raise ConfigError(f"{name!r} does not write a {text}.")


def _provides(pipeline: Pipeline, field_name: str) -> bool:
    return any(field_name in stage.provides for stage in pipeline.stages)


def _pipeline(name: str, changes: Mapping[str, Any]) -> Pipeline:
    if presets.is_preset(name):
        return presets.from_config({**presets.read_preset(name), **changes})
    try:
        captioner = CaptionImages(name)
    except UnknownNameError as error:
        captioners = [card.name for card in cards.cards() if card.kind == "captioner"]
        known = (*presets.preset_names(), *captioners, *registry.names("captioner"))
        raise UnknownNameError("preset or captioner", name, known) from error
    return Pipeline([captioner], encoder=None, **changes)


@dataclass(slots=True)
class _PeakMemory:
    """Keep the peak memory of this process, sampled in a thread while a block runs."""

    peak: int | None = None
    _done: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Sample while the block runs, then set ``peak``, in bytes."""
        import torch  # before measuring: memory of the import does not count as the model's

        gc.collect()
        before = _resident()
        cuda: Any = torch.cuda
        if cuda.is_initialized():
            cuda.reset_peak_memory_stats()
        watcher = threading.Thread(target=self._watch, args=(before,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            self._done.set()
            watcher.join()
            if cuda.is_initialized():
                self.peak = cuda.max_memory_allocated() or self.peak

    def _watch(self, before: int | None) -> None:
        while before is not None and not self._done.wait(_LOOK_EVERY):
            now = _resident()
            if now is not None:
                self.peak = max(self.peak or 0, now - before)


def _resident() -> int | None:
    """Return the resident memory of this process in bytes; None if the system does not report it."""
    if sys.platform != "linux":
        return None
    import resource

    return int(_STATM.read_text(encoding="ascii").split()[1]) * resource.getpagesize()
