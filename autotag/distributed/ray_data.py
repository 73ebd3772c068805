"""Tag a Ray dataset: CPU tasks decode the images, actors with the models tag them.

Needs the extra ``autotag-images[ray]``. Ray runs a pool of actors that load the models once each, restarts
actors that die, and repeats the batches that died with them. Decoding in tasks of their own keeps a GPU busy
that decodes faster than the cores of one process.
"""

from __future__ import annotations

import logging
import os
import socket
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from PIL import Image

from autotag.config.checks import check_count
from autotag.distributed.columns import (
    check_keep,
    check_kept,
    check_version,
    images_of,
    names_of,
    with_kept,
)
from autotag.errors import DISTRIBUTION, ClusterError, ConfigError, ImageReadError, install_hint
from autotag.images.reading import ReadImage, is_url, read_image, source_of
from autotag.pipeline.presets import checked_config, from_config
from autotag.records import Result
from autotag.writers.arrow_rows import arrow, from_table, to_table_with_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from os import PathLike

    from autotag.images.reading import ImageInput
    from autotag.pipeline.pipeline import Pipeline

_LOCAL_SETTINGS = {
    "RAY_worker_niceness": "0",  # Ray's 15 leaves its workers almost no time on a busy machine
    "RAY_worker_register_timeout_seconds": "900",  # else Ray takes slow starts for deaths, and starts more
    "RAY_AUTH_MODE": "disabled",  # a cluster inside this machine has no other users
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),  # else each image is memory that the system clears first,
    "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),  # which takes more time than to copy it
}
_ENCODED_PATH = "encoded_path"
_ENCODED_SOURCE = "encoded_source"
_MOST_ACTORS = 100_000
_PATIENCE = 10.0  # seconds for the head of a cluster to answer
_MOST_ROWS = 65_536
_FREE_CPUS = 1
_CALLS_PER_READER = 1000  # then a fresh process, whatever memory decoders have lost


def connect(address: str | None = None) -> None:
    """Connect to a Ray cluster, or start one on this machine; do nothing if connected.

    Args:
        address: ``"auto"`` for the cluster that this machine is part of, or ``"host:port"`` of its head, if
            there are several; None starts one on this machine, whose workers have normal priority and time to
            start.

    Raises:
        ConfigError: Ray is not installed, the cluster cannot be reached, or the address is of Ray Client
            (``ray://``), in which Ray's datasets do not run.
    """
    if address is not None and address.startswith("ray://"):
        raise ConfigError(
            f"{address!r} is an address of Ray Client, in which Ray's datasets do not run; run this on a "
            "machine of the cluster with the address auto, or send it there with: ray job submit -- ..."
        )
    if address is None:
        for name, value in _LOCAL_SETTINGS.items():
            os.environ.setdefault(name, value)
    ray = _ray()
    if ray.is_initialized():
        return
    _check_reachable(address)
    options = {"address": "local", "include_dashboard": False} if address is None else {"address": address}
    try:
        ray.init(**options, log_to_driver=False, logging_level="warning")
    except Exception as error:  # Ray raises a bare Exception if a node takes more than 30 s to start
        what = "start a Ray cluster on this machine" if address is None else f"connect to Ray at {address!r}"
        hint = "" if address is None else "; without an address, autotag starts a cluster on this machine"
        raise ConfigError(f"cannot {what}: {error}{hint}") from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # it warns that bars are off


def _check_reachable(address: str | None) -> None:
    """Refuse the address of a head that does not answer; Ray itself would try for a quarter of an hour.

    Raises:
        ConfigError: nobody listens there.
    """
    host, _, port = (address or "").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"cannot connect to Ray at {address!r}: {reason}; start its head, or leave the address out: "
            "autotag then starts a cluster on this machine."
        ) from error


