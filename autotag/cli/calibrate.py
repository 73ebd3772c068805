"""``autotag calibrate``: fits a threshold to an encoder and its tags, on labelled images."""

from __future__ import annotations

from itertools import dropwhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from autotag.cli.options import (
    SOME_FAILED,
    dataset_options,
    device_option,
    preset_option,
    quiet_option,
    set_option,
)

if TYPE_CHECKING:
    from autotag.evaluation.calibration import Calibration, HeldOut
    from autotag.evaluation.datasets import EvaluationSet

_HEADER = "Made by autotag calibrate."


@click.command(
    epilog="""\b
Exit codes:
  0    the cut is fitted and written
  1    fitted and written, but some images failed and were left out
  2    could not run: a bad data set or option, a missing model
  130  interrupted with Ctrl-C"""
)
@click.argument("dataset", metavar="DATASET", type=click.Path(path_type=Path))
@preset_option()
@click.option("--encoder", metavar="NAME|FOLDER", help="Use this encoder instead of the preset's.")
@set_option("Change an option of a stage. May be repeated.")
@click.option(
    "--score",
    type=click.Choice(["cosine", "standardised"]),
    help="The score to cut; by default the score that the preset cuts.",
)
@click.option(
    "--precision",
    metavar="SHARE",
    type=click.FloatRange(0, 1, min_open=True),
    help="Keep as many tags as possible at this precision; by default the cut has the highest F1.",
)
@click.option(
    "--output",
    metavar="FILE.toml",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("calibrated.toml"),
    show_default=True,
    help="The preset file to write, for --preset of any command.",
)
@click.option("--overwrite", is_flag=True, help="Replace the output file if it exists.")
@dataset_options(fewest=2)
@device_option
@quiet_option
@click.pass_context
def calibrate(
    ctx: click.Context,
    dataset: Path,
    *,
    preset: str,
    encoder: str | None,
    settings: tuple[str, ...],
    score: Literal["cosine", "standardised"] | None,
    precision: float | None,
    output: Path,
    overwrite: bool,
    images: Path | None,
    skip_missing: bool,
    limit: int | None,
    seed: int,
    device: str | None,
    quiet: bool,
) -> None:
    """Fit the threshold of filter_tags to images with human captions or tags, and measure it.

    DATASET is as for evaluate: captions, or tags. The cut is fitted to half of the images and measured on
    the others. With captions, the preset proposes the tags; a tag is right if a caption has all its words.
    With tags, every label of the set is proposed for every image. Writes a preset with the score and the cut,
    which are valid for its encoder only. To use it: autotag tag --preset calibrated.toml.
    """
    from autotag.cli.progress import Reporter
    from autotag.errors import ConfigError
    from autotag.evaluation.calibration import calibrate as fit
    from autotag.evaluation.datasets import read_dataset
    from autotag.files.toml_text import toml_text
    from autotag.pipeline.presets import preset_text
    from autotag.writers.one_line import one_line
    from autotag.writers.output_file import open_output

    if output.exists() and not overwrite:
        raise ConfigError(f"{str(output)!r} exists already; name another --output, or use --overwrite.")
    reporter = Reporter(quiet=quiet)
    table = _table(preset, encoder, settings)
    found = read_dataset(dataset, images=images, skip_missing=skip_missing, limit=limit, seed=seed)
    with reporter.passing_on_warnings(), reporter.counting(len(found.examples)):
        calibration = fit(
            found,
            table,
            score=score,
            wanted_precision=precision,
            device=device,
            seed=seed,
            on_image=reporter.advance,
        )
    lines = _report(calibration, found)
    text = toml_text(calibration.config, over=_without_header(preset_text(preset)))
    with open_output(output, streams=False) as stream:
        stream.write("".join(f"# {one_line(line)}\n" for line in (_HEADER, *lines)))
        stream.write(f"\n{text}")
    for line in lines:
        click.echo(one_line(line))
    click.echo(f"written: {one_line(str(output))}")
    ctx.exit(SOME_FAILED if calibration.failed else 0)


def _table(preset: str, encoder: str | None, settings: tuple[str, ...]) -> dict[str, Any]:
    """Return the preset's table with the changes of the options."""
    from autotag.pipeline import presets

    changed = {"encoder": _lasting(encoder)} if encoder else {}
    return presets.overridden({**presets.read_preset(preset), **changed}, presets.parse_overrides(settings))


def _without_header(text: str) -> str:
    """Return a preset without the figures that an earlier ``calibrate`` wrote at its top."""
    if not text.startswith(f"# {_HEADER}"):
        return text
    lines = text.splitlines(keepends=True)
    return "".join(dropwhile(lambda line: line.startswith("#"), lines)).lstrip("\n")


def _lasting(encoder: str) -> str:
    """Return an encoder's name, with folders absolute so that the preset works from anywhere."""
    from autotag.models.cards import find_card

    folder = Path(encoder).expanduser()
    return str(folder.resolve()) if find_card(encoder, "encoder") is None and folder.is_dir() else encoder


def _report(calibration: Calibration, found: EvaluationSet) -> list[str]:
    """Return the lines of the report: what was fitted, on what, and how good it is."""
    failed = f"; {calibration.failed} failed" if calibration.failed else ""
    figures = [
        f"  {name.replace('_', ' ')} {_figure(figure)}" for name, figure in calibration.figures.items()
    ]
    return [
        f"{calibration.score} threshold {calibration.threshold:g} for encoder {calibration.encoder}",
        f"fitted to {calibration.fitted_on} images of {found.name}{failed}",
        f"on {calibration.judged_on} other images, with 95 % intervals:",
        *figures,
    ]


def _figure(figure: HeldOut) -> str:
    if figure.interval is None:
        return f"{figure.value:.3f} (one image: no interval)"
    return f"{figure.value:.3f} ({figure.interval.low:.3f} to {figure.interval.high:.3f})"
