"""``autotag detect``: finds objects, writes their boxes, and draws them."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from autotag.cli.inputs import find
from autotag.cli.options import (
    SOME_FAILED,
    auto_device_option,
    follow_symlinks_option,
    overwrite_option,
    quiet_option,
    reading_options,
)
from autotag.cli.signals import like_ctrl_c

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from autotag.cli.progress import Reporter
    from autotag.pipeline.pipeline import Pipeline
    from autotag.records import Result

    Image = str | Path
    Take = Callable[[Result], object]


@click.command(
    epilog="""\b
Exit codes:
  0    every image was looked at
  1    some images failed; their records say why
  2    could not run: a bad option, a missing model, no image found; or the results cannot be written
  130  interrupted with Ctrl-C; what was finished is written
  129  ended by SIGHUP, or 143 by SIGTERM; likewise"""
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option(
    "--model",
    metavar="NAME|FOLDER",
    default="rtdetr-v2-r18",
    show_default=True,
    help="The detector: objects-mini comes with autotag; see `autotag models`.",
)
@click.option(
    "--label",
    "labels",
    metavar="TEXT",
    multiple=True,
    help="Find only this; may be repeated. objects-mini, owlv2-base and grounding-dino-tiny take any label.",
)
@click.option(
    "--threshold",
    metavar="SCORE",
    type=click.FloatRange(min=0, max=1),
    help="The lowest score that is kept; by default the detector's own.",
)
@click.option(
    "--top-k",
    metavar="N",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Boxes per image.",
)
@click.option(
    "--draw",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Write each picture with its boxes as a JPEG file into this folder.",
)
@click.option(
    "--format",
    "format_name",
    metavar="table|json|jsonl|csv|coco|yolo|...",
    help="table for people, coco for one COCO document, yolo for one text file per image in the "
    "folder --output; by default what the suffix of --output says, table for .txt and without one.",
)
@click.option(
    "--output",
    metavar="FILE|FOLDER",
    type=click.Path(path_type=Path),
    help="Write boxes to a file instead of stdout; for yolo, to a folder.",
)
@overwrite_option
@follow_symlinks_option
@auto_device_option
@reading_options
@quiet_option
@click.pass_context
def detect(
    ctx: click.Context,
    paths: tuple[str, ...],
    *,
    model: str,
    labels: tuple[str, ...],
    threshold: float | None,
    top_k: int,
    draw: Path | None,
    format_name: str | None,
    output: Path | None,
    overwrite: bool,
    follow_symlinks: bool,
    device: str | None,
    allow_truncated: bool | None,
    max_pixels: int | None,
    quiet: bool,
) -> None:
    """Find objects in images: labels, scores and boxes in pixels.

    PATH is an image, a folder (searched with all its subfolders), or - to read paths from stdin. An image
    that is given twice counts once. Photographs are never changed.
    """
    from autotag.cli.progress import Reporter
    from autotag.pipeline.pipeline import Pipeline
    from autotag.stages.detect_objects import DetectObjects

    reporter = Reporter(quiet=quiet)
    stage = DetectObjects(model, labels=labels or None, threshold=threshold, top_k=top_k)
    reading = {"device": device, "allow_truncated": allow_truncated, "max_pixels": max_pixels}
    given = {name: value for name, value in reading.items() if value is not None}
    with (
        like_ctrl_c(),
        Pipeline([stage], **given) as pipeline,  # type: ignore[arg-type]
        reporter.passing_on_warnings(),
    ):
        found = find(paths, allow_urls=None, follow_symlinks=follow_symlinks)
        images = list({os.path.abspath(image): image for image in found}.values())  # noqa: PTH100
        pictures = _pictures(draw, images, overwrite=overwrite) if draw else {}
        with _boxes_to(output, format_name, images, labels, overwrite=overwrite) as take:
            failures = _run(pipeline, pictures, take, reporter, images=images, max_pixels=max_pixels)
    ctx.exit(SOME_FAILED if failures else 0)


@contextmanager
def _boxes_to(
    output: Path | None,
    format_name: str | None,
    images: Sequence[Image],
    labels: Sequence[str],
    *,
    overwrite: bool,
) -> Iterator[Take]:
    """Yield what takes each result, and finish the output at the end, also after an interruption."""
    from autotag.cli.tag import check_output, results_to, writer_factory
    from autotag.writers.yolo_folder import check_names, write_yolo_folder

    if format_name == "yolo":
        if output is None:
            raise click.UsageError("--format yolo needs --output, the folder for its files.")
        if output.exists() and not output.is_dir():
            raise click.UsageError(f"--output {str(output)!r} is a file; --format yolo writes a folder.")
        if output.is_dir() and any(output.iterdir()) and not overwrite:
            raise click.UsageError(f"--output {str(output)!r} is not empty; --overwrite writes into it.")
        check_names(map(str, images))
        _make(output, "--output")
        results: list[Result] = []
        try:
            yield results.append
        finally:
            if results:
                write_yolo_folder(results, output, labels or None)
        return
    make_writer = writer_factory(format_name, output)
    if output:
        check_output(output, images, overwrite=overwrite)
    with results_to(output, make_writer) as take:
        yield take


def _pictures(folder: Path, images: Sequence[Image], *, overwrite: bool) -> dict[str, Path]:
    """Return the file to draw each image into, and make the folder.

    Raises:
        ConfigError: a file would be overwritten, or the folder cannot be made.
    """
    from autotag.errors import ConfigError

    _make(folder, "--draw")
    originals = {Path(image).resolve() for image in images}
    targets: dict[str, Path] = {}
    taken: set[str] = set()
    for image in images:
        stem, number = Path(image).stem, 1
        while f"{stem}.jpg".casefold() in taken:
            number += 1
            stem = f"{Path(image).stem}-{number}"
        taken.add(f"{stem}.jpg".casefold())
        target = folder / f"{stem}.jpg"
        if target.resolve() in originals:
            raise ConfigError(f"--draw would overwrite the image {str(target)!r}; name another folder")
        if target.exists() and not overwrite:
            raise ConfigError(f"--draw: {str(target)!r} exists; --overwrite replaces it")
        targets[str(image)] = target
    return targets


def _make(folder: Path, option: str) -> None:
    """Make a folder, before a model runs.

    Raises:
        ConfigError: it cannot be made.
    """
    from autotag.errors import ConfigError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{option} {str(folder)!r} cannot be made: {error.strerror}") from error


def _run(
    pipeline: Pipeline,
    pictures: dict[str, Path],
    take: Take,
    reporter: Reporter,
    *,
    images: Sequence[Image],
    max_pixels: int | None,
) -> int:
    """Look at the images, write and draw what was found; return how many failed."""
    with reporter.loading():
        pipeline.load()
    failures = 0
    with reporter.counting(len(images)):
        for result in pipeline.stream(images, on_error="record"):
            with reporter.making_way():
                take(result)
            if result.error is not None:
                failures += 1
                reporter.complain(result.error)
            elif result.source in pictures:
                _draw(result, pictures[result.source], max_pixels)
            reporter.advance()
    return failures


def _draw(result: Result, target: Path, max_pixels: int | None) -> None:
    import io

    from autotag.files.replacing import PartFile
    from autotag.images.reading import read_image

    image = read_image(result.source, allow_truncated=True, max_pixels=max_pixels or "auto").image
    encoded = io.BytesIO()
    result.draw(image).save(encoded, "JPEG", quality=90)
    with PartFile(target) as part:
        part.write(encoded.getvalue())
        part.replace()
