"""Figures of models before and after fine-tuning, by the measures of ``autotag.evaluation``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autotag.errors import ConfigError, ImageReadError
from autotag.evaluation.datasets import EvaluationSet, Example
from autotag.evaluation.evaluate import Judges, evaluate
from autotag.evaluation.metrics.retrieval import found_at
from autotag.evaluation.metrics.tag_metrics import mean_average_precision
from autotag.images.reading import read_image
from autotag.pipeline.pipeline import Pipeline
from autotag.protocols import Captioner, ImageTextEncoder, image_size_of
from autotag.stages import CaptionImages
from autotag.vocabularies.templates import PHOTO, filled

Figures = Mapping[str, float]
"""Name of a figure -> its value; higher is better."""

_AT_ONCE = 32
_SAME = 1e-5  # cosines that differ by less are equal: where a vector lies in memory changes its last digits
_DECIDING = ("cider_d", "image_found_at_1", "accuracy", "mean_average_precision")


def deciding(figures: Figures) -> float:
    """Return the figure by which mixtures are ordered: the first one that was measured of ``_DECIDING``."""
    return next(figures[name] for name in _DECIDING if name in figures)


def captioner_figures(captioner: str | Captioner, dataset: EvaluationSet, *, device: str) -> Figures:
    """Return CIDEr-D, ROUGE-L and BLEU-4 of a captioner's captions, written with the defaults of the stage.

    Args:
        captioner: its name or folder, or the captioner.
        dataset: photographs with captions.
        device: where a captioner that is named is loaded.

    Raises:
        ModelUnavailableError: the weights are missing.
    """
    pipeline = Pipeline([CaptionImages(model=captioner)], encoder=None, device=device)
    judged = evaluate(dataset, {"captioner": pipeline}, judges=Judges()).judged[0]
    return {name: figure.value for name, figure in judged.figures.items()}


def encoder_figures(encoder: ImageTextEncoder, dataset: EvaluationSet) -> Figures:
    """Return the figures of an encoder without training on the data set.

    With captions: ``image_found_at_1`` and ``_at_5``, how often a caption's own photograph is among the
    first. With tags, each as "a photo of ...": ``mean_average_precision``, and ``accuracy`` if every
    photograph has one tag.

    Raises:
        ConfigError: no photograph can be read.
    """
    kept, images = _embedded(encoder, dataset.examples)
    figures: dict[str, float] = {}
    if dataset.has_texts:
        owners = np.repeat(np.arange(len(kept)), [len(one.texts) for one in kept])
        cosines = _texts(encoder, [text for one in kept for text in one.texts]) @ images.T
        own = cosines[np.arange(len(owners)), owners]
        ranks = (cosines >= own[:, None] - _SAME).sum(axis=1)
        figures |= {f"image_found_at_{k}": float(found_at(ranks, k).mean()) for k in (1, 5)}
    labels = dataset.labels
    if labels:
        column = {label: number for number, label in enumerate(labels)}
        true = np.zeros((len(kept), len(labels)), dtype=bool)
        for row, one in enumerate(kept):
            true[row, [column[tag.casefold()] for tag in one.tags]] = True
        scores = images @ _texts(encoder, [filled(PHOTO, label) for label in labels]).T
        if (true.sum(axis=1) == 1).all():
            figures["accuracy"] = float(true[np.arange(len(kept)), scores.argmax(axis=1)].mean())
        figures["mean_average_precision"] = float(mean_average_precision(scores, true)[0])
    return figures


def _embedded(
    encoder: ImageTextEncoder, examples: Sequence[Example]
) -> tuple[list[Example], NDArray[np.float32]]:
    """Return the photographs that can be read, and their vectors (N, D) of length 1."""
    kept: list[Example] = []
    vectors: list[NDArray[np.float32]] = []
    for start in range(0, len(examples), _AT_ONCE):
        pairs = list(_read(examples[start : start + _AT_ONCE], image_size_of(encoder)))
        if pairs:
            kept += [one for one, _ in pairs]
            vectors.append(encoder.embed_images([image for _, image in pairs]))
    if not kept:
        raise ConfigError("none of the photographs to judge on can be read")
    return kept, np.concatenate(vectors)


def _read(examples: Sequence[Example], side: int | None) -> Iterator[tuple[Example, Image.Image]]:
    for one in examples:
        try:
            yield one, read_image(one.image, target_size=side, source=one.id).image
        except ImageReadError:
            continue


def _texts(encoder: ImageTextEncoder, texts: Sequence[str]) -> NDArray[np.float32]:
    return np.concatenate(
        [encoder.embed_texts(texts[start : start + 256]) for start in range(0, len(texts), 256)]
    )
