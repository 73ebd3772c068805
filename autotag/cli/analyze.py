"""``autotag analyze``: which medium, artist, movement, site and flavors an image looks like."""

from __future__ import annotations

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

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from autotag.pipeline.pipeline import Pipeline
    from autotag.records import Result


@click.command(
    epilog="""\b
Exit codes:
  0    every image was analyzed
  1    some images failed
  2    could not run: a bad option, a missing model, no image found
  130  interrupted with Ctrl-C"""
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@preset_option(
    "The preset that gives the encoder and, if it has one, the rank_labels stage: artwork, mini, base, "
    "large, or a file.",
    default="artwork",
)
@set_option("Change an option of rank_labels, such as rank_labels.living_artists=false. May be repeated.")
@click.option(
    "--top", metavar="N", type=click.IntRange(min=1), help="Number of labels per vocabulary; by default 5."
)
@device_option
@reading_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line instead of text for people.")
@quiet_option
@click.pass_context
def analyze(
    ctx: click.Context,
    paths: tuple[str, ...],
    *,
    preset: str,
    settings: tuple[str, ...],
    top: int | None,
    device: str | None,
    allow_truncated: bool | None,
    max_pixels: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Say which mediums, artists, movements, sites and flavors each image looks like.

    PATH is an image, a folder (searched with all its subfolders), or - to read paths from stdin. Each label
    comes with its cosine similarity to the image, best first.
    """
    from autotag.cli.pipelines import write_lines
    from autotag.cli.progress import Reporter

    reporter = Reporter(quiet=quiet)
    changes = {"device": device, "allow_truncated": allow_truncated, "max_pixels": max_pixels}
    with _analyzer(preset, changes, settings, top) as pipeline, reporter.passing_on_warnings():
        failures = write_lines(pipeline, paths, reporter, _json if as_json else _text)
    ctx.exit(SOME_FAILED if failures else 0)


def _analyzer(
    preset: str, changes: Mapping[str, object], settings: Sequence[str], top: int | None
) -> Pipeline:
    """Return a preset's ``rank_labels`` stages, or a default one with the preset's encoder."""
    from autotag.cli.pipelines import stages_of_kind
    from autotag.pipeline import presets

    given = {name: value for name, value in changes.items() if value is not None}
    table = {**presets.read_preset(preset), **given}
    stages = stages_of_kind(table, "rank_labels") or [("rank_labels", {"stage": "rank_labels"})]
    table["stages"] = [one for _, one in stages]
    if top is not None:
        settings = [*settings, *(f"{name}.top_k={top}" for name, _ in stages)]
    return presets.from_config(presets.overridden(table, presets.parse_overrides(settings)))


def _json(result: Result) -> str:
    from autotag.writers.json_text import plain_json

    rankings = {
        name: [{"label": tag.text, "score": round(tag.score, 4)} for tag in tags]
        for name, tags in result.rankings.items()
    }
    row = {"source": result.source, "rankings": rankings, "error": result.error}
    return plain_json(row)


def _text(result: Result) -> str:
    from autotag.writers.one_line import one_line

    lines = [one_line(result.source)]
    for name, tags in result.rankings.items():
        lines.append(f"  {name}")
        lines += [f"    {tag.score:.3f}  {one_line(tag.text)}" for tag in tags]
    return "\n".join(lines)
