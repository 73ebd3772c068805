"""The engine runs batches through the stages: locks, batch sizes, out-of-memory errors and failing images.

The stages are split in two parts. The *head* looks at images; the *tail* starts at the first stage that reads
another stage's output, and works on texts. A stream runs the head of one batch while the tail still works on
the batch before.
"""

from __future__ import annotations

import copy
import sys
import time
import traceback
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Event, RLock
from typing import TYPE_CHECKING, cast

from autotag.errors import PipelineClosedError, StageBrokenError, StageError
from autotag.files.forked_process import check_not_forked, is_forked, note_use
from autotag.pipeline.stats import CONSUMER, READ, Meter
from autotag.pipeline.wiring import ALWAYS_THERE
from autotag.protocols import NeedsModels, Stage, UsesImageVectors
from autotag.records import Result, Sample
from autotag.records.sample import TRUNCATED
from autotag.records.sample_checks import check_sample
from autotag.relevance.embeddings import image_vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from autotag.images.reading import ReadImage
    from autotag.models.pool import ModelPool
    from autotag.pipeline.batch_sizes import BatchSize
    from autotag.pipeline.stats import ThreadName
    from autotag.protocols import (
        Captioner,
        Classifier,
        Detector,
        ImageTextEncoder,
        KeyphraseExtractor,
        Translator,
        ViewsImages,
    )
    from autotag.records import Explains

    Start = Callable[[Sequence[ReadImage]], Callable[[], list[Sample]]]
    """Start the head on images; the returned function waits for the samples."""

    SizeOf = Callable[[str], BatchSize]
    """Make a new batch size for one step of the named stage."""


class RanOutError(Exception):
    """A stage ran out of memory; it gets fewer images at once when the batch is restarted."""


class StoppedError(Exception):
    """The stream was stopped, so this batch is abandoned."""


@dataclass(frozen=True, slots=True)
class Run:
    """The state of one stream, or of one image, in the engine.

    Attributes:
        batch_size: number of images in a full batch.
        meter: the statistics.
        stopped: set when the results are no longer needed.
        pipeline: which the results refer to.
    """

    batch_size: int
    meter: Meter
    stopped: Event = field(default_factory=Event)
    pipeline: Explains | None = None