def tag_dataset(
    dataset: Any,
    config: Mapping[str, Any] | str,
    *,
    actors: int = 1,
    num_cpus: float = 1,
    num_gpus: float = 0,
    batch_size: int = 64,
    keep: Sequence[str] = (),
    column: str | None = None,
) -> Any:
    """Return a Ray dataset of results, one row per image; it runs when its rows are asked for.

    ::

        tagged = tag_dataset(ray.data.read_parquet("paths"), config, actors=8, num_gpus=1, keep=("id",))
        tagged.write_parquet("tags", min_rows_per_file=1000)

    An image that fails is a row with its error. An actor that dies is started again, and its batches are
    repeated, so that each row is in the result once. One task loads the models first, to learn which size
    the images need. The object store holds decoded images, at most a few hundred kilobytes each. The last
    digit of a score may depend on the batch that an image is in.

    Args:
        dataset: a ``ray.data.Dataset`` with a column ``"path"`` (paths, or URLs if the config allows them),
            ``"bytes"`` (image files), both (then ``"path"`` names the images), or ``"image"``. It is cut into
            blocks of ``batch_size`` rows, because Ray reads many small files, or a large one, as one block,
            which would then go through one task and one actor.
        config: a pipeline's config, see ``autotag.pipeline.presets.to_config``. Folders and weights that it
            names must exist on every machine.
        actors: processes that hold the models.
        num_cpus: cores per actor; PyTorch uses as many threads as this.
        num_gpus: GPUs per actor; less than 1 shares one.
        batch_size: images per task and per call of an actor; of these, the config's ``batch_size`` go through
            the models together.
        keep: columns that stay beside the results, such as ids.
        column: the column of images, if it has another name.

    Returns:
        A dataset with the columns of ``autotag.writers.arrow_rows.schema``, then those of ``keep``.

    Raises:
        ConfigError: the config or an argument is wrong; Ray is not installed or not connected; or the actors
            need more than the cluster has, or would leave no CPU to read images, so that Ray would wait
            forever.
        ModelUnavailableError: weights are not on a worker and cannot be downloaded.
        ClusterError: the worker that loads the models to learn their size died, such as for want of memory.
    """
    _check_batch_size(batch_size)
    blocks = dataset.repartition(target_num_rows_per_block=batch_size)
    return _tagged(
        blocks,
        config,
        actors=actors,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        batch_size=batch_size,
        keep=keep,
        column=column,
    )


def tag_images(
    images: Sequence[str | PathLike[str]],
    config: Mapping[str, Any] | str,
    *,
    actors: int = 1,
    num_cpus: float = 1,
    num_gpus: float = 0,
    batch_size: int = 64,
) -> Iterator[Result]:
    """Yield the results of paths and URLs from the cluster, in any order.

    Paths are made absolute for the workers, which must see the same files; results have them as given.

    Args:
        images: paths, or URLs if the config allows them.
        config: see ``tag_dataset``, also for the other arguments and errors.
        actors: processes that hold the models.
        num_cpus: cores per actor.
        num_gpus: GPUs per actor.
        batch_size: images per call of an actor.

    Raises:
        StageBrokenError: a stage fails on many images in a row.
        ClusterError: Ray ended the job: a worker died, or a disk or memory is full.
    """
    ray = _ray()
    _check_batch_size(batch_size)
    if not images:
        return
    blocks = [_block(images[start : start + batch_size]) for start in range(0, len(images), batch_size)]
    tagged = _tagged(
        ray.data.from_arrow(blocks),
        config,
        actors=actors,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        batch_size=batch_size,
    )
    tagged.context.raise_original_map_exception = True  # else the error of a worker is only text
    try:
        for table in tagged.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from from_table(table)
    except ray.exceptions.RayTaskError as error:
        raise _cause(error) from error
    except ray.exceptions.RayError as error:
        raise ClusterError(f"Ray ended the job: {error}") from error


def _check_batch_size(batch_size: int) -> None:
    """Refuse a batch size that is not a whole number of at least 1; raises what ``check_count`` raises."""
    check_count("batch_size", batch_size, most=_MOST_ROWS)


