"""``autotag tag``: tags images, results on stdout."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

import click

from autotag.cli.inputs import find
from autotag.cli.options import (
    SOME_FAILED,
    deterministic_option,
    device_option,
    follow_symlinks_option,
    language_option,
    moderate_option,
    overwrite_option,
    preset_option,
    quiet_option,
    reading_options,
    set_option,
)
from autotag.cli.signals import like_ctrl_c, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import IO, Any

    from autotag.cli.progress import Reporter
    from autotag.distributed.shards import ShardWriter
    from autotag.images.tar_files import TarImage
    from autotag.pipeline.pipeline import Pipeline
    from autotag.protocols import Writer
    from autotag.records import Result

    Image = str | Path | TarImage
    Take = Callable[[Result], Result]


@click.command(
    epilog="""\b
Exit codes:
  0    every image was tagged
  1    some images failed; their records say why
  2    could not run: a bad option, a missing model, no image found; or the results cannot be written
  130  interrupted with Ctrl-C; what was finished is written
  129  ended by SIGHUP, or 143 by SIGTERM; likewise
  141  the reader of stdout closed it, as `head` does"""
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@preset_option(
    "The preset: mini (comes with autotag), base, large, or a file of your own. See `autotag models`."
)
@set_option("Change an option of a stage, such as filter_tags.top_k=5. May be repeated.")
@device_option
@click.option(
    "--batch-size",
    metavar="N",
    type=click.IntRange(min=1),
    help="Images per model call; by default 16 on a CPU and 64 on a GPU.",
)
@click.option(
    "--format",
    "format_name",
    metavar="table|json|jsonl|csv|parquet|...",
    help="table for people, json for one array, jsonl for one object per line, csv for spreadsheets, "
    "parquet for typed columns, or a plug-in's name; "
    "by default what the suffix of --output says, table for .txt and without one.",
)
@click.option(
    "--output",
    metavar="FILE|FOLDER",
    type=click.Path(path_type=Path),
    help="Write results to a file instead of stdout: jsonl and csv line by line, so that an earlier file is "
    "replaced at the start; other formats at the end. With --shard, the folder of all shards.",
)
@overwrite_option
@click.option(
    "--shard",
    metavar="I/N",
    help="Tag the I-th of N parts of the images, I from 1 to N, one per machine, and write it as Parquet "
    "files into the folder --output. The same command again does what is missing.",
)
@click.option(
    "--retry-errors", is_flag=True, help="With --shard or --engine ray: retry images that failed earlier."
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="ray: tag on a Ray cluster, and write Parquet files into the folder --output, as --shard does.",
)
@click.option(
    "--address",
    metavar="ADDRESS",
    help="The Ray cluster that this machine is part of: auto, or host:port of its head; by default a new one "
    "on this machine.",
)
@click.option(
    "--actors",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="With --engine ray: processes that hold the models.",
)
@click.option(
    "--actor-cpus",
    metavar="N",
    type=click.FloatRange(min=0, min_open=True),
    default=1,
    show_default=True,
    help="With --engine ray: cores per actor.",
)
@click.option(
    "--actor-gpus",
    metavar="N",
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    help="With --engine ray: GPUs per actor; 0.5 shares one.",
)
@language_option
@moderate_option
@click.option("--allow-urls", is_flag=True, help="Fetch PATHs that are http(s) URLs.")
@follow_symlinks_option
@reading_options
@deterministic_option
@click.option("--stats", is_flag=True, help="Print a table of the time per stage on stderr at the end.")
@quiet_option
@click.pass_context
def tag(
    ctx: click.Context,
    paths: tuple[str, ...],
    *,
    preset: str,
    settings: tuple[str, ...],
    device: str | None,
    batch_size: int | None,
    format_name: str | None,
    output: Path | None,
    overwrite: bool,
    shard: str | None,
    retry_errors: bool,
    languages: tuple[str, ...],
    moderate: bool,
    engine: str,
    address: str | None,
    actors: int,
    actor_cpus: float,
    actor_gpus: float,
    allow_urls: bool,
    follow_symlinks: bool,
    allow_truncated: bool | None,
    max_pixels: int | None,
    deterministic: bool | None,
    stats: bool,
    quiet: bool,
) -> None:
    """Tag images: caption, tags best first, prompt.

    PATH is an image, a folder (searched with all its subfolders), a tar file of images such as a shard of
    webdataset, a URL with --allow-urls, or - to read paths from stdin, one per line, or separated by NUL as
    from `find -print0`.

    Results go to stdout, progress and errors to stderr. An image that fails prints one line on stderr and
    has a record with its error in the results.
    """
    from autotag.cli.pipelines import pipeline_of
    from autotag.cli.progress import Reporter

    reporter = Reporter(quiet=quiet)
    make_writer = writer_factory(format_name, None if shard or engine == "ray" else output)
    cluster = _Cluster(address, actors, actor_cpus, actor_gpus) if engine == "ray" else None
    if cluster is None:
        _check_local(ctx)
    shard = shard or ("1/1" if cluster else None)
    _check_shard(shard, format_name, output, retry_errors=retry_errors)
    changes = {
        "device": device,
        "batch_size": batch_size,
        "allow_urls": allow_urls or None,
        "allow_truncated": allow_truncated,
        "max_pixels": max_pixels,
        "deterministic": deterministic,
    }
    with (
        like_ctrl_c(),
        pipeline_of(preset, changes, settings, moderate=moderate, languages=languages) as pipeline,
        reporter.passing_on_warnings(),
        _telling_stats(pipeline, reporter, wanted=stats),
    ):
        images = find(paths, allow_urls=pipeline.allow_urls, follow_symlinks=follow_symlinks, tars=True)
        if output and shard:
            writer = _shard_writer(shard, output, pipeline, paths)
            missing = _missing(writer, images, reporter, retry_errors=retry_errors)
            failures = _complete(writer, missing, pipeline, reporter, cluster) if missing else 0
        else:
            if output:
                check_output(output, images, overwrite=overwrite)
            with reporter.loading():
                pipeline.load()
            results = pipeline.stream(images, on_error="record")
            failures = _write(results, len(images), results_to(output, make_writer), reporter)
    ctx.exit(SOME_FAILED if failures else 0)


@contextmanager
def _telling_stats(pipeline: Pipeline, reporter: Reporter, *, wanted: bool) -> Iterator[None]:
    """Print timings at the end, also after an interruption."""
    from autotag.cli.stats_table import stats_table

    try:
        yield
    finally:
        found = pipeline.stats()
        if wanted and found.seconds:
            reporter.show(stats_table(found))


def writer_factory(format_name: str | None, output: Path | None) -> Callable[[IO[Any]], Writer]:
    """Return a writer factory: by format name, else by the output's suffix; the table for .txt and without.

    Raises:
        UnknownNameError: no writer has the name or suffix; a file of another format would not open as such.
    """
    from autotag.config import registry
    from autotag.errors import UnknownNameError

    suffix = output.suffix.removeprefix(".").lower() if output else ""
    names = registry.names("writer")
    if format_name is None and suffix not in {"", "txt", *names} and not _is_refused_later(output):
        raise UnknownNameError("suffix of --output without --format:", suffix, [*names, "txt"])
    by_default = suffix if suffix in names else "table"
    factory: Callable[[IO[Any]], Writer] = registry.resolve("writer", format_name or by_default)
    return factory


@dataclass(frozen=True, slots=True)
class _Cluster:
    """What the command line says about a Ray cluster."""

    address: str | None
    actors: int
    actor_cpus: float
    actor_gpus: float

    def results(self, images: Sequence[Image], pipeline: Pipeline) -> Iterator[Result]:
        """Connect, and yield the results of images, in any order."""
        from autotag.distributed.ray_data import connect, tag_images
        from autotag.errors import ConfigError
        from autotag.images.tar_files import TarImage

        files = [image for image in images if not isinstance(image, TarImage)]
        if len(files) < len(images):
            raise ConfigError(
                "--engine ray takes files and URLs, not tar files; read these in a program of your own: "
                "tag_dataset(ray.data.read_webdataset(...), ...)."
            )
        connect(self.address)
        return tag_images(
            files,
            pipeline.to_config(),
            actors=self.actors,
            num_cpus=self.actor_cpus,
            num_gpus=self.actor_gpus,
        )


def _check_local(ctx: click.Context) -> None:
    """Refuse options of clusters without a cluster."""
    for name in ("address", "actors", "actor_cpus", "actor_gpus"):
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} needs --engine ray.")


def _check_shard(
    shard: str | None, format_name: str | None, output: Path | None, *, retry_errors: bool
) -> None:
    """Refuse options that cannot be combined."""
    from autotag.config import registry

    if shard is None:
        if retry_errors:
            raise click.UsageError("--retry-errors needs --shard or --engine ray.")
        return
    if output is None:
        raise click.UsageError("--shard and --engine ray need --output, a folder for the files of results.")
    if format_name not in {None, "parquet"}:
        raise click.UsageError(f"--shard and --engine ray write parquet, not {format_name}.")
    if not output.is_dir() and output.suffix.lower().removeprefix(".") in {"txt", *registry.names("writer")}:
        raise click.UsageError(
            f"--output {str(output)!r} has the name of a file; --shard and --engine ray write a folder of "
            "Parquet files, so name a folder."
        )


def _shard_writer(shard: str, folder: Path, pipeline: Pipeline, paths: Sequence[str]) -> ShardWriter:
    from autotag.distributed.shards import Shard, ShardWriter

    return ShardWriter(folder, Shard.parse(shard), config=pipeline.to_config(), paths=paths)


def _missing(
    writer: ShardWriter, images: Sequence[Image], reporter: Reporter, *, retry_errors: bool
) -> Sequence[Image]:
    """Return the images that a shard lacks, and say how many were done before."""
    missing = writer.missing(images, retry_errors=retry_errors)
    if writer.done:
        failed = f", {writer.failed} of them with an error" if writer.failed else ""
        reporter.inform(f"{writer.done} done before{failed}; {len(missing)} to do")
    return missing


def _complete(
    writer: ShardWriter,
    missing: Sequence[Image],
    pipeline: Pipeline,
    reporter: Reporter,
    cluster: _Cluster | None,
) -> int:
    """Tag the images that a shard lacks, here or on a cluster; return how many failed."""
    if cluster is not None:
        return _write(cluster.results(missing, pipeline), len(missing), _results_of_shard(writer), reporter)
    with reporter.loading():
        pipeline.load()
    results = pipeline.stream(missing, on_error="record")
    return _write(results, len(missing), _results_of_shard(writer), reporter)


def _is_refused_later(output: Path | None) -> bool:
    """Return whether ``check_output`` has more to say about an output than that its suffix is unknown."""
    from autotag.images.reading import IMAGE_SUFFIXES

    return output is not None and (
        output.is_dir() or (output.is_file() and output.suffix.lower() in IMAGE_SUFFIXES)
    )


def check_output(output: Path, images: Sequence[Image], *, overwrite: bool) -> None:
    """Refuse, before the models are loaded, an output that cannot be or that would destroy a file."""
    from autotag.errors import ConfigError
    from autotag.images.reading import IMAGE_SUFFIXES
    from autotag.writers.output_file import check_replaceable

    if output.is_dir():
        raise ConfigError(f"--output {str(output)!r} is a folder; name a file.")
    if not output.parent.is_dir():
        raise ConfigError(f"--output {str(output)!r}: there is no folder {str(output.parent)!r}.")
    if not output.is_file():
        return
    is_input = any(isinstance(image, Path) and image.exists() and image.samefile(output) for image in images)
    if is_input or output.suffix.lower() in IMAGE_SUFFIXES:
        raise ConfigError(f"--output {str(output)!r} is an image, which would be overwritten.")
    check_replaceable(output, overwrite=overwrite)


@contextmanager
def results_to(output: Path | None, make_writer: Callable[[IO[Any]], Writer]) -> Iterator[Take]:
    """Open the output, and yield a function that writes one result and returns it.

    Results that are finished are written even if the block is interrupted or fails. A file that could not be
    written as a whole does not replace an earlier one.
    """
    stopped: BaseException | None = None
    done, is_sound = 0, True
    with _output_stream(output, make_writer) as stream:
        writer = make_writer(stream)

        def take(result: Result) -> Result:
            nonlocal done, is_sound
            try:
                with whole():
                    writer.write(result)
            except (OSError, KeyboardInterrupt):
                is_sound = False
                raise
            done += 1
            return result

        try:
            yield take
        except BaseException as error:
            if not (done and is_sound):
                raise
            stopped = error
        writer.close()
    if stopped is not None:
        raise stopped


@contextmanager
def _results_of_shard(writer: ShardWriter) -> Iterator[Take]:
    """Yield a function that writes one result and returns it as it is stored; at the end, write the rest."""

    def take(result: Result) -> Result:
        with whole():
            return writer.write(result)

    try:
        yield take
    finally:
        writer.close()


@contextmanager
def _output_stream(output: Path | None, make_writer: Callable[[IO[Any]], Writer]) -> Iterator[IO[Any]]:
    """Open the output: bytes if the writer needs them, else UTF-8 that accepts any character."""
    from autotag.protocols import is_binary, is_streaming
    from autotag.writers.output_file import naming_failures, open_output

    binary = is_binary(make_writer)
    if output:
        with open_output(output, streams=is_streaming(make_writer), binary=binary) as file:
            yield file
    else:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
        with naming_failures("stdout"):
            yield sys.stdout.buffer if binary else sys.stdout
            sys.stdout.flush()


def _write(
    results: Iterator[Result], total: int, opened: AbstractContextManager[Take], reporter: Reporter
) -> int:
    """Write the results of a stream; return how many failed."""
    started = time.perf_counter()
    done = failures = 0
    with opened as take, reporter.counting(total):
        for result in results:
            with reporter.making_way():
                written = take(result)
            done += 1
            if written.error is not None:
                failures += 1
                reporter.complain(written.error)
            reporter.advance()
    seconds = time.perf_counter() - started
    failed = f", {failures} failed" if failures else ""
    plural = "" if done == 1 else "s"
    reporter.inform(f"{done} image{plural} in {seconds:.1f} s ({done / seconds:.1f} per second){failed}")
    return failures
