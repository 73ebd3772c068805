"""``autotag explain``: why a photograph has a tag, and where the encoder sees it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from autotag.cli.options import (
    SOME_FAILED,
    device_option,
    preset_option,
    quiet_option,
    reading_options,
    set_option,
)
from autotag.errors import ImageReadError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from PIL import Image

    from autotag.records import Explanation

_CELL = 360
_LINE = 28
_TEXT = 16
_MOST_PICTURES = 6


@click.command(
    epilog="""\b
Exit codes:
  0    the photograph is explained
  1    it cannot be read
  2    could not run: no such file, a bad option, a missing model, an encoder without maps
  130  interrupted with Ctrl-C"""
)
@click.argument("photo", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--tag",
    "tags",
    metavar="WORDS",
    multiple=True,
    help="Explain this tag, also one that the photograph does not get. May be repeated. By default every tag "
    "that it gets.",
)
@click.option(
    "--output",
    metavar="FILE.png",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a picture: the photograph with the places in colour where the encoder sees each tag, of at "
    f"most {_MOST_PICTURES} tags. An existing file is replaced.",
)
@preset_option("The preset whose tags are explained: mini (comes with autotag), base, large, or a file.")
@set_option("Change an option of a stage, such as filter_tags.top_k=3. May be repeated.")
@device_option
@reading_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object per tag, with its map as numbers.")
@quiet_option
@click.pass_context
def explain(
    ctx: click.Context,
    photo: Path,
    *,
    tags: tuple[str, ...],
    output: Path | None,
    preset: str,
    settings: tuple[str, ...],
    device: str | None,
    allow_truncated: bool | None,
    max_pixels: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Say why a photograph has a tag, or has it not, and where the encoder sees it.

    For each tag: the captions that contain it, every score, the lowest score that is kept, and the tags that
    were not kept, with the reason.
    """
    from autotag.cli.pipelines import pipeline_of
    from autotag.cli.progress import Reporter
    from autotag.writers.json_text import plain_json
    from autotag.writers.output_file import open_output

    if any(not tag.strip() for tag in tags):
        raise click.UsageError("--tag is empty; give it a word.")
    if output is not None:
        _check_output(output)
    reporter = Reporter(quiet=quiet)
    changes = {"device": device, "allow_truncated": allow_truncated, "max_pixels": max_pixels}
    with pipeline_of(preset, changes, settings) as pipeline, reporter.passing_on_warnings():
        with reporter.loading():
            pipeline.load()
        try:
            found = pipeline.explain(photo, *tags)
        except ImageReadError as error:
            reporter.complain(str(error))
            ctx.exit(SOME_FAILED)
    if as_json:
        for one in found:
            click.echo(plain_json(one.to_dict()))
    else:
        click.echo("\n".join(_text(found)) if found else "no tag was kept; ask for one with --tag")
    if output is not None and found:
        sheet = _sheet(found[:_MOST_PICTURES])
        with open_output(output, streams=False, binary=True) as stream:
            sheet.save(stream, "PNG")


def _check_output(output: Path) -> None:
    if output.suffix.lower() != ".png":
        raise click.UsageError(f"--output {str(output)!r}: it writes a PNG file; end its name with .png.")
    if not output.parent.is_dir():
        raise click.UsageError(f"--output {str(output)!r}: there is no folder {str(output.parent)!r}.")


def _text(found: Sequence[Explanation]) -> Iterator[str]:
    for one in found:
        yield f"{one.text}: cosine {one.cosine:.3f}"
        yield from (f"  {line}" for line in one.evidence())
    asked = {one.text for one in found}
    lost = [
        other for other in found[0].others if other.dropped_by is not None and other.tag.text not in asked
    ]
    if lost:
        yield "not kept:"
        yield from (f"  {other.tag.text}: {other.dropped_by}: {other.reason}" for other in lost)


def _sheet(found: Sequence[Explanation]) -> Image.Image:
    """Return the pictures side by side, at most three in a row, each with its tag and cosine."""
    from PIL import Image, ImageDraw, ImageOps

    from autotag.records.drawing import cut_to, font_for

    pictures = [ImageOps.contain(one.picture(), (_CELL - 4, _CELL - 4)) for one in found]
    high = max(picture.height for picture in pictures) + 4
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    sheet = Image.new("RGB", (columns * _CELL, rows * (high + _LINE)), "white")
    drawn = ImageDraw.Draw(sheet)
    for number, (one, picture) in enumerate(zip(found, pictures, strict=True)):
        left, top = number % columns * _CELL, number // columns * (high + _LINE)
        sheet.paste(picture, (left + (_CELL - picture.width) // 2, top + 2))
        font, cosine = font_for(one.text, _TEXT), f"  {one.cosine:.2f}"
        text = cut_to(one.text, font, _CELL - 12 - font.getlength(cosine))
        drawn.text((left + 6, top + high + 3), text, fill="black", font=font)
        # On its own: after Arabic, a minus sign would come last.
        after = left + 6 + font.getlength(text), top + high + 3
        drawn.text(after, cosine, fill="black", font=font)
    return sheet
