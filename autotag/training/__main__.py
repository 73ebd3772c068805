"""``python -m autotag.training``: makes the bundled mini models."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import click

from autotag.errors import AutotagError

Part = Literal["sentence", "encoder", "captioner"]


@dataclass
class _PrintLosses:
    """Prints the mean losses every hundred steps."""

    name: str
    every: int = 100
    started: float = field(default_factory=time.monotonic)
    sums: dict[str, float] = field(default_factory=dict)

    def __call__(self, step: int, losses: dict[str, float]) -> None:
        for name, loss in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + loss / self.every
        if step % self.every == 0:
            shown = "  ".join(f"{name} {loss:.3f}" for name, loss in self.sums.items())
            click.echo(f"{self.name} step {step}  {time.monotonic() - self.started:.0f} s  {shown}", err=True)
            self.sums.clear()


@click.group()
def main() -> None:
    """Train models for autotag."""


@main.command()
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder with flickr8k-train.parquet and tiny-imagenet-train-*.parquet.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for minilm-mini, clip-mini and blip-mini.",
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
    help="Make only this part, from what earlier parts saved; may be repeated. All by default.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default="one per core"
)
def mini(data: Path, output: Path, teacher: str, parts: tuple[Part, ...], workers: int) -> None:
    """Make the bundled mini models, about four hours on two cores."""
    try:
        _make_parts(data, output, teacher, parts or get_args(Part), workers)
    except AutotagError as error:
        raise click.ClickException(str(error)) from error


@main.command()
@click.argument("encoder", metavar="FOLDER", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for the vectors, data/label_vectors of the package; what is in it is replaced.",
)
def labels(encoder: Path, output: Path) -> None:
    """Compute the vectors of the bundled vocabularies by the encoder in FOLDER, some seconds."""
    from autotag.label_matrix import write_matrix
    from autotag.models.pool import ModelPool
    from autotag.vocabulary import BUNDLED, Vocabulary

    try:
        model = ModelPool(device="cpu").encoder(str(encoder))
    except AutotagError as error:
        raise click.ClickException(str(error)) from error
    bundled = [Vocabulary.bundled(name) for name in BUNDLED]
    written = {write_matrix(model, one.all_names(), output, template=one.template) for one in bundled}
    for old in set(output.glob("*.npy")) - written:
        old.unlink()


def _make_parts(data: Path, output: Path, teacher: str, parts: tuple[Part, ...], workers: int) -> None:
    from autotag.training import mini
    from autotag.training.captioner import CaptionPlan, DistillationPlan

    model = mini.read_teacher(teacher) if {"sentence", "encoder"} & set(parts) else None
    photos = mini.read_data(data) if {"encoder", "captioner"} & set(parts) else None
    if model and "sentence" in parts:
        mini.make_sentence_encoder(model, output / "minilm-mini")
    if model and photos and "encoder" in parts:
        mini.make_encoder(
            model,
            *photos,
            output / "clip-mini",
            plans=mini.ENCODER_PLANS,
            on_step=_PrintLosses("encoder"),
            workers=workers,
        )
    if photos and "captioner" in parts:
        mini.make_captioner(
            output / "clip-mini",
            *photos,
            output / "blip-mini",
            distillation=DistillationPlan(),
            plan=CaptionPlan(),
            on_step=_PrintLosses("captioner"),
            workers=workers,
        )


if __name__ == "__main__":
    main()
