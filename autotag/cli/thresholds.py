"""``autotag thresholds``: shows what each threshold would keep, and writes nothing."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from autotag.cli.options import (
    device_option,
    preset_option,
    reading_options,
    set_option,
    table_or_json_option,
)
from autotag.cli.tables import echo_table

if TYPE_CHECKING:
    from autotag.albums.thresholds import Cut, Thresholds

_HEADINGS = ("threshold", "tags", "per photo", "photos with tags", "lowest tags kept")


@click.command()
@click.argument("sources", metavar="FOLDER...", nargs=-1, required=True)
@preset_option()
@set_option("Change an option of a stage. May be repeated.")
@device_option
@click.option(
    "--sample", metavar="N", type=click.IntRange(min=1), default=200, show_default=True, help="Photographs."
)
@click.option(
    "--at",
    "thresholds",
    metavar="SCORE",
    type=float,
    multiple=True,
    help="A cut to try. May be repeated; by default ten cuts that divide the tags evenly.",
)
@click.option("--include", metavar="GLOB", multiple=True, help="Only files that match, by name or path.")
@click.option("--exclude", metavar="GLOB", multiple=True, help="Leave out files and folders that match.")
@reading_options
@table_or_json_option
def thresholds(
    sources: tuple[str, ...],
    *,
    preset: str,
    settings: tuple[str, ...],
    device: str | None,
    sample: int,
    thresholds: tuple[float, ...],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    allow_truncated: bool | None,
    max_pixels: int | None,
    format_name: Literal["table", "json"],
) -> None:
    """Show how many tags and photographs each cut of the scores would leave, on a sample of an album.

    For this, filter_tags of the preset keeps every tag, unless --set changes it. Nothing is written.
    """
    from autotag.albums.thresholds import try_thresholds
    from autotag.cli.inputs import given
    from autotag.cli.pipelines import pipeline_of
    from autotag.cli.progress import Reporter
    from autotag.writers.json_text import plain_json

    open_cut = _without_cut(preset, settings)
    reporter = Reporter(quiet=False)
    changes = {"device": device, "allow_truncated": allow_truncated, "max_pixels": max_pixels}
    with (
        pipeline_of(preset, changes, [*open_cut, *settings]) as pipeline,
        reporter.passing_on_warnings(),
    ):
        found = try_thresholds(
            list(given(sources)),
            pipeline=pipeline,
            sample=sample,
            thresholds=thresholds,
            include=include,
            exclude=exclude,
        )
    if format_name == "json":
        click.echo(plain_json(asdict(found), indent=2))
    else:
        _show(found)


def _without_cut(preset: str, settings: tuple[str, ...]) -> list[str]:
    """Return settings that turn off the preset's own thresholds unless the user set them."""
    from autotag.cli.pipelines import stages_of_kind
    from autotag.pipeline import presets
    from autotag.relevance.scores import LOWEST, score_for

    overrides = presets.parse_overrides(settings)
    found = []
    for name, table in stages_of_kind(presets.read_preset(preset), "filter_tags"):
        changes = overrides.get(name, {})
        if changes is False or "threshold" in changes:
            continue
        given = {key: value for key, value in {**table, **changes}.items() if value != "none"}
        score = score_for(given.get("score"), given.get("threshold"))
        if score in LOWEST:
            found += [f"{name}.score={score}", f"{name}.threshold={LOWEST[score]}"]
    return found


def _show(found: Thresholds) -> None:
    failed = f", {found.failed} could not be read" if found.failed else ""
    click.echo(f"{found.photos} photographs{failed}\n")
    echo_table([_HEADINGS, *map(_cells, found.cuts)], right=range(4))


def _cells(cut: Cut) -> tuple[str, ...]:
    examples = ", ".join(f"{text} ({Path(name).name})" for text, name in cut.examples)
    return f"{cut.threshold:.3f}", str(cut.tags), f"{cut.per_photo:.1f}", str(cut.photos), examples
