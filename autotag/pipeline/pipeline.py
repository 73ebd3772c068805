"""``Pipeline``: runs images through stages, in batches, so that one bad image costs one error."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast

import numpy as np
from PIL import Image

from autotag import options
from autotag.checks import check_count
from autotag.errors import (
    ConfigError,
    ImageReadError,
    StageBrokenError,
    StageError,
    UnknownNameError,
    WiringError,
    suggestion,
)
from autotag.images.decode_memory import KEPT_BYTES
from autotag.images.reading import ReadImage, read_image, source_of
from autotag.models.fast.fast_paths import BY_TRIAL, check_plain
from autotag.models.loading.device import check_placement, choose_device
from autotag.models.names import check_model
from autotag.pipeline import stage_tables, wiring
from autotag.pipeline.batch_sizes import BatchSize
from autotag.pipeline.engine import Engine, Run
from autotag.pipeline.stats import READ, Meter, StreamStats
from autotag.pipeline.streaming import Outcome, Reading, stream
from autotag.records import Result, Sample
from autotag.relevance.sample_views import make_views

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from autotag.images.reading import ImageInput
    from autotag.models.pool import ModelPool
    from autotag.protocols import ImageTextEncoder, Stage, ViewsImages

DEFAULT_ENCODER = "clip-vit-b-32"

BROKEN_AFTER = 8
"""So many failures of one stage in a row, with no success between, mean that the stage is broken."""

_BATCH_ON_CPU = 16
_BATCH_ON_GPU = 64
_MOST_DECODE_THREADS = 16
_MOST = {
    "batch_size": 65_536,
    "decode_ahead": 1_000_000,
    "decode_size": 65_536,
    "decode_threads": 512,
    "max_pixels": 2**40,
}
"""Settings that are numbers, and the largest that a machine can be expected to work with."""


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Runs images through stages.

    Building one checks everything that can be checked without weights. Models are loaded by ``load()``
    or on first use, and freed by ``close()`` or at the end of a ``with`` block. One pipeline may be used
    from several threads: they take turns, batch by batch.

    Attributes:
        stages: in the order in which they run.
        encoder: the image-text encoder of every stage that names no other: a model's name, a folder, an
            object, or None for none.
        device: ``"auto"`` (cuda, else mps, else cpu), ``"cpu"``, ``"cuda"``, ``"cuda:<n>"`` or ``"mps"``.
        dtype: ``"auto"``, ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        batch_size: images that go through the stages together; ``"auto"`` is 16 on a CPU and 64 on a GPU.
        stage_batch_sizes: by name of a stage, how many of a batch it gets at once. For a stage that is not
            named the fastest size is found by trial during the first batches of a stream. Sizes may
            move scores in the last digits.
        decode: ``"fast"`` decodes JPEG files smaller where the models look at few pixels, and resizes once
            for all models; ``"exact"`` decodes in full and leaves resizing to each model's own processor.
        decode_size: the side in pixels of the square that stages look at; image files may be decoded
            smaller, down to that. ``"auto"`` is what the borrowed models say, ``"full"`` decodes in full:
            choose it for stages of your own that look closer at ``sample.image``.
        decode_threads: threads that read images; ``"auto"`` is one per core, at most 16.
        decode_ahead: images read beyond the batch in hand; ``"auto"`` is one batch.
        allow_urls: whether ``http://`` and ``https://`` inputs are fetched.
        allow_truncated: whether what can be read of an image file that ends too early is kept; its result
            then is ``truncated``.
        max_pixels: larger pictures are refused; ``"auto"`` is what ``autotag.images.reading.read_image`` says.
        plain: names of fast paths to switch off, or ``"all"``; see ``autotag.models.fast.fast_paths``.
        deterministic: whether nothing is chosen by trial, neither batch sizes nor layouts of weights, so that
            the same images in the same order give the same results to the last digit, on one machine with
            the same versions and as many threads. It costs what the trials would have gained. A stage that
            runs out of memory still gets fewer images at once.

    Raises:
        WiringError: the stages do not fit together in this order, or need an encoder that is not there.
        ConfigError: a setting is wrong.
        ModelUnavailableError: the encoder is a folder that does not exist.
    """

    stages: Sequence[Stage] = field(metadata={"option": False})
    _: KW_ONLY
    encoder: str | ImageTextEncoder | None = DEFAULT_ENCODER
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int | Literal["auto"] = "auto"
    stage_batch_sizes: Mapping[str, int] = field(default_factory=dict)
    decode: Literal["fast", "exact"] = "fast"
    decode_size: int | Literal["auto", "full"] = "auto"
    decode_threads: int | Literal["auto"] = "auto"
    decode_ahead: int | Literal["auto"] = "auto"
    allow_urls: bool = False
    allow_truncated: bool = False
    max_pixels: int | Literal["auto"] = "auto"
    plain: tuple[str, ...] = ()
    deterministic: bool = False
    _engine: Engine = field(init=False, repr=False, default_factory=Engine)

    def __post_init__(self) -> None:
        stages: object = self.stages
        if not isinstance(stages, Iterable):
            raise WiringError(f"a pipeline takes a list of stages, not {stages!r}.")
        object.__setattr__(self, "stages", tuple(stages))
        wiring.check_wiring(self.stages)
        self._check_settings()

    def __call__(self, image: ImageInput) -> Result:
        """What the stages find in one image.

        Args:
            image: a path, a ``PIL.Image``, an array, bytes, an open file, or a URL if allowed.

        Raises:
            ImageReadError: the image cannot be read.
            StageError: a stage failed on it.
            ModelUnavailableError: on first use, weights are missing.
            PipelineClosedError: after ``close()``.
            ForkedProcessError: models were used before this process was forked.
        """
        self.load()
        run = Run(self._batch_size(), self._engine.meter(readers=1, overlapping=False))
        read = self._reader(run.meter)(image, lambda _size: None)
        start = partial(partial, self._engine.start, run=run)
        outcome = next(self._engine.outcomes([read], run, start))
        if isinstance(outcome, StageError):
            raise outcome
        return outcome

    def stream(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        on_error: Literal["raise", "record"] = "raise",
        ordered: bool = True,
    ) -> Iterator[Result]:
        """What the stages find in many images: one result per image.

        Images are read ahead in threads and go through the stages in batches; one more thread runs the
        models that look at images while texts are worked on here. However long the stream, no more than
        about three batches of images are in memory, and no more are taken from ``images``; large images
        make smaller batches. No thread is left when the stream ends, or is closed before its end.

        Args:
            images: any iterable or generator of what ``pipeline(image)`` takes; a single image is a
                stream of one.
            on_error: ``"raise"`` stops at the first bad image, after the results before it. ``"record"``
                gives a bad image a result with ``error`` and goes on.
            ordered: whether results come in the order of the images, in whole batches, which wait for
                the next batch to be read. If not, results come as soon as they are ready, and an image
                that is slow to read holds up no other.

        Raises:
            ConfigError: ``on_error`` or ``images`` is neither of these, or a deterministic pipeline is to
                give results out of order; raised here, not on iteration.
            ImageReadError: while iterating under ``"raise"``: an image cannot be read.
            StageError: while iterating under ``"raise"``: a stage failed on an image.
            StageBrokenError: while iterating under ``"record"``: a stage failed on 8 images in a row,
                or on every image of a shorter stream of two or more.
            PipelineClosedError: after ``close()``.
        """
        if on_error not in {"raise", "record"}:
            raise ConfigError(
                f"unknown on_error {on_error!r}. {suggestion(str(on_error), ['raise', 'record'])}"
            )
        if self.deterministic and not ordered:
            raise ConfigError("a deterministic pipeline gives results in order; leave ordered=False out.")
        self._engine.check_open()
        outcomes = self._stream(_several(images), ordered=ordered)
        return _recorded(outcomes) if on_error == "record" else _raising(outcomes)

    def stats(self) -> StreamStats:
        """Where the time of the stream that was begun last goes, or went."""
        return self._engine.last_meter.stats()

    def load(self) -> None:
        """Loads the models, unless they are loaded.

        Raises:
            ModelUnavailableError: weights are neither on this machine nor to be had.
            ModelLoadError: weights are there but do not load.
            PipelineClosedError: after ``close()``.
            ForkedProcessError: models were used before this process was forked.
        """
        self._engine.load(self.stages, self._size_of, self._make_pool)

    def read(
        self, image: ImageInput, *, source: str | None = None, reserve: Callable[[int], None] | None = None
    ) -> ReadImage:
        """Read one image as the loaded models want it, for ``tag_batch``; may be called from several threads.

        Args:
            image: what ``pipeline(image)`` takes.
            source: what to call it; by default its path or URL, else the kind of object it is.
            reserve: called, with the bytes that decoding takes, before it begins; it may raise.

        Raises:
            ImageReadError: it cannot be read.
            PipelineClosedError: after ``close()``.
        """
        self.load()
        read = self._reader(self._engine.meter(readers=1, overlapping=False), source=source)
        return read(image, reserve or (lambda _size: None))

    def tag_batch(
        self,
        reads: Sequence[ReadImage],
        *,
        looked: Callable[[], None] = lambda: None,
        tell: Callable[[StreamStats], None] = lambda _stats: None,
    ) -> list[Result | StageError]:
        """Return per image its result, or the error of the stage that fails on it alone.

        For programs that make batches of their own, such as servers. The images go through the stages
        together; a batch that fails is halved until the images that fail stand alone.

        Args:
            reads: as ``read`` gives them; may be empty.
            looked: called once the models have looked at the images and only texts remain to be worked on,
                so that another thread may begin with the next batch.
            tell: called at the end with where the time went.

        Raises:
            PipelineClosedError: after ``close()``.
        """
        self.load()
        meter = self._engine.meter(readers=1, overlapping=True)
        run = Run(self._batch_size(), meter)

        def started() -> list[Sample]:
            samples = self._engine.start(reads, run)
            looked()
            return samples

        start = partial(partial, self._engine.start, run=run)
        outcomes = list(self._engine.outcomes(reads, run, start, started))
        tell(meter.stats())
        return outcomes

    def sharing_models(self, stages: Sequence[Stage]) -> Pipeline:
        """Return a pipeline of other stages with these settings, which borrows the models of this one.

        A model that both name is loaded once, and the two take turns with it. It works as long as this
        pipeline is open; closing it leaves the models where they are.

        Raises:
            WiringError: the stages do not fit together in this order.
            ModelUnavailableError: weights of this pipeline are neither on this machine nor within reach.
        """
        self.load()
        names = {stage.name for stage in stages}
        sizes = {name: size for name, size in self.stage_batch_sizes.items() if name in names}
        other = replace(self, stages=stages, stage_batch_sizes=sizes)
        object.__setattr__(other, "_engine", Engine(lender=self._engine))
        return other

    @property
    def images_per_batch(self) -> int:
        """How many images go through the stages together; on a GPU it is known once the models are loaded."""
        return self._batch_size()

    @contextmanager
    def lent_encoder(self) -> Iterator[ImageTextEncoder]:
        """Lend the pipeline's own encoder, while no batch is worked on.

        Raises:
            ConfigError: the pipeline has none.
            PipelineClosedError: after ``close()``.
        """
        self.load()
        with self._engine.taking_turns() as pool:
            if pool is None:
                raise ConfigError("no stage of this pipeline uses an encoder.")
            yield pool.encoder(None)

    def close(self) -> None:
        """Frees the models, once the batch in hand is done. A closed pipeline stays closed."""
        self._engine.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a pipeline is not pickled; send autotag.pipeline.presets.to_config(pipeline) instead."
        )

    def describe(self) -> str:
        """The stages in order, what each needs and writes, and the settings: text for people."""
        encoder = self.encoder if isinstance(self.encoder, str | None) else self.encoder.id
        settings = (
            f"encoder {encoder}, device {self.device}, dtype {self.dtype}, batch size {self.batch_size}"
        )
        return f"{wiring.describe(self.stages)}\n{settings}"

    def to_config(self) -> dict[str, Any]:
        """Stages and settings as plain data that TOML and JSON can hold; defaults are left out.

        Raises:
            ConfigError: a stage cannot be found again by name, or a model was given as an object.
        """
        stages = [stage_tables.table_from_stage(stage) for stage in self.stages]
        return {**options.written(self, where="the pipeline"), "stages": stages}

    def _check_settings(self) -> None:
        options.convert_options(self, where="the pipeline")
        for name, most in _MOST.items():
            if isinstance(value := getattr(self, name), int):
                check_count(f"the pipeline: {name}", value, most=most)
        self._check_stage_batch_sizes()
        check_plain(self.plain)
        if self.decode == "exact" and isinstance(self.decode_size, int):
            raise ConfigError(
                f"the pipeline: decode='exact' decodes in full, and decode_size={self.decode_size} says "
                "otherwise; leave one of them out."
            )
        check_placement(self.device, self.dtype)
        if self.encoder is None:
            wiring.check_encoder(self.stages)
        else:
            check_model(self.encoder, "encoder")

    def _check_stage_batch_sizes(self) -> None:
        names = [stage.name for stage in self.stages]
        for name, size in self.stage_batch_sizes.items():
            if name not in names:
                raise UnknownNameError("stage of this pipeline:", name, names)
            check_count(f"the pipeline: stage_batch_sizes.{name}", size, most=_MOST["batch_size"])

    def _size_of(self, stage: str) -> BatchSize:
        return BatchSize(self.stage_batch_sizes.get(stage), searches=not self.deterministic)

    def _make_pool(self) -> ModelPool:
        from autotag.models.pool import ModelPool

        return ModelPool(
            encoder=self.encoder, device=self.device, dtype=self.dtype, plain=self._switched_off()
        )

    def _switched_off(self) -> frozenset[str]:
        """The fast paths that are not used."""
        exact = ("views",) if self.decode == "exact" else ()
        by_trial = BY_TRIAL if self.deterministic else ()
        return check_plain((*self.plain, *exact, *by_trial))

    def _stream(self, images: Iterable[ImageInput], *, ordered: bool) -> Iterator[Outcome]:
        """Per image its size in pixels and what became of it."""
        self.load()
        batch_size, workers = self._batch_size(), self._decode_threads()
        meter = self._engine.meter(readers=workers, overlapping=self._engine.overlaps)
        self._engine.last_meter = meter
        ahead = batch_size if self.decode_ahead == "auto" else self.decode_ahead
        reading = Reading(self._reader(meter), workers, ahead, ordered)
        yield from stream(self._engine, images, Run(batch_size, meter), reading)

    def _reader(
        self, meter: Meter, *, source: str | None = None
    ) -> Callable[[ImageInput, Callable[[int], None]], ReadImage]:
        """Reads one image as the settings and the loaded models want it; called in threads."""
        read = partial(
            read_image,
            source=source,
            target_size=self._target_size(),
            allow_urls=self.allow_urls,
            allow_truncated=self.allow_truncated,
            max_pixels=self.max_pixels,
        )
        makers = {} if "views" in self._switched_off() else self._engine.view_makers
        return partial(_read, read=read, makers=makers, meter=meter)

    def _target_size(self) -> int | None:
        if self.decode == "exact" or self.decode_size == "full":
            return None
        return self._engine.image_size if self.decode_size == "auto" else self.decode_size

    def _batch_size(self) -> int:
        if self.batch_size != "auto":
            return self.batch_size
        # Without torch in the process no model of ours is loaded, and looking for a GPU would import it.
        device = self.device if self.device != "auto" or "torch" not in sys.modules else choose_device()
        return _BATCH_ON_CPU if device in {"auto", "cpu"} else _BATCH_ON_GPU

    def _decode_threads(self) -> int:
        if self.decode_threads == "auto":
            return min(os.cpu_count() or 1, _MOST_DECODE_THREADS)
        return self.decode_threads


