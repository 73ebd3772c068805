"""``autotag submission``: the file for Kaggle's "Stable Diffusion - Image to Prompts"."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from autotag.cli.options import device_option, overwrite_option, quiet_option, weights_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from autotag.cli.progress import Reporter
    from autotag.evaluation.datasets import EvaluationSet
    from autotag.evaluation.model_runs import ModelRun, TextField
    from autotag.pipeline.pipeline import Pipeline


@click.command(
    epilog="""\b
Exit codes:
  0    the submission is written and was read back
  2    nothing is written: a bad option, a missing model, an image that cannot be read
  130  interrupted with Ctrl-C"""
)
@click.argument("paths", metavar="DATASET...", nargs=-1, required=True)
@click.option(
    "--model",
    "models",
    metavar="NAME|FILE.toml",
    multiple=True,
    default=("base",),
    show_default=True,
    help="The preset or captioner that describes the images. May be repeated: then the mean is submitted.",
)
@weights_option("Weights of the models in that mean, in their order; by default equal.")
@click.option(
    "--text",
    type=click.Choice(["caption", "prompt"]),
    default="caption",
    show_default=True,
    help="Which text of the model is embedded.",
)
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("submission.csv"),
    show_default=True,
    help="The file to write.",
)
@overwrite_option
@click.option(
    "--similarity-model",
    metavar="NAME|FOLDER",
    default="minilm",
    show_default=True,
    help="The sentence encoder; the competition asks for all-MiniLM-L6-v2, which is minilm.",
)
@device_option
@click.option("--batch-size", metavar="N", type=click.IntRange(min=1), help="Images at once.")
@quiet_option
def submission(
    paths: tuple[str, ...],
    *,
    models: tuple[str, ...],
    weights: tuple[float, ...] | None,
    text: Literal["caption", "prompt"],
    output: Path,
    overwrite: bool,
    similarity_model: str,
    device: str | None,
    batch_size: int | None,
    quiet: bool,
) -> None:
    """Write a submission for Kaggle's "Stable Diffusion - Image to Prompts".

    DATASET is a folder of images or an image; an image's id is its file name without the suffix. The file
    has the columns imgId_eId and val and 384 rows per image: the sentence embedding of the model's text, or
    the weighted mean of several models' embeddings, of length 1, as float32 with nine significant digits.
    The file is read back and compared before this command reports success.
    """
    from autotag.cli.inputs import find
    from autotag.cli.progress import Reporter
    from autotag.evaluation.datasets import EvaluationSet, Example
    from autotag.evaluation.ensembles import shares_of
    from autotag.evaluation.model_runs import check_text, pipelines_of
    from autotag.evaluation.submission import (
        check_ids,
        image_id,
        load_submission_encoder,
        submitted_vectors,
        write_submission,
    )
    from autotag.writers.one_line import one_line
    from autotag.writers.output_file import check_replaceable

    reporter = Reporter(quiet=quiet)
    check_replaceable(output, overwrite=overwrite)
    pipelines = pipelines_of(models, device=device, batch_size=batch_size)
    shares = shares_of(weights, len(pipelines))
    field: TextField = text
    for name, pipeline in pipelines.items():
        check_text(name, pipeline, field)
    images = tuple(map(Path, find(paths, allow_urls=None)))
    ids = [image_id(str(image)) for image in images]
    check_ids(ids)
    with reporter.passing_on_warnings():
        encoder = load_submission_encoder(similarity_model, device=device or "auto")
        examples = tuple(Example(name, image) for name, image in zip(ids, images, strict=True))
        runs = _runs(pipelines, EvaluationSet("images", examples), field, reporter)
        vectors = submitted_vectors([run.texts for run in runs], encoder, shares)
    write_submission(dict(zip(ids, vectors, strict=True)), output)
    for run in runs:
        if run.empty:
            reporter.inform(f"{run.name} wrote no text for {run.empty} images")
    click.echo(f"{one_line(str(output))}: {len(ids)} images, {vectors.size} rows, read back and equal")


def _runs(
    pipelines: Mapping[str, Pipeline], dataset: EvaluationSet, text: TextField, reporter: Reporter
) -> list[ModelRun]:
    """Run each model on every image and return the texts.

    Raises:
        ConfigError: an image failed; a submission needs all of them.
    """
    from autotag.errors import ConfigError
    from autotag.evaluation.model_runs import run_model

    runs = []
    with reporter.counting(len(pipelines) * len(dataset.examples)):
        for name, pipeline in pipelines.items():
            run = run_model(name, pipeline, dataset, text=text, on_image=reporter.advance)
            for error in filter(None, run.errors):
                reporter.complain(error)
            if run.failed:
                raise ConfigError(
                    f"{run.failed} of {len(run.texts)} images failed. A submission needs every image, "
                    "so nothing is written."
                )
            runs.append(run)
    return runs