def _tagged(
    blocks: Any,
    config: Mapping[str, Any] | str,
    *,
    actors: int,
    num_cpus: float,
    num_gpus: float,
    batch_size: int,
    keep: Sequence[str] = (),
    column: str | None = None,
) -> Any:
    """Return a dataset of results; ``blocks`` has at most about ``batch_size`` rows in a block."""
    ray = _ray()
    config = checked_config(config)  # errors are found before it is sent
    check_keep(keep)
    _check_apart(keep)
    check_count("actors", actors, most=_MOST_ACTORS)
    if not ray.is_initialized():
        raise ConfigError(
            "Ray is not connected; call ray.init(...) or autotag.distributed.ray_data.connect()."
        )
    _check_room(ray.cluster_resources(), actors, num_cpus, num_gpus)
    sender = version(DISTRIBUTION)
    size_task = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_calls=1)(_target_size)
    try:
        target_size = ray.get(size_task.remote(sender, config))
    except ray.exceptions.RayTaskError as error:
        raise _cause(error) from error
    except ray.exceptions.RayError as error:
        raise ClusterError(f"Ray could not load the models: {error}") from error
    read = blocks.map_batches(
        _ImageReader(sender, config, target_size, keep, column),
        batch_size=batch_size,
        batch_format="pyarrow",
        num_cpus=1,
        max_calls=_CALLS_PER_READER,  # Ray fuses steps with equal arguments; actors have no such one
    )
    return read.map_batches(
        _ActorTagger,
        fn_constructor_args=(sender, config, tuple(keep)),
        compute=ray.data.ActorPoolStrategy(size=actors),
        batch_size=batch_size,
        batch_format="pyarrow",
        num_cpus=num_cpus,
        num_gpus=num_gpus or None,
    )


def _ray() -> Any:
    """Import and return the module ``ray``, with ``ray.data``.

    Raises:
        ConfigError: Ray is not installed; the message has the command that installs it.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError(f"clusters of Ray need: {install_hint('ray')}") from error
    return ray


def _check_apart(keep: Sequence[str]) -> None:
    """Refuse columns to keep with the names of those between tasks and actors.

    Raises:
        ConfigError: names the column.
    """
    for name in keep:
        if name in _pixel_schema().names:
            raise ConfigError(
                f"autotag itself uses a column {name!r}, so it cannot be kept; rename it first."
            )


def _check_room(there: Mapping[str, float], actors: int, num_cpus: float, num_gpus: float) -> None:
    """Refuse actors for which the cluster is too small; Ray would wait forever, without a message.

    Raises:
        ConfigError: says what the cluster has and what it needs.
    """
    cpus, gpus = there.get("CPU", 0), there.get("GPU", 0)
    if actors * num_cpus > cpus - _FREE_CPUS:
        raise ConfigError(
            f"{actors} actors with {num_cpus:g} CPUs each would leave no CPU to read images: the cluster "
            f"has {cpus:g}, and {actors * num_cpus + _FREE_CPUS:g} are needed. Use fewer actors, smaller "
            "num_cpus, or more machines (a cluster of one machine may have more logical CPUs than cores: "
            "ray.init(num_cpus=...))."
        )
    if actors * num_gpus > gpus:
        raise ConfigError(
            f"{actors} actors with {num_gpus:g} GPUs each need {actors * num_gpus:g} GPUs, but the cluster "
            f"has {gpus:g}. Use fewer actors, or a smaller num_gpus, such as 0.5 to share one."
        )


def _cause(error: Any) -> Exception:
    """Return the error of autotag behind an error of Ray, else Ray's."""
    found: Exception = error.cause if isinstance(error.cause, Exception) else error
    return found


def _target_size(sender: str, config: Mapping[str, Any]) -> int | None:
    """Return the size that images need; runs on a worker, where the weights are."""
    check_version(sender)
    with from_config(config) as pipeline:
        return pipeline.target_size


def _block(images: Sequence[str | PathLike[str]]) -> Any:
    """Return a table of absolute paths and names; bytes, because a file name need not be UTF-8."""
    sources = [source_of(image) for image in images]
    texts = [os.fspath(image) for image in images]
    paths = [text if _is_url(text) else os.path.abspath(text) for text in texts]  # noqa: PTH100
    pa = arrow()
    columns = {_ENCODED_PATH: list(map(_encoded, paths)), _ENCODED_SOURCE: list(map(_encoded, sources))}
    return pa.table(columns, schema=pa.schema([(name, pa.binary()) for name in columns]))


