"""The class ``Pipeline`` runs images through stages, in batches; a bad image fails alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from operator import length_hint
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, cast, overload

from autotag.config import options
from autotag.config.checks import check_count, shown
from autotag.config.fast_paths import FastPaths
from autotag.errors import ConfigError, UnknownNameError, WiringError, suggestion
from autotag.files.toml_files import check_depth
from autotag.images.reading import read_image
from autotag.models.loading.device import check_placement, choose_device
from autotag.models.names import check_model
from autotag.pipeline import stage_tables, wiring
from autotag.pipeline.batch_sizes import BatchSize
from autotag.pipeline.engine import Engine, Run
from autotag.pipeline.failures import raising, recorded
from autotag.pipeline.inputs import as_several, is_single, read_input
from autotag.pipeline.progress_bar import with_progress
from autotag.pipeline.streaming import Reading, stream

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from autotag.errors import StageError
    from autotag.images.reading import ImageInput, ReadImage
    from autotag.images.snapshots import Snapshot
    from autotag.models.pool import ModelPool
    from autotag.pipeline.saving import Saved
    from autotag.pipeline.stats import Meter, StreamStats
    from autotag.pipeline.streaming import Outcome
    from autotag.protocols import ImageTextEncoder, Stage
    from autotag.records import Explanation, Result, Sample

DEFAULT_ENCODER = "clip-vit-b-32"

_HOW: Mapping[str, object] = {"affects_results": False}
"""Marks settings that change how an image is read, or whether it can be, but not what is found in it."""

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
"""The largest accepted value of each numeric setting."""


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Run images through stages.

    The constructor checks everything that can be checked without weights. Models are loaded by ``load()``
    or on first use, and freed by ``close()`` or at the end of a ``with`` block. Several threads may use one
    pipeline: they take turns, batch by batch.

    Attributes:
        stages: in the order in which they run.
        encoder: the image-text encoder of every stage that does not name another: a model's name, a folder,
            an object, or None for none.
        device: ``"auto"`` (cuda, else mps, else cpu), ``"cpu"``, ``"cuda"``, ``"cuda:<n>"`` or ``"mps"``.
        dtype: ``"auto"``, ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"int8"`` (on a CPU).
        batch_size: images that go through the stages together; ``"auto"`` is 16 on a CPU and 64 on a GPU.
        stage_batch_sizes: stage name -> number of images that it gets at once; other stages get whole
            batches. The size may change the last digits of scores.
        decode: ``"fast"`` decodes JPEG files at a smaller size if the models need few pixels, and resizes
            once for all models; ``"exact"`` decodes at full size and leaves resizing to each model's own
            processor.
        decode_size: the side in pixels of the square that stages need; image files may be decoded at a
            smaller size, down to this. ``"auto"`` is the largest input size of the models; ``"full"`` decodes
            at full size: use it if your own stages need all pixels of ``sample.image``.
        decode_threads: threads that read images; ``"auto"`` is one per core, at most 16.
        decode_ahead: images read beyond the current batch; ``"auto"`` is one batch.
        allow_urls: fetch inputs that start with ``http://`` or ``https://``.
        allow_truncated: use the readable part of an image file that ends too early; its result then is
            ``truncated``.
        max_pixels: refuse images with more pixels; ``"auto"`` is the default of ``read_image``.
        fast_paths: ``"auto"`` for all, ``"off"`` for none, or the names of those to switch off; see
            ``autotag.config.fast_paths``.
        deterministic: refuse what could change the last digits of results: results out of order, and
            fewer images at once after a stage ran out of memory, which is a ``StageBrokenError`` then. So
            the same images in the same order give the same results, byte for byte, on one machine with the
            same versions and number of threads.

    Raises:
        WiringError: the stages do not fit together in this order, or a stage needs the pipeline's encoder,
            which is None.
        ConfigError: a setting is wrong.
        ModelUnavailableError: the encoder is a folder that does not exist.
    """

    stages: Sequence[Stage] = field(metadata={"option": False})
    _: KW_ONLY
    encoder: str | ImageTextEncoder | None = DEFAULT_ENCODER
    device: str = field(default="auto", metadata=_HOW)
    dtype: str = "auto"
    batch_size: int | Literal["auto"] = field(default="auto", metadata=_HOW)
    stage_batch_sizes: Mapping[str, int] = field(default_factory=dict, metadata=_HOW)
    decode: Literal["fast", "exact"] = "fast"
    decode_size: int | Literal["auto", "full"] = "auto"
    decode_threads: int | Literal["auto"] = field(default="auto", metadata=_HOW)
    decode_ahead: int | Literal["auto"] = field(default="auto", metadata=_HOW)
    allow_urls: bool = field(default=False, metadata=_HOW)
    allow_truncated: bool = field(default=False, metadata=_HOW)
    max_pixels: int | Literal["auto"] = field(default="auto", metadata=_HOW)
    fast_paths: Literal["auto", "off"] | Sequence[str] = field(default="auto", metadata=_HOW)
    deterministic: bool = field(default=False, metadata=_HOW)
    _encoder: str | ImageTextEncoder | None = field(init=False, repr=False, default=None)
    _engine: Engine = field(init=False, repr=False, default_factory=Engine)

    def __post_init__(self) -> None:
        stages: object = self.stages
        if not isinstance(stages, Iterable):
            raise WiringError(f"a pipeline takes a list of stages, not {stages!r}.")
        object.__setattr__(self, "stages", tuple(stages))
        wiring.check_wiring(self.stages)
        self._check_settings()

    @overload
    def __call__(self, image: ImageInput, /) -> Result: ...  # type: ignore[overload-overlap]

    @overload
    def __call__(self, image: Iterable[ImageInput], /) -> list[Result]: ...

    def __call__(self, image: ImageInput | Iterable[ImageInput], /) -> Result | list[Result]:
        """Return the result for one image, or the list of results for several, in their order.

        For more images than results fit in memory, or to go on after a bad image, use ``stream``.

        Args:
            image: a path, a ``PIL.Image``, an array, bytes, an open file, or a URL if allowed; or a list or
                another iterable of these.

        Raises:
            ImageReadError: an image cannot be read.
            StageError: a stage failed on an image.
            ModelUnavailableError: on first use, weights are missing and cannot be downloaded.
            PipelineClosedError: after ``close()``.
            ForkedProcessError: models were used before this process was forked.
        """
        self._engine.check_open()
        if isinstance(image, Iterable) and not is_single(image):
            return list(self.stream(image))
        (result,) = raising(self._stream([cast("ImageInput", image)], ordered=True, single=True))
        return result

    def __getitem__(self, name: str) -> Stage:
        """Return the stage of this name; to change its options, use ``replace``.

        Changes of the stage itself may not be seen: a stage that needs models is copied when they are loaded.

        Raises:
            UnknownNameError: the pipeline does not have it; the error is also a ``KeyError``.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise UnknownNameError("stage of this pipeline:", name, [stage.name for stage in self.stages])

    def __contains__(self, name: object) -> bool:
        """Return True if the pipeline has a stage of this name."""
        return any(stage.name == name for stage in self.stages)

    __iter__: ClassVar[None] = None
    """Makes ``list(pipeline)`` a ``TypeError``; without it, Python would ask for stage 0."""

    def stream(
        self,
        images: ImageInput | Iterable[ImageInput | ReadImage],
        *,
        on_error: Literal["raise", "record"] = "raise",
        ordered: bool = True,
        progress: bool = False,
    ) -> Iterator[Result]:
        """Yield one result per image.

        Threads read images ahead, and the images go through the stages in batches. One more thread runs the
        models that look at images while the calling thread works on texts. At most about three batches of
        images are in memory or taken from ``images`` at any time, however long the stream is; large images
        make smaller batches. All threads end when the stream ends or is closed.

        Args:
            images: any iterable or generator of the inputs of ``pipeline(image)``; a single image is a
                stream of one. What ``autotag.images.reading.read_image`` returned is not read again. Arrays,
                Pillow images and open files of an iterator are copied or read before it is asked for the
                next, so a generator may close or change them; those of a list are not.
            on_error: ``"raise"`` stops at the first bad image, after the results before it. ``"record"``
                yields a result with ``error`` for a bad image and continues.
            ordered: True for results in the order of the images, in full batches; a batch waits until the
                next one is read. False for results as soon as they are ready, so that an image that is slow
                to read does not delay the others.
            progress: show a progress bar: in a notebook with tqdm, in a terminal on stderr. Elsewhere, as in
                a log file, nothing is shown.

        Raises:
            ConfigError: ``on_error`` or ``images`` is wrong, or ``ordered`` is False in a deterministic
                pipeline; raised by this call, not during iteration.
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
            raise ConfigError("a deterministic pipeline yields results in order; leave ordered=False out.")
        self._engine.check_open()
        several = as_several(images)
        outcomes = self._stream(several, ordered=ordered)
        results = recorded(outcomes) if on_error == "record" else raising(outcomes)
        return with_progress(results, length_hint(several) or None) if progress else results

    def stats(self) -> StreamStats:
        """Return where the time of the stream that started last goes or went."""
        return self._engine.last_meter.stats()

    @property
    def loaded(self) -> bool:
        """Whether the models are loaded, and the pipeline is not closed."""
        return self._engine.loaded

    def load(self) -> None:
        """Load the models, unless they are loaded.

        Raises:
            ModelUnavailableError: weights are not on this machine and cannot be downloaded.
            ModelLoadError: weights are on this machine but do not load.
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
            reserve: called, with the bytes that decoding takes, before it begins, where it may wait, and with
                the bytes that stay; it may raise.

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
        run = Run(self._batch_size(), meter, pipeline=self)

        def started() -> list[Sample]:
            samples = self._engine.start(reads, run)
            looked()
            return samples

        start = partial(partial, self._engine.start, run=run)
        outcomes = list(self._engine.outcomes(reads, run, start, started))
        tell(meter.stats())
        return outcomes

    def explain(self, image: ImageInput, *tags: str) -> list[Explanation]:
        """Return why an image has tags, or has them not, and where the encoder sees them.

        Args:
            image: what ``pipeline(image)`` takes.
            tags: any words; by default the tags that the pipeline keeps, best first.

        Raises:
            ConfigError: a tag is not a text, no stage uses an encoder, or the encoder cannot say where it
                sees a text.
            ImageReadError: the image cannot be read.
            StageError: a stage failed on it.
            ModelUnavailableError: on first use, weights are missing and cannot be downloaded.
            PipelineClosedError: after ``close()``.
        """
        from autotag.pipeline.explaining import explained

        for tag in tags:
            if not isinstance(tag, str):
                raise ConfigError(f"a tag to explain is {shown(tag)}; write explain(image, 'cat', 'dog').")
        read = self.read(image)
        run = Run(1, self._engine.meter(readers=1, overlapping=False))
        with self.exclusive_encoder() as encoder:
            return explained(self._engine.traced(read, run), encoder, tags or None)

    def sharing_models(self, stages: Sequence[Stage]) -> Pipeline:
        """Return a pipeline of other stages with these settings, which uses the models of this one.

        A model that both use is loaded once, and the two pipelines take turns. The new pipeline works as
        long as this one is open; closing the new one does not close the models.

        Raises:
            WiringError: the stages do not fit together in this order.
            ModelUnavailableError: weights of this pipeline are not on this machine and cannot be downloaded.
        """
        self.load()
        names = {stage.name for stage in stages}
        sizes = {name: size for name, size in self.stage_batch_sizes.items() if name in names}
        other = replace(self, stages=stages, stage_batch_sizes=sizes)
        object.__setattr__(other, "_engine", Engine(owner=self._engine))
        return other

    def replace(self, **stages: Mapping[str, object] | Literal[False]) -> Pipeline:
        """Return a pipeline with other options of its stages, which uses the models of this one.

        ::

            few = pipeline.replace(filter_tags={"top_k": 3}, merge_tags=False)

        The models of this pipeline are loaded, and no model is loaded twice; see ``sharing_models``.

        Args:
            **stages: stage name -> the options to change, or False to leave the stage out.

        Raises:
            UnknownNameError: a stage or an option is unknown.
            ConfigError: a value is wrong, a stage is not a dataclass, or the other stages do not fit together
                without one that is left out (``WiringError``).
            ModelUnavailableError: weights of this pipeline are not on this machine and cannot be downloaded.
        """
        for name in stages:
            if name in options.option_fields(Pipeline):
                raise ConfigError(
                    f"{name} is a setting of the pipeline, not a stage; make a pipeline of its own for it: "
                    f"autotag.load(..., {name}=...)."
                )
            self[name]
        changed = [
            stage_tables.changed_stage(stage, changes)
            for stage in self.stages
            if (changes := stages.get(stage.name, {})) is not False
        ]
        wiring.check_wiring(changed)
        return self.sharing_models(changed)

    @property
    def target_size(self) -> int | None:
        """The ``target_size`` of ``read_image`` for the models, which are loaded; None for the full size."""
        self.load()
        return self._target_size()

    @property
    def images_per_batch(self) -> int:
        """How many images go through the stages together; on a GPU it is known once the models are loaded."""
        return self._batch_size()

    @contextmanager
    def exclusive_encoder(self) -> Iterator[ImageTextEncoder]:
        """Yield the pipeline's own encoder; no batch runs until the ``with`` block ends.

        Raises:
            ConfigError: no stage of the pipeline uses an encoder.
            PipelineClosedError: after ``close()``.
        """
        self.load()
        with self._engine.taking_turns() as pool:
            if pool is None:
                raise ConfigError("no stage of this pipeline uses an encoder.")
            yield pool.encoder(None)

    def close(self) -> None:
        """Free the models after the current batch. A closed pipeline stays closed."""
        self._engine.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a pipeline cannot be copied or pickled; "
            "send autotag.pipeline.presets.to_config(pipeline) instead."
        )

    def describe(self) -> str:
        """Return a readable text: the stages in order, the fields that they read and write, and settings."""
        encoder = self.encoder if isinstance(self.encoder, str | None) else self.encoder.id
        settings = (
            f"encoder {encoder}, device {self.device}, dtype {self.dtype}, batch size {self.batch_size}"
        )
        return f"{wiring.describe(self.stages)}\n{settings}"

    def to_config(self) -> dict[str, Any]:
        """Return stages and settings as plain data that TOML and JSON can hold, without defaults.

        Raises:
            ConfigError: a stage cannot be imported by name, or a model was given as an object.
        """
        stages = [stage_tables.table_from_stage(stage) for stage in self.stages]
        return {**options.written(self, where="the pipeline"), "stages": stages}

    def save(self, folder: str | os.PathLike[str], *, largest: int | None = None) -> Path:
        """Write the pipeline into a new folder, which can be moved and needs nothing else of this machine.

        The folder has the config as ``autotag.toml`` with all thresholds, the files of vocabularies, models
        that are local folders, and a model card. Models of the hub stay names. A file of ``autotag learn`` is
        copied, too, with the keywords in it: they may be names of people.

        Args:
            folder: it must be new or empty; it appears complete, or not at all.
            largest: the most bytes of files and models to copy; by default 500 MB.

        Returns:
            The folder.

        Raises:
            ConfigError: the folder is not empty or cannot be written, local models are too large, a model was
                given as an object, or a stage cannot be imported by name.
        """
        from autotag.pipeline import saving

        return saving.save(self._saved(Path(folder).name, largest), folder)

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike[str], *, revision: str | None = None, trust_code: bool = False
    ) -> Pipeline:
        """Return a pipeline that ``save`` or ``push_to_hub`` wrote. The weights are loaded later.

        Args:
            name: a folder, or the id of a repository on the hub, which is downloaded to the hub's cache.
            revision: the branch, tag or commit on the hub.
            trust_code: allow stages that are imported by name, such as ``"package.module:Stage"``, besides
                the registered ones. Their code runs with your rights.

        Raises:
            ModelUnavailableError: there is no such folder, and nothing that can be downloaded.
            ConfigError: it is not a saved pipeline, its config is wrong, or a stage would import code.
        """
        from autotag.pipeline import saving

        return cls.from_config(saving.read(name, revision=revision, trust_code=trust_code))

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool = False,
        message: str = "Upload a pipeline of autotag",
        largest: int | None = None,
    ) -> str:
        """Upload what ``save`` writes to the hub, with the token of ``hf auth login``.

        That includes a file of ``autotag learn`` with the keywords in it: they may be names of people.

        Args:
            repository: its id, such as ``"me/my-tagger"``; made if it does not exist.
            private: whether a new repository is private.
            message: of the commit.
            largest: as for ``save``.

        Returns:
            The URL of the commit.

        Raises:
            ConfigError: as for ``save``.
            huggingface_hub.errors.HfHubHTTPError: the hub refuses it, such as without a token.
        """
        from autotag.pipeline import saving

        saved = self._saved(repository, largest)
        return saving.push_to_hub(saved, repository, private=private, message=message)

    def _saved(self, name: str | os.PathLike[str], largest: int | None) -> Saved:
        from autotag.pipeline.saving import LARGEST, Saved

        most = LARGEST if largest is None else largest
        return Saved(os.fspath(name), self.to_config(), self.stages, self.describe(), most)

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> Pipeline:
        """Build the pipeline that a config describes; see ``autotag.pipeline.presets.from_config``."""
        if not isinstance(config, Mapping):
            raise ConfigError(
                f"a config is a dict with the pipeline's settings and stages, not {config!r:.80}; "
                "autotag.load(...) takes presets and files."
            )
        try:
            check_depth(config)
        except ValueError as error:
            raise ConfigError(f"the config cannot be used: {error}.") from error
        settings = {name: value for name, value in config.items() if name != "stages"}
        checked = options.checked(Pipeline, settings, where="the pipeline")
        return cls(list(map(stage_tables.stage_from_table, stage_tables.tables_of(config))), **checked)

    def _check_settings(self) -> None:
        options.convert_options(self, where="the pipeline")
        for name, most in _MOST.items():
            if isinstance(value := getattr(self, name), int):
                check_count(f"the pipeline: {name}", value, most=most)
        self._check_stage_batch_sizes()
        FastPaths.parse(self.fast_paths)
        if self.decode == "exact" and isinstance(self.decode_size, int):
            raise ConfigError(
                f"the pipeline: decode='exact' decodes at full size, but decode_size={self.decode_size} asks "
                "for less; leave one of them out."
            )
        check_placement(self.device, self.dtype)
        if self.encoder is None:
            wiring.check_encoder(self.stages)
        else:
            object.__setattr__(self, "_encoder", check_model(self.encoder, "encoder"))

    def _check_stage_batch_sizes(self) -> None:
        names = [stage.name for stage in self.stages]
        for name, size in self.stage_batch_sizes.items():
            if name not in names:
                raise UnknownNameError("stage of this pipeline:", name, names)
            check_count(f"the pipeline: stage_batch_sizes.{name}", size, most=_MOST["batch_size"])

    def _size_of(self, stage: str) -> BatchSize:
        return BatchSize(self.stage_batch_sizes.get(stage), shrinks=not self.deterministic)

    def _make_pool(self) -> ModelPool:
        from autotag.models.pool import ModelPool

        return ModelPool(
            encoder=self._encoder, device=self.device, dtype=self.dtype, fast_paths=self._fast_paths()
        )

    def _fast_paths(self) -> FastPaths:
        """Return the fast paths to use; pixels of the official processors are made by these."""
        found = FastPaths.parse(self.fast_paths)
        return found.without("views") if self.decode == "exact" else found

    def _stream(
        self, images: Iterable[ImageInput | ReadImage], *, ordered: bool, single: bool = False
    ) -> Iterator[Outcome]:
        """Yield for each image its size in pixels and what became of it."""
        self.load()
        batch_size, workers = self._batch_size(), 1 if single else self._decode_threads()
        overlapping = self._engine.overlaps and not single
        meter = self._engine.meter(readers=workers, overlapping=overlapping)
        self._engine.last_meter = meter
        ahead = batch_size if self.decode_ahead == "auto" else self.decode_ahead
        reading = Reading(self._reader(meter), workers, ahead, ordered, overlapping)
        yield from stream(self._engine, images, Run(batch_size, meter, pipeline=self), reading)

    def _reader(
        self, meter: Meter, *, source: str | None = None
    ) -> Callable[[ImageInput | ReadImage | Snapshot, Callable[[int], None]], ReadImage]:
        """Return a function that reads one image for the settings and loaded models; called in threads."""
        read = partial(
            read_image,
            source=source,
            target_size=self._target_size(),
            allow_urls=self.allow_urls,
            allow_truncated=self.allow_truncated,
            max_pixels=self.max_pixels,
        )
        makers = self._engine.view_makers if self._fast_paths().views else {}
        return partial(read_input, read=read, makers=makers, meter=meter)

    def _target_size(self) -> int | None:
        if self.decode == "exact" or self.decode_size == "full":
            return None
        return self._engine.image_size if self.decode_size == "auto" else self.decode_size

    def _batch_size(self) -> int:
        if self.batch_size != "auto":
            return self.batch_size
        # Without torch in the process none of our models is loaded; looking for a GPU would import torch.
        device = self.device if self.device != "auto" or "torch" not in sys.modules else choose_device()
        return _BATCH_ON_CPU if device in {"auto", "cpu"} else _BATCH_ON_GPU

    def _decode_threads(self) -> int:
        if self.decode_threads == "auto":
            return min(os.cpu_count() or 1, _MOST_DECODE_THREADS)
        return self.decode_threads
