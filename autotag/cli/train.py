"""``autotag train``: fine-tunes a captioner or an encoder on photographs of one's own."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autotag.cli.options import dataset_options, quiet_option
from autotag.cli.tables import echo_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from autotag.cli.progress import Reporter
    from autotag.training.fine_tuning.fine_tune import FineTuned, Mixture

_PLAN = (
    "epochs",
    "steps",
    "batch_size",
    "accumulate",
    "learning_rate",
    "precision",
    "gradient_checkpointing",
    "device",
    "held_out",
    "rehearse",
    "share",
    "may_lose",
    "workers",
    "checkpoint_every",
    "seed",
)
"""The options that are settings of a ``FineTuningPlan``, under the same names."""

_EXIT_CODES = """\b
Exit codes:
  0    the model is written
  2    could not run: bad data or option, a missing model, or nothing gained
  130  interrupted with Ctrl-C; the same command goes on from the last saved state"""


def _training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what both kinds of training have in common."""
    options = (
        click.argument("dataset", metavar="DATA", type=click.Path(path_type=Path)),
        click.option("--from", "base", metavar="NAME|FOLDER", required=True, help="The model to begin with."),
        click.option(
            "--output",
            metavar="FOLDER",
            type=click.Path(path_type=Path),
            required=True,
            help="The folder to write; it holds the state of a run that was killed, too.",
        ),
        click.option(
            "--keep",
            metavar="DATA",
            multiple=True,
            type=click.Path(path_type=Path),
            help="Photographs of other kinds, on which the model must not get worse. May be repeated.",
        ),
        click.option(
            "--rehearse",
            metavar="X",
            type=click.FloatRange(min=0, max=0.75),
            default=0.25,
            show_default=True,
            help="Share of each batch from the photographs of --keep; 0 only judges by them.",
        ),
        click.option(
            "--may-lose",
            metavar="X",
            type=click.FloatRange(min=0),
            default=0.01,
            show_default=True,
            help="How much any figure on the photographs of --keep may fall.",
        ),
        click.option(
            "--share",
            metavar="X",
            type=click.FloatRange(min=0, max=1, min_open=True),
            help="Keep this share of the learned change, instead of choosing it by --keep.",
        ),
        click.option(
            "--epochs",
            metavar="N",
            type=click.IntRange(min=1),
            default=5,
            show_default=True,
            help="Passes over the photographs.",
        ),
        click.option(
            "--steps", metavar="N", type=click.IntRange(min=1), help="Updates, instead of --epochs."
        ),
        click.option("--batch-size", metavar="N", type=click.IntRange(min=1), default=16, show_default=True),
        click.option(
            "--accumulate",
            metavar="N",
            type=click.IntRange(min=1),
            default=1,
            show_default=True,
            help="Batches per update.",
        ),
        click.option(
            "--learning-rate",
            metavar="X",
            type=click.FloatRange(min=0, min_open=True),
            help="Peak learning rate. [default: 2e-4 for captioners, 1e-5 for encoders]",
        ),
        click.option(
            "--precision",
            type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
            default="auto",
            show_default=True,
            help="Of the forward pass.",
        ),
        click.option("--gradient-checkpointing", is_flag=True, help="Less memory, more time."),
        click.option(
            "--held-out",
            metavar="X",
            type=click.FloatRange(min=0, max=0.5, min_open=True),
            default=0.1,
            show_default=True,
            help="Share of the photographs to judge on, not to train on.",
        ),
        click.option(
            "--workers",
            metavar="N",
            type=click.IntRange(min=1),
            default=2,
            show_default=True,
            help="Threads that read photographs.",
        ),
        click.option(
            "--checkpoint-every",
            metavar="SECONDS",
            type=click.FloatRange(min=0),
            default=120,
            show_default=True,
            help="How often the state is saved.",
        ),
        click.option(
            "--device",
            metavar="DEVICE",
            default="auto",
            show_default=True,
            help="auto, cpu, cuda, cuda:1, mps.",
        ),
        dataset_options(fewest=20),
        quiet_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def train() -> None:
    """Fine-tune a captioner or an encoder on your own photographs."""


@train.command(epilog=_EXIT_CODES)
@_training_options
@click.option(
    "--rank",
    metavar="N",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Of the LoRA adapters.",
)
@click.option("--freeze-images", is_flag=True, help="Adapt the language model only, not the image tower.")
def captioner(*, rank: int, freeze_images: bool, **options: Any) -> None:
    """Fine-tune BLIP, BLIP-2, GIT or Florence-2 by LoRA on captions.

    DATA is a CSV, JSONL, COCO JSON or Parquet file, Flickr8k's captions.txt, or a folder of images with
    metadata.jsonl or .txt files. The written folder is a captioner for every command and preset.
    """
    from autotag.training.fine_tuning import Lora, fine_tune_captioner

    _run(partial(fine_tune_captioner, lora=Lora(rank=rank, images=not freeze_images)), options)


@train.command(epilog=_EXIT_CODES)
@_training_options
def encoder(**options: Any) -> None:
    """Fine-tune a CLIP or SigLIP on captions or tags, and mix it with the old one (WiSE-FT).

    DATA is a CSV, JSONL, COCO JSON or Parquet file, Flickr8k's captions.txt, or a folder of images with
    metadata.jsonl or .txt files. The written folder is an encoder for every command and preset.
    """
    from autotag.training.fine_tuning import fine_tune_encoder

    _run(fine_tune_encoder, options)


def _run(fine_tune: Callable[..., FineTuned], options: dict[str, Any]) -> None:
    """Check the output folder, read the data, fine-tune, and print the figures before and after."""
    from autotag.cli.progress import Reporter
    from autotag.evaluation.datasets import read_dataset
    from autotag.training.fine_tuning.plan import FineTuningPlan
    from autotag.training.fine_tuning.run_folder import check_output
    from autotag.writers.one_line import one_line

    check_output(options["output"])
    reporter = Reporter(quiet=options["quiet"])
    plan = FineTuningPlan(**{name: options[name] for name in _PLAN})
    with reporter.passing_on_warnings():
        dataset = read_dataset(
            options["dataset"],
            images=options["images"],
            skip_missing=options["skip_missing"],
            limit=options["limit"],
            seed=options["seed"],
        )
        keep = [read_dataset(place, skip_missing=options["skip_missing"]) for place in options["keep"]]

        def on_share(mixture: Mixture) -> None:
            reporter.inform(f"share {mixture.share:g} of the change: {_figures(mixture)}")

        done = fine_tune(
            dataset,
            options["base"],
            options["output"],
            plan=plan,
            keep=keep,
            on_step=_Steps(reporter),
            on_share=on_share,
        )
    echo_table(_rows(done))
    click.echo(f"share of the learned change: {done.share:g}")
    click.echo(f"model: {one_line(str(done.folder))}")


def _figures(mixture: Mixture) -> str:
    return ", ".join(
        f"{name} {figure} {value:.3f}"
        for name, figures in mixture.figures.items()
        for figure, value in figures.items()
    )


class _Steps:
    """Tell every tenth part of the training, and its first step, on stderr."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._is_first = True

    def __call__(self, step: int, steps: int, loss: float) -> None:
        if self._is_first or step == steps or step % max(1, steps // 10) == 0:
            self._reporter.inform(f"step {step} of {steps}: loss {loss:.4f}")
        self._is_first = False


def _rows(done: FineTuned) -> list[list[str]]:
    """Return the lines of the table of figures."""
    rows = [["photographs", "figure", "before", "after"]]
    for name, figures in done.before.items():
        rows += [
            [name, figure, f"{value:.3f}", f"{done.after[name][figure]:.3f}"]
            for figure, value in figures.items()
        ]
    return rows
