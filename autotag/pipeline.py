"""``Pipeline``: runs images through stages, in batches, so that one bad image costs one error."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast

import numpy as np
from PIL import Image

from autotag import options, wiring
from autotag.decoding import MAX_PIXELS
from autotag.errors import (
    ConfigError,
    ImageReadError,
    PipelineClosedError,
    StageBrokenError,
    StageError,
    WiringError,
    suggestion,
)
from autotag.images import ReadImage, read_image
from autotag.models.catalog import check_model
from autotag.models.device import check_placement, choose_device
from autotag.protocols import ImageTextEncoder, NeedsModels, Stage
from autotag.reading_ahead import InputsFailed, read_ahead
from autotag.records import Result, Sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from autotag.images import ImageInput
    from autotag.models.pool import ModelPool

DEFAULT_ENCODER = "clip-vit-b-32"

BROKEN_AFTER = 8
"""So many failures of one stage in a row, with no success between, mean that the stage is broken."""

_BATCH_ON_CPU = 8
_BATCH_ON_GPU = 64
_MOST_DECODE_THREADS = 16

_Read = ReadImage | ImageReadError | InputsFailed


class _Engine:
    """What a pipeline holds once it is loaded. Runs one batch at a time, whichever thread asks."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._stages: tuple[Stage, ...] | None = None
        self._pool: ModelPool | None = None
        self._closed = False

    def load(self, pipeline: Pipeline) -> None:
        with self._lock:
            self.check_open()
            if self._stages is None:
                self._stages = self._set_up(pipeline)

    def check_open(self) -> None:
        if self._closed:
            raise PipelineClosedError("this pipeline was closed; build or load another one.")

    @property
    def image_size(self) -> int | None:
        """The side in pixels that the borrowed models look at; None for all there is."""
        pool = self._pool
        return pool.image_size if pool else None

    def run(self, samples: Sequence[Sample]) -> None:
        """Every stage on one batch.

        Raises:
            StageError: naming the first of the samples, chained to what the stage raised.
        """
        with self._lock:
            self.check_open()
            for stage in self._stages or ():
                self._run_stage(stage, samples)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._stages = None
            if self._pool:
                self._pool.close()
            self._pool = None

    def _set_up(self, pipeline: Pipeline) -> tuple[Stage, ...]:
        """The stages, each borrower a copy of its own that holds this pipeline's models.

        Copies, because one stage object may be in two pipelines with two encoders, and because what
        holds the models must go when the pipeline is closed.
        """
        if not any(isinstance(stage, NeedsModels) for stage in pipeline.stages):
            return tuple(pipeline.stages)
        from autotag.models.pool import ModelPool

        pool = ModelPool(encoder=pipeline.encoder, device=pipeline.device, dtype=pipeline.dtype)
        try:
            stages = tuple(_with_models(stage, pool) for stage in pipeline.stages)
        except BaseException:
            pool.close()
            raise
        self._pool = pool
        return stages

    def _run_stage(self, stage: Stage, samples: Sequence[Sample]) -> None:
        try:
            stage(samples)
        except MemoryError:
            raise
        except Exception as error:
            source = samples[0].source
            cause = f"{type(error).__name__}: {error}"
            raise StageError(
                stage.name, source, f"stage {stage.name!r} failed on {source!r}: {cause}"
            ) from error


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
        batch_size: images that go through the stages together; ``"auto"`` is 8 on a CPU and 64 on a GPU.
        decode_size: the side in pixels of the square that stages look at; image files may be decoded
            smaller, down to that. ``"auto"`` is what the borrowed models say, ``"full"`` decodes in full:
            choose it for stages of your own that look closer at ``sample.image``.
        decode_threads: threads that read images; ``"auto"`` is one per core, at most 16.
        decode_ahead: images read beyond the batch in hand; ``"auto"`` is one batch.
        allow_urls: whether ``http://`` and ``https://`` inputs are fetched.
        max_pixels: larger pictures are refused.

    Raises:
        WiringError: the stages do not fit together in this order.
        ConfigError: a setting is wrong.
        ModelUnavailableError: the encoder is a folder that does not exist.
    """

    stages: Sequence[Stage] = field(metadata={"option": False})
    _: KW_ONLY
    encoder: str | ImageTextEncoder | None = DEFAULT_ENCODER
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int | Literal["auto"] = "auto"
    decode_size: int | Literal["auto", "full"] = "auto"
    decode_threads: int | Literal["auto"] = "auto"
    decode_ahead: int | Literal["auto"] = "auto"
    allow_urls: bool = False
    max_pixels: int = MAX_PIXELS
    _engine: _Engine = field(init=False, repr=False, default_factory=_Engine)

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
        """
        self.load()
        outcome = next(self._outcomes([self._reader()(image)]))
        if isinstance(outcome, StageError):
            raise outcome
        return outcome

    def stream(
        self, images: ImageInput | Iterable[ImageInput], *, on_error: Literal["raise", "record"] = "raise"
    ) -> Iterator[Result]:
        """What the stages find in many images: one result per image, in order.

        Images are read ahead in threads and go through the stages in batches. However long the stream,
        no more than about two batches of images are in memory, and no more are taken from ``images``.

        Args:
            images: any iterable or generator of what ``pipeline(image)`` takes; a single image is a
                stream of one.
            on_error: ``"raise"`` stops at the first bad image, after the results before it. ``"record"``
                gives a bad image a result with ``error`` and goes on.

        Raises:
            ConfigError: ``on_error`` or ``images`` is neither of these; raised here, not on iteration.
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
        self._engine.check_open()
        inputs = _several(images)
        return self._recorded(inputs) if on_error == "record" else self._raising(inputs)

    def load(self) -> None:
        """Loads the models, unless they are loaded.

        Raises:
            ModelUnavailableError: weights are neither on this machine nor to be had.
            ModelLoadError: weights are there but do not load.
            PipelineClosedError: after ``close()``.
        """
        self._engine.load(self)

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
        raise TypeError("a pipeline is not pickled; send autotag.config.to_config(pipeline) instead.")

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
        stages = [options.table_from_stage(stage) for stage in self.stages]
        return {**options.written(self, where="the pipeline"), "stages": stages}

    def _check_settings(self) -> None:
        settings = {name: getattr(self, name) for name in options.option_fields(type(self))}
        options.checked(type(self), settings, where="the pipeline")
        for name, value in settings.items():
            if isinstance(value, int) and not isinstance(value, bool) and value < 1:
                raise ConfigError(f"the pipeline: {name} = {value} is too small; the least is 1.")
        check_placement(self.device, self.dtype)
        if self.encoder is not None:
            check_model(self.encoder, "encoder")

    def _raising(self, images: Iterable[ImageInput]) -> Iterator[Result]:
        for _, outcome in self._stream(images):
            if not isinstance(outcome, Result):
                raise outcome
            yield outcome

    def _recorded(self, images: Iterable[ImageInput]) -> Iterator[Result]:
        watch = _Watch()
        for size, outcome in self._stream(images):
            if isinstance(outcome, Result):
                yield outcome
            else:
                yield Result(outcome.source, size, error=str(outcome))
            watch.see(outcome)
        watch.end()

    def _stream(
        self, images: Iterable[ImageInput]
    ) -> Iterator[tuple[tuple[int, int], Result | ImageReadError | StageError]]:
        """Per image, in order, its size in pixels and what became of it."""
        self.load()
        batch_size = self._batch_size()
        ahead = batch_size if self.decode_ahead == "auto" else self.decode_ahead
        reads = read_ahead(images, self._reader(), workers=self._decode_threads(), ahead=ahead)
        with closing(cast("Any", reads)):
            for batch in _batches(reads, batch_size):
                outcomes = self._outcomes([read for read in batch if isinstance(read, ReadImage)])
                for read in batch:
                    if isinstance(read, InputsFailed):
                        raise read.error
                    yield ((0, 0), read) if isinstance(read, ImageReadError) else (read.size, next(outcomes))

    def _outcomes(self, reads: Sequence[ReadImage]) -> Iterator[Result | StageError]:
        """Per image its result, or the error of the stage that fails on it alone.

        A batch that fails is halved until the images that fail stand alone; each half starts over from
        fresh samples, because stages write in place.
        """
        if not reads:
            return
        samples = [self._sample(read) for read in reads]
        failure = self._failure(samples)
        if failure is None:
            yield from map(Result.from_sample, samples)
        elif len(reads) == 1:
            yield failure
        else:
            del samples
            yield from self._outcomes(reads[: len(reads) // 2])
            yield from self._outcomes(reads[len(reads) // 2 :])

    def _failure(self, samples: Sequence[Sample]) -> StageError | None:
        try:
            self._engine.run(samples)
        except StageError as error:
            return error
        return None

    def _sample(self, read: ReadImage) -> Sample:
        replaces_pixels = any("image" in stage.provides for stage in self.stages)
        return Sample(read.source, read.image.copy() if replaces_pixels else read.image, read.size)

    def _reader(self) -> Callable[[ImageInput], ReadImage]:
        """Reads one image as the settings and the loaded models want it; called in threads."""
        if self.decode_size == "auto":
            target_size = self._engine.image_size
        else:
            target_size = None if self.decode_size == "full" else self.decode_size
        return partial(
            read_image, target_size=target_size, allow_urls=self.allow_urls, max_pixels=self.max_pixels
        )

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


def _with_models(stage: Stage, pool: ModelPool) -> Stage:
    if not isinstance(stage, NeedsModels):
        return stage
    borrower = copy.copy(stage)
    borrower.setup(pool)
    return cast("Stage", borrower)


def _several(images: ImageInput | Iterable[ImageInput]) -> Iterable[ImageInput]:
    """The images to stream; a single one, also of a kind that can be iterated, is a stream of one."""
    single = isinstance(images, str | bytes | bytearray | memoryview | os.PathLike | np.ndarray | Image.Image)
    if single or hasattr(images, "read"):
        return [cast("ImageInput", images)]
    if not isinstance(images, Iterable):
        raise ConfigError(f"stream takes images, one by one or an iterable of them, not {images!r}.")
    return cast("Iterable[ImageInput]", images)


def _batches(reads: Iterable[_Read], size: int) -> Iterator[list[_Read]]:
    batch: list[_Read] = []
    for read in reads:
        batch.append(read)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
