"""What runs batches: the stages in two parts, locks, batch sizes, memory that runs out, bad images.

The stages are cut in two. The *head* looks at images; the *tail*, from the first stage that needs what
another wrote, works on texts. A stream runs the head of one batch while the tail of the batch before
is worked on.
"""

from __future__ import annotations

import copy
import sys
import time
import traceback
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Event, RLock
from typing import TYPE_CHECKING, cast

from autotag.errors import PipelineClosedError, StageError
from autotag.files.forked_process import check_not_forked, is_forked, note_use
from autotag.pipeline.stats import CONSUMER, READ, Meter
from autotag.pipeline.wiring import ALWAYS_THERE
from autotag.protocols import NeedsModels, PreparesSamples, Stage
from autotag.records import TRUNCATED, Result, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from autotag.images.reading import ReadImage
    from autotag.models.pool import ModelPool
    from autotag.pipeline.batch_sizes import BatchSize
    from autotag.pipeline.stats import ThreadName
    from autotag.protocols import (
        Captioner,
        Detector,
        ImageTextEncoder,
        KeyphraseExtractor,
        ViewsImages,
    )

    Start = Callable[[Sequence[ReadImage]], Callable[[], list[Sample]]]
    """Starts the head on images; what it gives waits for the samples."""

    SizeOf = Callable[[str], BatchSize]
    """Makes the batch size of the stage of a name, for each of its steps anew."""


class RanOutError(Exception):
    """A stage ran out of memory, and will get fewer images at once when the batch starts over."""


class StoppedError(Exception):
    """Nobody waits for this batch any more."""


@dataclass(frozen=True, slots=True)
class Run:
    """One stream, or one image, on its way through the engine.

    Attributes:
        batch_size: images of a whole batch.
        meter: counts.
        stopped: set when nobody waits for results any more.
    """

    batch_size: int
    meter: Meter
    stopped: Event = field(default_factory=Event)