class Engine:
    """Hold a pipeline's stages and models once loaded. Each part runs one batch at a time, from any thread.

    Attributes:
        last_meter: statistics of the stream that started last.

    Args:
        owner: a loaded engine, whose models this one uses, in turns with it. None for models of its own.
    """

    def __init__(self, owner: Engine | None = None) -> None:
        self.last_meter = Meter()
        self._owner = owner
        self._loading = RLock()
        self._head: _Part = _Part() if owner is None else _Part(lock=owner._head.lock)  # noqa: SLF001
        self._tail: _Part = _Part() if owner is None else _Part(lock=owner._tail.lock)  # noqa: SLF001
        self._pool: ModelPool | None = None
        self._owns_pool = False
        self._loaded = self._closed = False
        self._replaces_pixels = False

    def load(self, stages: Sequence[Stage], size_of: SizeOf, make_pool: Callable[[], ModelPool]) -> None:
        """Load the models unless they are loaded; ``size_of`` makes the batch size of a stage."""
        self.check_open()
        with self._loading:
            self.check_open()
            if not self._loaded:
                self._set_up(stages, size_of, make_pool)
                self._loaded = True

    def check_open(self) -> None:
        """Refuse to run after ``close()``, or with models in a process forked after models were used.

        Raises:
            PipelineClosedError: the pipeline was closed.
            ForkedProcessError: see ``autotag.files.forked_process``.
        """
        if self._closed:
            raise PipelineClosedError("this pipeline was closed; build or load another one.")
        if self._pool is not None:
            check_not_forked()

    @property
    def loaded(self) -> bool:
        """Whether the models are loaded, and not closed."""
        return self._loaded and not self._closed

    @property
    def image_size(self) -> int | None:
        """The side in pixels of the largest input of the models; None for the full image."""
        return self._pool.image_size if self._pool else None

    @property
    def view_makers(self) -> dict[str, ViewsImages]:
        """View id -> a model that makes this view; empty if a stage replaces the pixels."""
        return self._pool.view_makers if self._pool and not self._replaces_pixels else {}

    @contextmanager
    def taking_turns(self) -> Iterator[ModelPool | None]:
        """Hold both parts still, and yield the pool of models; None if no stage uses one.

        Raises:
            PipelineClosedError: it was closed.
        """
        with self._head.lock, self._tail.lock:
            self.check_open()
            yield self._pool

    @property
    def overlaps(self) -> bool:
        """True if both parts have steps, so that a thread for the models is worthwhile."""
        return bool(self._head.steps and self._tail.steps)

    def meter(self, *, readers: int, overlapping: bool) -> Meter:
        """Return a new meter for one stream."""
        models: ThreadName = "models" if overlapping else "consumer"
        parts: list[tuple[str, ThreadName]] = [(READ, "reading")]
        parts += [(step.name, models) for step in self._head.steps]
        parts += [(step.name, "consumer") for step in self._tail.steps]
        return Meter([*parts, (CONSUMER, "consumer")], readers)

    def first_steps(self) -> tuple[str, str]:
        """Return the names of the first steps of head and tail; an empty string for an empty part."""
        head, tail = (part.steps[0].name if part.steps else "" for part in (self._head, self._tail))
        return head, tail

    def start(self, reads: Sequence[ReadImage], run: Run) -> list[Sample]:
        """Make new samples and run them through the head."""
        samples = [self._sample(read) for read in reads]
        self._run(self._head, samples, run)
        return samples

    def traced(self, read: ReadImage, run: Run) -> Iterator[tuple[Stage | None, Sample]]:
        """Run one image through the stages; yield each stage that is next, and the sample as it is then.

        At the end, None and the finished sample are yielded. No other batch runs meanwhile.
        """
        with self.taking_turns():
            sample = self._sample(read)
            for step in (*self._head.steps, *self._tail.steps):
                if isinstance(step.call, Stage):
                    yield step.call, sample
                step([sample], run)
            yield None, sample

    def outcomes(
        self,
        reads: Sequence[ReadImage],
        run: Run,
        start: Start,
        started: Callable[[], list[Sample]] | None = None,
    ) -> Iterator[Result | StageError]:
        """Yield each image's result, or the error of the stage that fails on this image alone.

        A failing batch is halved until each failing image is alone. Each half is restarted with new samples,
        because stages write in place; a batch that ran out of memory is restarted, too.

        Args:
            reads: the images.
            run: the run that they belong to.
            start: starts the head on some of them.
            started: the function that ``start`` returned for all of them, if it was called already.
        """
        if not reads:
            return
        outcome = self._attempt(started or start(reads), run)
        while outcome is None:
            outcome = self._attempt(start(reads), run)
        if isinstance(outcome, list):
            for sample in outcome:
                yield Result.from_sample(sample, pipeline=run.pipeline)
        elif len(reads) == 1:
            yield outcome
        else:
            del outcome
            yield from self.outcomes(reads[: len(reads) // 2], run, start)
            yield from self.outcomes(reads[len(reads) // 2 :], run, start)

    def close(self) -> None:
        """Free the models after the running batches end. Do not wait in a fork, where no batch can end."""
        self._closed = True
        if is_forked():
            return
        with self._loading, self._head.lock, self._tail.lock:
            self._head.steps = self._tail.steps = ()
            if self._pool and self._owns_pool:
                self._pool.close()
            self._pool = None

    def _attempt(self, started: Callable[[], list[Sample]], run: Run) -> list[Sample] | StageError | None:
        """Return the samples after the tail, or the failure; None if memory ran out."""
        try:
            samples = started()
            self._run(self._tail, samples, run)
        except RanOutError:
            return None
        except StageBrokenError:
            raise
        except StageError as error:
            return error
        return samples

    def _run(self, part: _Part, samples: Sequence[Sample], run: Run) -> None:
        with part.lock:
            self.check_open()
            for step in part.steps:
                step(samples, run)

    def _sample(self, read: ReadImage) -> Sample:
        image = read.image.copy() if self._replaces_pixels else read.image
        extras = {TRUNCATED: True} if read.truncated else {}
        return Sample(read.source, image, read.size, views=dict(read.views), extras=extras)

    def _set_up(self, stages: Sequence[Stage], size_of: SizeOf, make_pool: Callable[[], ModelPool]) -> None:
        """Set up the stages; a stage that needs models is copied, and the copy holds this pipeline's models.

        It is copied because one stage object may be in two pipelines with two encoders, and because closing
        the pipeline must free the models.
        """
        needs_models = any(isinstance(stage, NeedsModels) for stage in stages)
        if needs_models:
            check_not_forked()
            note_use()
        with ExitStack() as undone:
            pool, is_own = None, False
            if needs_models and self._owner is not None:
                pool = undone.enter_context(self._owner.taking_turns())
            if needs_models and pool is None:
                pool, is_own = make_pool(), True
            try:
                ready = [_ready(stage, pool) for stage in stages]
            except BaseException:
                if pool and is_own:
                    pool.close()
                raise
        cut = _cut(ready)
        head = [Step.of(own.stage, size_of) for own in ready[:cut]]
        tail = [Step.of(own.stage, size_of) for own in ready[cut:]]
        ahead = _vector_steps([own.stage for own in ready[cut:]], size_of)
        self._head.steps, self._tail.steps = (*head, *ahead), tuple(tail)
        self._replaces_pixels = any("image" in stage.provides for stage in stages)
        self._pool, self._owns_pool = pool, is_own


@dataclass(slots=True)
class _Part:
    """Keep steps that run one after the other, for one batch at a time."""

    steps: tuple[Step, ...] = ()
    lock: RLock = field(default_factory=RLock)


@dataclass(frozen=True, slots=True)
class Step:
    """Call a stage, or embed images for a later stage, with as many samples at once as memory allows.

    Attributes:
        name: the name in the statistics.
        stage: the name of the stage.
        call: writes samples in place.
        size: number of samples at once.
    """

    name: str
    stage: str
    call: Callable[[Sequence[Sample]], object]
    size: BatchSize

    @classmethod
    def of(cls, stage: Stage, size_of: SizeOf) -> Step:
        """Make a step that calls the stage itself."""
        return cls(stage.name, stage.name, stage, size_of(stage.name))

    def __call__(self, samples: Sequence[Sample], run: Run) -> None:
        """Run the stage on all samples, in place.

        Raises:
            StageError: the stage raised an error, which is the cause; names the first of the samples in
                this call.
            RanOutError: two or more samples at once ran out of memory; the next call gets fewer.
            StageBrokenError: memory ran out in a pipeline that is deterministic.
            StoppedError: the run was stopped.
        """
        size = self.size.of(len(samples))
        before = time.perf_counter()
        for first in range(0, len(samples), size):
            if run.stopped.is_set():
                raise StoppedError
            self._some(samples[first : first + size])
        seconds = time.perf_counter() - before
        whole = len(samples) == run.batch_size
        self.size.worked()
        run.meter.add(self.name, len(samples), seconds, size, whole=whole)

    def _some(self, samples: Sequence[Sample]) -> None:
        try:
            returned = self.call(samples)
            _check_returned(returned if isinstance(self.call, Stage) else None)
            for sample in samples:
                check_sample(sample)
        except Exception as error:
            out_of_memory = _is_out_of_memory(error)
            if out_of_memory:
                traceback.clear_frames(error.__traceback__)  # the frames hold the tensors
            if out_of_memory and not self.size.shrinks:
                raise self._too_large(samples) from error
            if not out_of_memory or len(samples) == 1:
                raise self._failure(samples, error) from error
        else:
            return
        _free_memory()  # here, because the error and its frames are gone
        self.size.ran_out(len(samples))
        raise RanOutError

    def _too_large(self, samples: Sequence[Sample]) -> StageBrokenError:
        return StageBrokenError(
            self.stage,
            samples[0].source,
            f"stage {self.stage!r} ran out of memory with {len(samples)} images at once. A deterministic "
            "pipeline does not change the size of a batch; give it a smaller batch_size.",
        )

    def _failure(self, samples: Sequence[Sample], error: Exception) -> StageError:
        source = samples[0].source
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        cause = f"{type(error).__name__}: {error}{notes}"
        return StageError(self.stage, source, f"stage {self.stage!r} failed on {source!r}: {cause}")


def _check_returned(returned: object) -> None:
    if returned is not None:
        what = type(returned).__name__
        raise TypeError(f"it returned {what}; a stage returns nothing, and writes into its samples")


@dataclass(frozen=True, slots=True)
class _Ready:
    """A stage with its models.

    Attributes:
        stage: the stage, or its copy if it needs models.
        looks: whether one of its models looks at images.
    """

    stage: Stage
    looks: bool = False


class _WatchedPool:
    """Give models from a pool, and note whether one of them looks at images."""

    def __init__(self, pool: ModelPool) -> None:
        self._pool = pool
        self.gave_image_model = False

    def captioner(self, model: str | Captioner, /) -> Captioner:
        self.gave_image_model = True
        return self._pool.captioner(model)

    def extractor(self, model: str | KeyphraseExtractor, /) -> KeyphraseExtractor:
        return self._pool.extractor(model)

    def encoder(self, model: str | ImageTextEncoder | None = None, /) -> ImageTextEncoder:
        self.gave_image_model = True
        return self._pool.encoder(model)

    def detector(self, model: str | Detector, /) -> Detector:
        self.gave_image_model = True
        return self._pool.detector(model)

    def classifier(self, model: str | Classifier, /) -> Classifier:
        self.gave_image_model = True
        return self._pool.classifier(model)

    def translator(self, model: str | Translator, /) -> Translator:
        return self._pool.translator(model)


def _ready(stage: Stage, pool: ModelPool | None) -> _Ready:
    if pool is None or not isinstance(stage, NeedsModels):
        return _Ready(stage)
    loaded = copy.copy(stage)
    watched = _WatchedPool(pool)
    loaded.setup(watched)
    return _Ready(cast("Stage", loaded), watched.gave_image_model)


def _cut(stages: Sequence[_Ready]) -> int:
    """Return the number of stages in the head.

    The head has the stages before the first that reads another stage's output. It also has every later stage
    whose models look at images in its call, so that the two parts never use one model at the same time. If a
    later stage changes the pixels, all stages are in the head, because nothing can be prepared before it.
    """
    needy = [at for at, own in enumerate(stages) if own.stage.requires - ALWAYS_THERE]
    lookers = [at for at, own in enumerate(stages) if own.looks and not _encoder_of(own.stage)]
    cut = max(needy[0] if needy else len(stages), lookers[-1] + 1 if lookers else 0)
    changes_late = any("image" in own.stage.provides for own in stages[cut:])
    return len(stages) if changes_late else cut


def _encoder_of(stage: Stage) -> ImageTextEncoder | None:
    """Return the encoder whose image vectors a stage reads, after its setup."""
    return stage.image_encoder if isinstance(stage, UsesImageVectors) else None


def _vector_steps(stages: Sequence[Stage], size_of: SizeOf) -> list[Step]:
    """Return one step for each encoder that stages of the tail read image vectors of, named by the first."""
    steps: dict[str, Step] = {}
    for stage in stages:
        encoder = _encoder_of(stage)
        if encoder is not None and encoder.id not in steps:
            call = partial(image_vectors, encoder=encoder)
            steps[encoder.id] = Step(f"{stage.name}.vectors", stage.name, call, size_of(stage.name))
    return list(steps.values())


def _is_out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    return isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError))


def _free_memory() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
