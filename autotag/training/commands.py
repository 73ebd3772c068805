"""Commands of ``python -m autotag.training``.

They are not in ``__main__``, because spawned processes do not import a package's ``__main__``.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import click

from autotag.errors import AutotagError

if TYPE_CHECKING:
    from autotag.training.progress import OnStep

Part = Literal["sentence", "features", "encoder", "captioner"]


@dataclass
class _TellLosses:
    """Print the mean losses every ``every`` steps, and append them to a log as lines of JSON.

    Args:
        name: name of the part in training.
        log: the log file.
        every: number of steps between two lines.
    """

    name: str
    log: Path
    every: int = 100
    _started: float = field(init=False, default_factory=time.monotonic)
    _sums: dict[str, float] = field(init=False, default_factory=dict)
    _count: int = field(init=False, default=0)

    def __call__(self, step: int, losses: dict[str, float]) -> None:
        self._count += 1
        for name, loss in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + loss
        if step % self.every:
            return
        means = {name: round(total / self._count, 4) for name, total in self._sums.items()}
        row = {"part": self.name, "step": step, "seconds": round(time.monotonic() - self._started), **means}
        click.echo("  ".join(f"{name} {value}" for name, value in row.items()), err=True)
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        self._sums, self._count = {}, 0


@click.group()
def main() -> None:
    """Train models for autotag."""


@main.command()
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder with the Parquet files that docs/training.md lists.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for minilm-mini, clip-mini and blip-mini.",
)
@click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for features and checkpoints, 6 GB. A run that was killed resumes from there.",
)
@click.option(
    "--teacher",
    default="sentence-transformers/all-MiniLM-L6-v2",
    show_default=True,
    help="Sentence transformer to distil: a hub name or a folder.",
)
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(get_args(Part)),
    help="Make only this part; may be repeated. All by default.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default="one per core"
)
def mini(
    *, data: Path, output: Path, work: Path, teacher: str, parts: tuple[Part, ...], workers: int
) -> None:
    """Train the bundled mini models; takes about an hour and a half on two cores."""
    wanted = parts or get_args(Part)
    work.mkdir(parents=True, exist_ok=True)
    try:
        if "sentence" in wanted:
            _make_sentence_encoder(teacher, output)
        if {"features", "encoder", "captioner"} & set(wanted):
            _make_features(data, work, workers)
        makers = [partial(_make_encoder, data, output, work, teacher)] if "encoder" in wanted else []
        makers += [partial(_make_captioner, data, output, work)] if "captioner" in wanted else []
        _side_by_side(makers, workers)
    except AutotagError as error:
        raise click.ClickException(str(error)) from error


@main.command()
@click.argument("encoder", metavar="FOLDER", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for the vectors, data/label_vectors of the package; its content is replaced.",
)
def labels(encoder: Path, output: Path) -> None:
    """Compute the vectors of the bundled vocabularies with the encoder in FOLDER; takes some seconds."""
    from autotag.models.pool import ModelPool
    from autotag.relevance.label_matrix import NOT_SHIPPED, write_matrix
    from autotag.vocabularies.vocabulary import BUNDLED, Vocabulary

    try:
        model = ModelPool(device="cpu").encoder(str(encoder))
    except AutotagError as error:
        raise click.ClickException(str(error)) from error
    bundled = [Vocabulary.bundled(name) for name in BUNDLED if name not in NOT_SHIPPED]
    written = {write_matrix(model, one.all_names(), output, template=one.template) for one in bundled}
    for old in set(output.glob("*.npy")) - written:
        old.unlink()


def _side_by_side(makers: Sequence[Callable[[], None]], workers: int) -> None:
    """Call each function in its own process with its share of the cores; a single one in this process."""
    from autotag.training.workers import run_each

    run_each(makers, threads=max(1, workers // max(1, len(makers))))


def _make_sentence_encoder(teacher: str, output: Path) -> None:
    from autotag.training import mini

    mini.make_sentence_encoder(mini.read_teacher(teacher), output / "minilm-mini")


def _make_features(data: Path, work: Path, workers: int) -> None:
    from autotag.training import mini

    mini.make_all_features(mini.read_data(data), work, workers=workers, on_step=_say_chunk)


def _say_chunk(step: int, losses: dict[str, float]) -> None:
    del losses
    click.echo(f"features: chunk {step}", err=True)


def _make_encoder(data: Path, output: Path, work: Path, teacher: str) -> None:
    from autotag.training import mini

    photos = mini.read_data(data)
    features = mini.make_all_features(photos, work, workers=1)
    model = mini.read_teacher(teacher)
    plans = mini.EncoderPlans()
    mini.make_encoder(model, photos, features, work, output / "clip-mini", plans=plans, on_step=_told(work))


def _make_captioner(data: Path, output: Path, work: Path) -> None:
    from autotag.training import mini

    photos = mini.read_data(data)
    features = mini.make_all_features(photos, work, workers=1)
    plans = mini.CaptionerPlans()
    mini.make_captioner(photos, features, work, output / "blip-mini", plans=plans, on_step=_told(work))


def _told(work: Path) -> Callable[[str], OnStep]:
    return lambda name: _TellLosses(name, work / "log.jsonl")
