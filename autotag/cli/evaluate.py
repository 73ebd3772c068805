"""``autotag evaluate``: which model is best on a data set, and whether that is more than chance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from autotag.cli.options import SOME_FAILED, dataset_options, quiet_option, weights_option
from autotag.cli.tables import echo_table

if TYPE_CHECKING:
    from autotag.evaluation.evaluate import Judges
    from autotag.evaluation.model_runs import TextField

NO_JUDGE = "none"


@click.command(
    epilog="""\b
Exit codes:
  0    every image was judged
  1    some images failed; the report says which
  2    could not run: a bad data set or option, a missing model
  130  interrupted with Ctrl-C"""
)
@click.argument("dataset", metavar="DATASET", type=click.Path(path_type=Path))
@click.argument("more_models", metavar="--models NAME...", nargs=-1)
@click.option(
    "--models",
    "models",
    metavar="NAME...",
    multiple=True,
    required=True,
    help="Presets, TOML files and captioners to compare, such as: mini base blip-large. After DATASET.",
)
@weights_option(
    "Evaluate an ensemble as well: the mean of all models' sentence embeddings with these weights, "
    "in the order of --models."
)
@click.option(
    "--text",
    type=click.Choice(["caption", "prompt"]),
    default="caption",
    show_default=True,
    help="Which text of a model is evaluated.",
)
@click.option(
    "--output",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("evaluation"),
    show_default=True,
    help="The folder for report.html, report.md and report.json.",
)
@click.option(
    "--html/--no-html",
    default=True,
    show_default=True,
    help="Draw report.html, which needs autotag-images[report].",
)
@click.option(
    "--similarity-model",
    metavar="NAME|FOLDER|none",
    default="minilm",
    show_default=True,
    help="The sentence encoder that measures how similar texts are; minilm-mini comes with autotag.",
)
@click.option(
    "--clip-model",
    metavar="NAME|FOLDER|none",
    default=NO_JUDGE,
    show_default=True,
    help="An encoder for CLIPScore, RefCLIPScore and image R@k, such as clip-vit-b-32-openai.",
)
@dataset_options(fewest=1)
@click.option(
    "--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1, mps; by default each preset's own."
)
@click.option("--batch-size", metavar="N", type=click.IntRange(min=1), help="Images at once.")
@quiet_option
@click.pass_context
def evaluate(
    ctx: click.Context,
    dataset: Path,
    more_models: tuple[str, ...],
    *,
    models: tuple[str, ...],
    weights: tuple[float, ...] | None,
    text: Literal["caption", "prompt"],
    output: Path,
    html: bool,
    similarity_model: str,
    clip_model: str,
    images: Path | None,
    skip_missing: bool,
    limit: int | None,
    seed: int,
    device: str | None,
    batch_size: int | None,
    quiet: bool,
) -> None:
    """Compare captioners and presets on images with human captions or tags.

    DATASET is a CSV file (imgId or image, and prompt, caption or tags), a metadata.jsonl, a COCO JSON file,
    Flickr8k's captions.txt, a Parquet file, or a folder of images with .txt files. Prints every figure with
    its 95 % interval, says which models differ significantly, and writes a report.
    """
    from autotag.cli.progress import Reporter
    from autotag.evaluation.datasets import read_dataset
    from autotag.evaluation.ensembles import shares_of
    from autotag.evaluation.evaluate import evaluate as judge
    from autotag.evaluation.model_runs import check_fits, pipelines_of
    from autotag.evaluation.report.report import check_html, write_report
    from autotag.evaluation.report.text import figure_rows, verdicts
    from autotag.writers.one_line import one_line

    if html:
        check_html()
    reporter = Reporter(quiet=quiet)
    pipelines = pipelines_of((*models, *more_models), device=device, batch_size=batch_size)
    shares_of(weights, len(pipelines))
    found = read_dataset(dataset, images=images, skip_missing=skip_missing, limit=limit, seed=seed)
    field: TextField = text
    check_fits(pipelines, found, field)
    with reporter.passing_on_warnings():
        judges = _judges(similarity_model, clip_model, device, texts=found.has_texts)
        with reporter.counting(len(pipelines) * len(found.examples)):
            evaluation = judge(
                found,
                pipelines,
                judges=judges,
                text=field,
                ensemble=weights,
                seed=seed,
                on_image=reporter.advance,
            )
    report = write_report(evaluation, output, html=html)
    echo_table(figure_rows(evaluation))
    click.echo()
    for verdict in verdicts(evaluation):
        click.echo(one_line(verdict))
    click.echo(f"report: {one_line(str(report))}")
    ctx.exit(SOME_FAILED if any(one.run.failed for one in evaluation.judged) else 0)


def _judges(sentences: str, clip: str, device: str | None, *, texts: bool) -> Judges:
    """Return the models that judge; none for a data set of tags."""
    from autotag.evaluation.evaluate import Judges
    from autotag.evaluation.sentence_encoder import load_sentence_encoder
    from autotag.models.pool import ModelPool

    place = device or "auto"
    return Judges(
        load_sentence_encoder(sentences, device=place) if texts and sentences != NO_JUDGE else None,
        ModelPool(device=place).encoder(clip) if texts and clip != NO_JUDGE else None,
        clip,
    )