def _raising(outcomes: Iterator[Outcome]) -> Iterator[Result]:
    with closing(cast("Any", outcomes)):
        for _, outcome in outcomes:
            if not isinstance(outcome, Result):
                raise outcome
            yield outcome


def _recorded(outcomes: Iterator[Outcome]) -> Iterator[Result]:
    watch = _Watch()
    with closing(cast("Any", outcomes)):
        for size, outcome in outcomes:
            if isinstance(outcome, Result):
                yield outcome
            else:
                yield Result(outcome.source, size, error=str(outcome))
            watch.see(outcome)
    watch.end()


class _Watch:
    """Tells a broken stage from bad images, by failures of one stage in a row."""

    def __init__(self) -> None:
        self._last: StageError | None = None
        self._run = 0
        self._all_one_run = True

    def see(self, outcome: Result | ImageReadError | StageError) -> None:
        """Counts. An image that cannot be read says nothing about the stages.

        Raises:
            StageBrokenError: this was the eighth failure of one stage in a row.
        """
        if isinstance(outcome, ImageReadError):
            return
        if isinstance(outcome, Result) or (self._last and self._last.stage != outcome.stage):
            self._all_one_run = False
            self._run = 0
        self._last = outcome if isinstance(outcome, StageError) else None
        if self._last:
            self._run += 1
        if self._run >= BROKEN_AFTER:
            self._raise_broken("in a row")

    def end(self) -> None:
        """The stream is over.

        Raises:
            StageBrokenError: one stage failed on every image, and there were two or more.
        """
        if self._all_one_run and self._run > 1:
            self._raise_broken("and on no image succeeded")

    def _raise_broken(self, how: str) -> NoReturn:
        assert self._last is not None  # noqa: S101 - a run of failures ends with one
        last = self._last
        raise StageBrokenError(
            last.stage,
            last.source,
            f"stage {last.stage!r} failed on {self._run} images {how}: the stage is broken, not the images. "
            f"The last failure: {last}",
        ) from last.__cause__


