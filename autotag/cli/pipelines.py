"""Pipelines from command-line options, and their results as lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from autotag.cli.inputs import find

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from autotag.cli.progress import Reporter
    from autotag.pipeline.pipeline import Pipeline
    from autotag.records import Result


def pipeline_of(
    preset: str,
    changes: Mapping[str, object],
    settings: Sequence[str],
    *,
    moderate: bool = False,
    languages: Sequence[str] = (),
) -> Pipeline:
    """Return the pipeline of a preset with the changes of the options.

    Args:
        preset: its name, or a TOML file.
        changes: settings of the pipeline; None keeps the preset's value.
        settings: as ``--set`` has them.
        moderate: add the stage ``moderate_images`` if the preset has none.
        languages: name tags in these; empty for the preset's own.

    Raises:
        ConfigError: an option is wrong.
    """
    from autotag.pipeline import presets

    changed = {name: value for name, value in changes.items() if value is not None}
    table = {**presets.read_preset(preset), **changed}
    if moderate:
        table = with_moderation(table)
    overrides = presets.parse_overrides(settings)
    if languages:
        table = presets.with_language(table, languages, overrides)
    return presets.from_config(presets.overridden(table, overrides))


def stages_of_kind(table: Mapping[str, Any], kind: str) -> list[tuple[str, dict[str, Any]]]:
    """Return name and table of each stage of a preset of a registered kind; the name may be its own."""
    from autotag.pipeline import stage_tables

    tables = stage_tables.tables_of(table) if table.get("stages") else []
    return [
        (stage_tables.table_name(one), one) for one in tables if stage_tables.stage_reference(one) == kind
    ]


def with_moderation(table: dict[str, Any]) -> dict[str, Any]:
    """Return a preset's table with the stage ``moderate_images`` at its end, unless a stage moderates.

    Raises:
        ConfigError: the table is wrong.
    """
    from autotag.pipeline import presets

    if any("moderation" in stage.provides for stage in presets.from_config(table).stages):
        return table
    return {**table, "stages": [*table["stages"], {"stage": "moderate_images"}]}


def write_lines(
    pipeline: Pipeline, paths: Sequence[str], reporter: Reporter, line: Callable[[Result], str]
) -> int:
    """Write ``line`` of each result to stdout; return how many images failed."""
    images = find(paths, allow_urls=pipeline.allow_urls)
    with reporter.loading():
        pipeline.load()
    failures = 0
    with reporter.counting(len(images)):
        for result in pipeline.stream(images, on_error="record"):
            if result.error is not None:
                failures += 1
                reporter.complain(result.error)
            with reporter.making_way():
                click.echo(line(result))
            reporter.advance()
    return failures