class Engine:
    """What a pipeline holds once it is loaded. Each part runs one batch at a time, whichever thread asks.

    Attributes:
        last_meter: of the stream that was begun last.

    Args:
        lender: an engine that is loaded, whose models and turns this one shares; None for its own.
    """

    def __init__(self, lender: Engine | None = None) -> None:
        self.last_meter = Meter()
        self._lender = lender
        self._loading = RLock()
        self._head: _Part = _Part() if lender is None else _Part(lock=lender._head.lock)  # noqa: SLF001
        self._tail: _Part = _Part() if lender is None else _Part(lock=lender._tail.lock)  # noqa: SLF001
        self._pool: ModelPool | None = None
        self._owns_pool = False
        self._loaded = self._closed = False
        self._replaces_pixels = False

    def load(self, stages: Sequence[Stage], size_of: SizeOf, make_pool: Callable[[], ModelPool]) -> None:
        """Borrows the models, unless that is done; ``size_of`` makes the batch size of a stage."""
        self.check_open()
        with self._loading:
            self.check_open()
            if not self._loaded:
                self._set_up(stages, size_of, make_pool)
                self._loaded = True

    def check_open(self) -> None:
        """Refuse to go on after ``close()``, and with models in a forked copy of a process that used some.

        Raises:
            PipelineClosedError: it was closed.
            ForkedProcessError: see ``autotag.files.forked_process``.
        """
        if self._closed:
            raise PipelineClosedError("this pipeline was closed; build or load another one.")
        if self._pool is not None:
            check_not_forked()

    @property
    def image_size(self) -> int | None:
        """The side in pixels that the borrowed models look at; None for all there is."""
        return self._pool.image_size if self._pool else None

    @property
    def view_makers(self) -> dict[str, ViewsImages]:
        """View id -> a model that makes it; none where a stage replaces the pixels."""
        return self._pool.view_makers if self._pool and not self._replaces_pixels else {}

    @contextmanager
    def taking_turns(self) -> Iterator[ModelPool | None]:
        """Hold both parts still, and lend the models; None where no stage borrowed one.

        Raises:
            PipelineClosedError: it was closed.
        """
        with self._head.lock, self._tail.lock:
            self.check_open()
            yield self._pool

    @property
    def overlaps(self) -> bool:
        """Whether there are two parts, so that a thread for the models pays."""
        return bool(self._head.steps and self._tail.steps)

    def meter(self, *, readers: int, overlapping: bool) -> Meter:
        """Counts nothing yet, for one stream."""
        models: ThreadName = "models" if overlapping else "consumer"
        parts: list[tuple[str, ThreadName]] = [(READ, "reading")]
        parts += [(step.name, models) for step in self._head.steps]
        parts += [(step.name, "consumer") for step in self._tail.steps]
        return Meter([*parts, (CONSUMER, "consumer")], readers)

    def first_steps(self) -> tuple[str, str]:
        """The names of what comes first in the head and in the tail; empty for a part that is empty."""
        head, tail = (part.steps[0].name if part.steps else "" for part in (self._head, self._tail))
        return head, tail

    def start(self, reads: Sequence[ReadImage], run: Run) -> list[Sample]:
        """Fresh samples, through the head."""
        samples = [self._sample(read) for read in reads]
        self._run(self._head, samples, run)
        return samples

    def outcomes(
        self,
        reads: Sequence[ReadImage],
        run: Run,
        start: Start,
        started: Callable[[], list[Sample]] | None = None,
    ) -> Iterator[Result | StageError]:
        """Per image its result, or the error of the stage that fails on it alone.

        A batch that fails is halved until the images that fail stand alone. Each half starts over from
        fresh samples, because stages write in place, and so does a batch for which memory ran out.

        Args:
            reads: the images.
            run: what they belong to.
            start: starts the head on some of them.
            started: what ``start`` gave for all of them, if it was called already.
        """
        if not reads:
            return
        outcome = self._attempt(started or start(reads), run)
        while outcome is None:
            outcome = self._attempt(start(reads), run)
        if isinstance(outcome, list):
            yield from map(Result.from_sample, outcome)
        elif len(reads) == 1:
            yield outcome
        else:
            del outcome
            yield from self.outcomes(reads[: len(reads) // 2], run, start)
            yield from self.outcomes(reads[len(reads) // 2 :], run, start)

    def close(self) -> None:
        """Let go of the models, once the batches in hand are done; in a forked copy no batch will ever be."""
        self._closed = True
        if is_forked():
            return
        with self._loading, self._head.lock, self._tail.lock:
            self._head.steps = self._tail.steps = ()
            if self._pool and self._owns_pool:
                self._pool.close()
            self._pool = None

    def _attempt(self, started: Callable[[], list[Sample]], run: Run) -> list[Sample] | StageError | None:
        """The samples through the tail, or the failure; None where memory ran out."""
        try:
            samples = started()
            self._run(self._tail, samples, run)
        except RanOutError:
            return None
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
        """The stages, each borrower a copy of its own that holds this pipeline's models.

        Copies, because one stage object may be in two pipelines with two encoders, and because what
        holds the models must go when the pipeline is closed.
        """
        borrows = any(isinstance(stage, NeedsModels) for stage in stages)
        if borrows:
            check_not_forked()
            note_use()
        with ExitStack() as undone:
            pool, is_own = None, False
            if borrows and self._lender is not None:
                pool = undone.enter_context(self._lender.taking_turns())
            if borrows and pool is None:
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
        ahead = [Step.preparing(own.stage, size_of) for own in ready[cut:] if _prepares(own.stage)]
        self._head.steps, self._tail.steps = (*head, *ahead), tuple(tail)
        self._replaces_pixels = any("image" in stage.provides for stage in stages)
        self._pool, self._owns_pool = pool, is_own


@dataclass(slots=True)
class _Part:
    """Steps that run one after the other, for one batch at a time."""

    steps: tuple[Step, ...] = ()
    lock: RLock = field(default_factory=RLock)


@dataclass(frozen=True, slots=True)
class Step:
    """A stage, or what a later stage prepares, called with as many samples at once as memory allows.

    Attributes:
        name: of the row in the statistics.
        stage: the name of the stage.
        call: works on samples in place.
        size: how many at once.
    """

    name: str
    stage: str
    call: Callable[[Sequence[Sample]], None]
    size: BatchSize

    @classmethod
    def of(cls, stage: Stage, size_of: SizeOf) -> Step:
        """The stage itself."""
        return cls(stage.name, stage.name, stage, size_of(stage.name))

    @classmethod
    def preparing(cls, stage: Stage, size_of: SizeOf) -> Step:
        """What the stage prepares."""
        prepare = cast("PreparesSamples", stage).prepare
        return cls(f"{stage.name}.prepare", stage.name, prepare, size_of(stage.name))

    def __call__(self, samples: Sequence[Sample], run: Run) -> None:
        """All samples, in place.

        Raises:
            StageError: naming the first of the samples that were handed in together, chained to what the
                stage raised.
            RanOutError: there was too little memory for two or more at once; next time there are fewer.
            StoppedError: nobody waits any more.
        """
        size = self.size.of(len(samples))
        before = time.perf_counter()
        for first in range(0, len(samples), size):
            if run.stopped.is_set():
                raise StoppedError
            self._some(samples[first : first + size])
        seconds = time.perf_counter() - before
        whole = len(samples) == run.batch_size
        self.size.worked(len(samples), seconds, whole=whole)
        run.meter.add(self.name, len(samples), seconds, size, whole=whole)

    def _some(self, samples: Sequence[Sample]) -> None:
        try:
            self.call(samples)
        except Exception as error:
            out_of_memory = _is_out_of_memory(error)
            if out_of_memory:
                traceback.clear_frames(error.__traceback__)  # they hold what fills the memory
            if not out_of_memory or len(samples) == 1:
                raise self._failure(samples, error) from error
        else:
            return
        _free_memory()  # out here, where the error is gone
        self.size.ran_out(len(samples))
        raise RanOutError

    def _failure(self, samples: Sequence[Sample], error: Exception) -> StageError:
        source = samples[0].source
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        cause = f"{type(error).__name__}: {error}{notes}"
        return StageError(self.stage, source, f"stage {self.stage!r} failed on {source!r}: {cause}")


@dataclass(frozen=True, slots=True)
class _Ready:
    """A stage with its models.

    Attributes:
        stage: its copy, if it borrows.
        looks: whether it borrowed a model that looks at images.
    """

    stage: Stage
    looks: bool = False


class _Lender:
    """Lends from a pool, and notes whether models that look at images are asked for."""

    def __init__(self, pool: ModelPool) -> None:
        self._pool = pool
        self.lent_image_models = False

    def captioner(self, model: str | Captioner, /) -> Captioner:
        self.lent_image_models = True
        return self._pool.captioner(model)

    def extractor(self, model: str | KeyphraseExtractor, /) -> KeyphraseExtractor:
        return self._pool.extractor(model)

    def encoder(self, model: str | ImageTextEncoder | None = None, /) -> ImageTextEncoder:
        self.lent_image_models = True
        return self._pool.encoder(model)

    def detector(self, model: str | Detector, /) -> Detector:
        self.lent_image_models = True
        return self._pool.detector(model)


def _ready(stage: Stage, pool: ModelPool | None) -> _Ready:
    if pool is None or not isinstance(stage, NeedsModels):
        return _Ready(stage)
    borrower = copy.copy(stage)
    lender = _Lender(pool)
    borrower.setup(lender)
    return _Ready(cast("Stage", borrower), lender.lent_image_models)


def _cut(stages: Sequence[_Ready]) -> int:
    """How many stages are the head.

    Those before the first that needs what another wrote, and any later one whose models look at images
    while it is called, so that no model is used by both parts at once. A stage that changes the pixels
    late keeps all in one part: nothing can be prepared before it.
    """
    needy = [at for at, own in enumerate(stages) if own.stage.requires - ALWAYS_THERE]
    lookers = [at for at, own in enumerate(stages) if own.looks and not _prepares(own.stage)]
    cut = max(needy[0] if needy else len(stages), lookers[-1] + 1 if lookers else 0)
    changes_late = any("image" in own.stage.provides for own in stages[cut:])
    return len(stages) if changes_late else cut


def _prepares(stage: Stage) -> bool:
    """Whether a stage has something to prepare; one that borrows no model in its present mode has not."""
    return isinstance(stage, PreparesSamples) and bool(getattr(stage, "borrows", True))


def _is_out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    return isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError))


def _free_memory() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