def _read(
    image: ImageInput,
    reserve: Callable[[int], None],
    *,
    read: Callable[..., ReadImage],
    makers: Mapping[str, ViewsImages],
    meter: Meter,
) -> ReadImage:
    """An image with the views that models want of it.

    Raises:
        ImageReadError: it cannot be read, or there is too little memory for it.
    """
    waited = 0.0

    def reserve_timed(size: int) -> None:
        nonlocal waited
        before = time.perf_counter()
        reserve(size)
        waited += time.perf_counter() - before

    started = time.perf_counter()
    try:
        found = read(image, reserve=reserve_timed)
        views = make_views(found.image, makers, found.source)
    except MemoryError as error:
        raise ImageReadError(source_of(image), "there is too little memory for it") from error
    finally:
        meter.add(READ, 1, time.perf_counter() - started - waited)
    reserve(found.image.width * found.image.height * KEPT_BYTES + sum(view.nbytes for view in views.values()))
    return replace(found, views=views) if views else found


def _several(images: ImageInput | Iterable[ImageInput]) -> Iterable[ImageInput]:
    """The images to stream; a single one, also of a kind that can be iterated, is a stream of one."""
    single = isinstance(images, str | bytes | bytearray | memoryview | os.PathLike | np.ndarray | Image.Image)
    if single or hasattr(images, "read"):
        return [cast("ImageInput", images)]
    if not isinstance(images, Iterable):
        raise ConfigError(f"stream takes images, one by one or an iterable of them, not {images!r}.")
    return cast("Iterable[ImageInput]", images)
