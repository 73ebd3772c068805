"""Fits the threshold of ``filter_tags`` to images with human captions or labels, and tests it on others.

The best threshold depends on the images and tags, and for raw cosines also on the encoder. A random half of
the images is used to fit the threshold, the other half to measure how good it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from autotag.errors import ConfigError
from autotag.evaluation.metrics.caption_words import content_words, is_said
from autotag.evaluation.metrics.measures import (
    Interval,
    Measure,
    bootstrap_interval,
    mean_measure,
    sum_measure,
)
from autotag.evaluation.metrics.tag_metrics import f1, precision, recall
from autotag.pipeline import presets, stage_tables
from autotag.pipeline.pipeline import DEFAULT_ENCODER
from autotag.relevance.scores import LOWEST, score_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from autotag.evaluation.datasets import EvaluationSet, Example
    from autotag.pipeline.pipeline import Pipeline
    from autotag.records import Result
    from autotag.relevance.scores import Score

FEWEST_TAGS = 20
"""With fewer kept tags than this, the precision of a threshold is too uncertain."""

_DIGITS = 4
_FILTER = "filter_tags"


@dataclass(frozen=True, eq=False, slots=True)
class Proposals:
    """The tags that a pipeline proposes for one image, before any threshold.

    Attributes:
        scores: (T,) float64, the scores of the tags, best first.
        right: (T,) bool, whether each tag is right.
    """

    scores: NDArray[np.float64]
    right: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A figure measured on the held-out images.

    Attributes:
        value: the figure.
        interval: its 95 % bootstrap interval; None for a single image.
    """

    value: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted threshold and its figures.

    Attributes:
        score: the score type that the threshold applies to.
        threshold: the fitted threshold.
        encoder: the encoder that it was fitted for, as the config names it.
        fitted_on: number of images used to fit it.
        judged_on: number of held-out images that the figures are measured on.
        failed: number of images that could not be read or tagged; they are in neither half.
        figures: name -> figure: ``"f1"``, ``"precision"`` and ``"recall"`` (of the right tags among all
            proposed tags), micro-averaged, and ``"tags_per_image"``.
        config: the pipeline's config with this threshold, in the form of ``autotag.pipeline.presets``.
    """

    score: Score
    threshold: float
    encoder: str
    fitted_on: int
    judged_on: int
    failed: int
    figures: Mapping[str, HeldOut]
    config: Mapping[str, Any]


def calibrate(
    dataset: EvaluationSet,
    table: Mapping[str, Any],
    *,
    score: Score | None = None,
    wanted_precision: float | None = None,
    device: str | None = None,
    seed: int = 0,
    on_image: Callable[[], None] | None = None,
) -> Calibration:
    """Fit the threshold of a config's ``filter_tags`` stage.

    On a data set of tags, every label of the set is proposed for every image, and the image's own labels are
    right. On captions, the config's own stages propose the tags, and a tag is right if all its words are
    content words of one caption of its image.

    Args:
        dataset: see ``read_dataset``; at least two images.
        table: a config from ``autotag.pipeline.presets.read_preset``, with one stage ``filter_tags``.
        score: the score type to threshold; None for the one of the config's stage.
        wanted_precision: in (0, 1]; choose the threshold that keeps most tags at this precision or better.
            None chooses the threshold with the highest F1.
        device: where to run; None for the config's own.
        seed: for drawing the halves and for the intervals.
        on_image: called after each image.

    Raises:
        ConfigError: the stage is missing, fewer than two images can be tagged, no proposed tag is right, or
            no threshold reaches the precision.
        ModelUnavailableError: weights are missing.
        StageBrokenError: a stage failed on many images in a row.
    """
    if len(dataset.examples) < 2:
        raise ConfigError(
            f"{dataset.name!r} has one image; a cut takes at least two, one to fit it and one to judge it."
        )
    name, stage = _filter_of(table)
    wanted: Score = score or score_for(stage.score, stage.threshold)
    opened = {name: {"score": wanted, "threshold": LOWEST[wanted], "top_k": None}}
    proposing = _proposing(dataset, presets.overridden(dict(table), opened))
    with presets.from_config({**proposing, **({"device": device} if device else {})}) as pipeline:
        results = _results(pipeline, dataset, on_image)
    encoder = str(stage.encoder or table.get("encoder", DEFAULT_ENCODER))
    done = _proposals(dataset, results)
    fitting, judging = _halves(done, dataset, seed)
    threshold = fit_cut(fitting, top_k=stage.top_k, wanted_precision=wanted_precision)
    figures = held_out(judging, threshold, top_k=stage.top_k, seed=seed)
    fitted = presets.overridden(dict(table), {name: {"score": wanted, "threshold": threshold}})
    return Calibration(
        wanted, threshold, encoder, len(fitting), len(judging), len(results) - len(done), figures, fitted
    )


def fit_cut(
    images: Sequence[Proposals], *, top_k: int | None, wanted_precision: float | None = None
) -> float:
    """Return the threshold with the highest F1, or the lowest with the wanted precision, to four decimals.

    It lies halfway between the lowest kept score and the next lower one.

    Args:
        images: the proposed tags of each image.
        top_k: most tags kept per image; None for all.
        wanted_precision: in (0, 1]; None for the highest F1.

    Raises:
        ConfigError: no proposed tag is right, or no threshold that keeps at least ``FEWEST_TAGS`` tags
            reaches the precision.
    """
    total = sum(int(image.right.sum()) for image in images)
    if not total:
        raise ConfigError("no tag that is proposed for these images is right, so there is no cut to fit.")
    scores = np.concatenate([image.scores[:top_k] for image in images])
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(np.concatenate([image.right[:top_k] for image in images])[order])
    ordered = scores[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # equal scores stay or go together
    kept, found = ends + 1, right[ends]
    if wanted_precision is None:
        best = int(np.argmax(2 * found / (kept + total)))
    else:
        best = _lowest_with(wanted_precision, found / kept, kept)
    lowest = float(ordered[ends[best]])
    below = float(ordered[ends[best + 1]]) if best + 1 < len(ends) else lowest
    return round((lowest + below) / 2, _DIGITS)


def held_out(
    images: Sequence[Proposals], threshold: float, *, top_k: int | None, seed: int
) -> dict[str, HeldOut]:
    """Return the figures of a threshold, see ``Calibration.figures``.

    Args:
        images: the proposed tags of each held-out image.
        threshold: lowest score that is kept.
        top_k: most tags kept per image; None for all.
        seed: for the bootstrap intervals.
    """
    stays = [image.scores[:top_k] >= threshold for image in images]
    given = np.array([stay.sum() for stay in stays], dtype=np.float64)
    found = [image.right[:top_k][stay].sum() for image, stay in zip(images, stays, strict=True)]
    rows = np.stack([np.array(found), given, [image.right.sum() for image in images]], axis=1)
    measures: list[Measure] = [
        sum_measure("f1", rows, partial(f1, average="micro")),
        sum_measure("precision", rows, partial(precision, average="micro")),
        sum_measure("recall", rows, partial(recall, average="micro")),
        mean_measure("tags_per_image", given),
    ]
    return {one.name: HeldOut(one.value, bootstrap_interval(one, seed=seed)) for one in measures}


def _lowest_with(wanted: float, precisions: NDArray[np.float64], kept: NDArray[np.intp]) -> int:
    """Return the index of the lowest threshold with at least this precision."""
    enough = kept >= FEWEST_TAGS
    if not enough.any():
        raise ConfigError(f"only {kept[-1]} tags are proposed; a wanted precision takes {FEWEST_TAGS}.")
    reached = np.flatnonzero(enough & (precisions >= wanted))
    if not len(reached):
        best = precisions[enough].max()
        raise ConfigError(
            f"no cut that keeps {FEWEST_TAGS} tags reaches a precision of {wanted:g}; the best: {best:.3f}."
        )
    return int(reached[-1])


def _filter_of(table: Mapping[str, Any]) -> tuple[str, Any]:
    """Return the name of a config's only ``filter_tags`` stage, and the stage itself."""
    stages = [one for one in table.get("stages", ()) if stage_tables.stage_reference(one) == _FILTER]
    if len(stages) != 1:
        raise ConfigError(
            f"a cut is fitted to a pipeline with one stage filter_tags; this has {len(stages)}."
        )
    return stage_tables.table_name(stages[0]), stage_tables.stage_from_table(stages[0])


