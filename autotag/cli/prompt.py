"""``autotag prompt``: a prompt per image, one line each."""

from __future__ import annotations

from dataclasses import replace
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

MODES = ("best", "fast", "classic", "negative", "caption", "plain")


@click.command(
    epilog="""\b
Exit codes:
  0    every image has its prompt
  1    some images failed; their lines are empty
  2    could not run: a bad option, a missing model, no image found
  130  interrupted with Ctrl-C"""
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option(
    "--mode",
    type=click.Choice(MODES),
    help="best, fast, classic, negative, caption or plain; by default the preset's own.",
)
@preset_option(
    "The preset: artwork, mini (comes with autotag), base, large, or a file of your own.", default="artwork"
)
@set_option("Change an option of a stage, such as assemble_prompt.candidates=512. May be repeated.")
@device_option
@reading_options
@quiet_option
@click.pass_context
def prompt(
    ctx: click.Context,
    paths: tuple[str, ...],
    *,
    mode: str | None,
    preset: str,
    settings: tuple[str, ...],
    device: str | None,
    allow_truncated: bool | None,
    max_pixels: int | None,
    quiet: bool,
) -> None:
    """Write the prompt behind each image.

    PATH is an image, a folder (searched with all its subfolders), or - to read paths from stdin.

    One prompt per line goes to stdout, in the order of the images; progress and errors go to stderr. Stages
    that the prompt does not need are skipped.
    """
    from autotag.cli.pipelines import write_lines
    from autotag.cli.progress import Reporter
    from autotag.writers.one_line import one_line

    reporter = Reporter(quiet=quiet)
    changes = {"device": device, "allow_truncated": allow_truncated, "max_pixels": max_pixels}
    with _prompter(preset, changes, settings, mode) as pipeline, reporter.passing_on_warnings():
        failures = write_lines(pipeline, paths, reporter, lambda result: one_line(result.prompt))
    ctx.exit(SOME_FAILED if failures else 0)


def _prompter(
    preset: str, changes: Mapping[str, object], settings: Sequence[str], mode: str | None
) -> Pipeline:
    """Return a preset's pipeline, reduced to the stages that the prompt needs.

    Raises:
        ConfigError: no stage of the preset makes a prompt, or has modes.
    """
    from autotag.cli.pipelines import pipeline_of, stages_of_kind
    from autotag.errors import ConfigError
    from autotag.pipeline.presets import read_preset
    from autotag.pipeline.wiring import needed_for

    if mode is not None:
        found = stages_of_kind(read_preset(preset), "assemble_prompt")
        if not found:
            raise ConfigError(f"preset {preset!r} has no stage assemble_prompt, which --mode is for.")
        settings = [*settings, *(f"{name}.mode={mode}" for name, _ in found)]
    pipeline = pipeline_of(preset, changes, settings)
    stages = needed_for("prompt", pipeline.stages)
    if not stages:
        raise ConfigError(f"preset {preset!r} has no stage that makes a prompt; add assemble_prompt.")
    return replace(pipeline, stages=stages)