def _is_url(text: str) -> bool:
    return is_url(text) or text.lower().startswith("data:")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


class _ImageReader:
    """Turn a batch of images into a batch of decoded pixels; a task of Ray runs it on one core."""

    def __init__(
        self,
        sender: str,
        config: Mapping[str, Any],
        target_size: int | None,
        keep: Sequence[str],
        column: str | None,
    ) -> None:
        self._sender = sender
        self._config = dict(config)
        self._target_size = target_size
        self._keep = tuple(keep)
        self._column = column

    def __call__(self, batch: Any) -> Any:
        check_version(self._sender)
        check_kept(batch, self._keep)
        settings = from_config(self._config)
        if _ENCODED_PATH in names_of(batch):
            images: list[ImageInput] = [_decoded(path) for path in batch[_ENCODED_PATH].to_pylist()]
            sources = [_decoded(source) for source in batch[_ENCODED_SOURCE].to_pylist()]
        else:
            images = images_of(batch, self._column)
            sources = list(map(source_of, images))
        rows = [self._row(image, name, settings) for image, name in zip(images, sources, strict=True)]
        return with_kept(arrow().Table.from_pylist(rows, schema=_pixel_schema()), batch, self._keep)

    def _row(self, image: ImageInput, source: str, settings: Pipeline) -> dict[str, object]:
        row: dict[str, object] = {_ENCODED_SOURCE: _encoded(source)}
        try:
            read = read_image(
                image,
                source=source,
                target_size=self._target_size,
                allow_urls=settings.allow_urls,
                allow_truncated=settings.allow_truncated,
                max_pixels=settings.max_pixels,
            )
        except ImageReadError as error:
            return {**row, "failure": _encoded(str(error))}
        except MemoryError:
            return {**row, "failure": _encoded(str(ImageReadError(source, "not enough memory for it")))}
        return {
            **row,
            "pixels": read.image.tobytes(),
            "shape": read.image.size,
            "size": read.size,
            "truncated": read.truncated,
        }


def _decoded(encoded: bytes) -> str:
    return encoded.decode("utf-8", "surrogateescape")


def _pixel_schema() -> Any:
    """Return the columns between tasks and actors: RGB pixels, or the reason why an image cannot be read."""
    pa = arrow()
    pair = pa.list_(pa.int32(), 2)
    return pa.schema(
        [
            (_ENCODED_SOURCE, pa.binary()),
            ("pixels", pa.large_binary()),
            ("shape", pair),
            ("size", pair),
            ("truncated", pa.bool_()),
            ("failure", pa.binary()),
        ]
    )


class _ActorTagger:
    """Hold a pipeline in an actor of Ray, and tag batches of pixels."""

    def __init__(self, sender: str, config: Mapping[str, Any], keep: Sequence[str]) -> None:
        check_version(sender)
        self._keep = keep
        self._pipeline = from_config(config)
        self._pipeline.load()

    def __call__(self, batch: Any) -> Any:
        reads = list(map(_read_back, batch.select(_pixel_schema().names).to_pylist()))
        images = [read for read in reads if isinstance(read, ReadImage)]
        tagged = self._pipeline.stream(images, on_error="record")
        results = [next(tagged) if isinstance(read, ReadImage) else read for read in reads]
        next(tagged, None)  # the end of the stream, which says if a stage is broken
        return with_kept(to_table_with_errors(results), batch, self._keep)


def _read_back(row: Mapping[str, Any]) -> ReadImage | Result:
    """Return the image of a row, or the result of one that could not be read."""
    source = _decoded(row[_ENCODED_SOURCE])
    if row["failure"] is not None:
        return Result(source, (0, 0), error=_decoded(row["failure"]))
    image = Image.frombytes("RGB", tuple(row["shape"]), row["pixels"])
    return ReadImage(source, image, (row["size"][0], row["size"][1]), row["truncated"])