def _proposing(dataset: EvaluationSet, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config up to its filter; for a data set of tags, one that proposes all labels of the set."""
    tables = list(table["stages"])
    place = next(index for index, one in enumerate(tables) if stage_tables.stage_reference(one) == _FILTER)
    stages = tables[: place + 1]
    if dataset.labels:
        encoder = {"encoder": tables[place]["encoder"]} if "encoder" in tables[place] else {}
        labels = list(dataset.labels)
        match = {"stage": "match_vocabulary", "vocabulary": labels, "top_k": len(labels), **encoder}
        stages = [match, tables[place]]
    settings = {name: value for name, value in table.items() if name != "stage_batch_sizes"}
    return {**settings, "stages": stages}


def _results(pipeline: Pipeline, dataset: EvaluationSet, on_image: Callable[[], None] | None) -> list[Result]:
    results = []
    for result in pipeline.stream([example.image for example in dataset.examples], on_error="record"):
        results.append(result)
        if on_image is not None:
            on_image()
    return results


def _proposals(dataset: EvaluationSet, results: Sequence[Result]) -> list[Proposals]:
    """Return the proposed tags of the images that could be tagged."""
    by_label = bool(dataset.labels)
    return [
        _judged(example, result, by_label=by_label)
        for example, result in zip(dataset.examples, results, strict=True)
        if result.error is None
    ]


def _judged(example: Example, result: Result, *, by_label: bool) -> Proposals:
    if by_label:
        true = {tag.casefold() for tag in example.tags}
        right = [tag.text.casefold() in true for tag in result.tags]
    else:
        captions = [content_words(text) for text in example.texts]
        right = [is_said(tag.text, captions) for tag in result.tags]
    scores = np.array([tag.score for tag in result.tags], dtype=np.float64)
    return Proposals(scores, np.array(right, dtype=bool))


def _halves(
    images: Sequence[Proposals], dataset: EvaluationSet, seed: int
) -> tuple[list[Proposals], list[Proposals]]:
    if len(images) < 2:
        raise ConfigError(
            f"{len(images)} images of {dataset.name!r} could be tagged; at least two are needed."
        )
    order = np.random.default_rng(seed).permutation(len(images))
    middle = (len(images) + 1) // 2
    return [images[place] for place in order[:middle]], [images[place] for place in order[middle:]]
