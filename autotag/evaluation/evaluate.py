"""Evaluates models on a data set: a figure with an interval for each, a significance test for each pair."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from autotag.errors import ConfigError, ImageReadError
from autotag.evaluation.ensembles import mean_embedding, shares_of
from autotag.evaluation.metrics.bleu import bleu_4, bleu_rows
from autotag.evaluation.metrics.cider import CiderD
from autotag.evaluation.metrics.clip_scores import CLIP_PREFIX, clip_score, ref_clip_score
from autotag.evaluation.metrics.measures import (
    Interval,
    Measure,
    bootstrap_interval,
    difference_interval,
    holm,
    mean_measure,
    paired_test,
    sum_measure,
)
from autotag.evaluation.metrics.retrieval import found_at, partner_ranks
from autotag.evaluation.metrics.rouge import rouge_l
from autotag.evaluation.metrics.tag_metrics import count_rows, f1, mean_average_precision, precision, recall
from autotag.evaluation.metrics.text_similarity import best_matches, unit_rows
from autotag.evaluation.model_runs import ModelRun, TextField, check_fits, run_model, run_of_ensemble
from autotag.images.reading import read_image
from autotag.protocols import image_size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from autotag.evaluation.datasets import EvaluationSet
    from autotag.evaluation.sentence_encoder import SentenceEncoder
    from autotag.pipeline.pipeline import Pipeline
    from autotag.protocols import ImageTextEncoder

DECIDING = ("similarity", "cider_d", "rouge_l", "f1_macro")
"""The first of these figures that is available orders and compares the models."""

MATRIX_SIDE = 150
"""Number of images in the similarity matrix of a report; the figures use all images."""

_IMAGES_AT_ONCE = 32
_ROWS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Judges:
    """The models that compute figures; None leaves out the figures of that model.

    Attributes:
        sentences: embeds texts, for the similarity of texts.
        clip: embeds images and texts, for CLIPScore, RefCLIPScore and retrieval.
        clip_name: name of ``clip`` in reports; by default its id.
    """

    sentences: SentenceEncoder | None = None
    clip: ImageTextEncoder | None = None
    clip_name: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one model.

    Attributes:
        value: the figure.
        interval: 95 % bootstrap interval; None for a single image.
    """

    value: float
    interval: Interval | None


@dataclass(frozen=True, eq=False, slots=True)
class Judged:
    """One model and its figures.

    Attributes:
        run: its output.
        measures: name -> measure, with each image's contribution.
        figures: name -> figure, with the same names.
        vectors: (N, D) float32, sentence embeddings of its texts; or None.
        matrix: (M, M) float64, mean similarity of text i with the true texts of image j, for the first
            ``MATRIX_SIDE`` images; or None.
        best_matches: (N,) index of the image whose true texts each text is most similar to; or None.
        members: names of an ensemble's models, whose embeddings are averaged; () for a single model. An
            ensemble does not write texts: ``run`` has its members' texts, and only figures of embeddings
            are computed.
    """

    run: ModelRun
    measures: Mapping[str, Measure]
    figures: Mapping[str, Figure]
    vectors: NDArray[np.float32] | None = None
    matrix: NDArray[np.float64] | None = None
    best_matches: NDArray[np.intp] | None = None
    members: tuple[str, ...] = ()

    def per_image(self, name: str) -> NDArray[np.float64] | None:
        """Return the figure of each image (N,), or None if it is not a mean over images."""
        rows = self.measures[name].rows
        return rows[:, 0] if rows.shape[1] == 1 else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models compared by the deciding figure.

    Attributes:
        better: name of the model with the higher figure.
        worse: name of the other.
        difference: ``better`` minus ``worse``, at least 0.
        interval: 95 % bootstrap interval of the difference; None for a single image.
        p_value: two-sided, adjusted for the number of pairs (Holm).
    """

    better: str
    worse: str
    difference: float
    interval: Interval | None
    p_value: float


@dataclass(frozen=True, eq=False, slots=True)
class Evaluation:
    """All results of an evaluation.

    Attributes:
        dataset: the images and their ground truth.
        judged: the models, best first by ``deciding``.
        comparisons: one for every pair of models; empty for one model.
        deciding: name of the figure that orders the models.
        true_vectors: (N, D) mean sentence embedding of each image's true texts, or None.
        judges: kind -> name of each judging model in use.
        seed: for every random draw.
    """

    dataset: EvaluationSet
    judged: tuple[Judged, ...]
    comparisons: tuple[Comparison, ...]
    deciding: str
    true_vectors: NDArray[np.float64] | None
    judges: Mapping[str, str]
    seed: int


def evaluate(
    dataset: EvaluationSet,
    pipelines: Mapping[str, Pipeline],
    *,
    judges: Judges,
    text: TextField = "caption",
    ensemble: Sequence[float] | None = None,
    seed: int = 0,
    on_image: Callable[[], None] | None = None,
) -> Evaluation:
    """Run every model over the data set and evaluate its output.

    An empty text, and the text of a failed image, scores 0 everywhere. The same seed and texts give the same
    figures.

    Args:
        dataset: see ``read_dataset``.
        pipelines: name -> pipeline, not loaded yet; each is closed after its run. See ``pipelines_of``.
        judges: the models that compute figures.
        text: which text of a model is evaluated.
        ensemble: weights, one per model in their order. The weighted mean of the models' sentence embeddings
            is evaluated as one more model, see ``autotag.evaluation.ensembles``. None for no ensemble.
        seed: for the draws behind intervals and tests.
        on_image: called after each image of each model.

    Raises:
        ConfigError: there is no model, a model does not produce what the data set evaluates, the weights do
            not fit the models, or an ensemble lacks a sentence encoder or true texts.
        ModelUnavailableError: weights are missing.
    """
    if not pipelines:
        raise ConfigError("name at least one model to evaluate.")
    check_fits(pipelines, dataset, text)
    shares = None if ensemble is None else shares_of(ensemble, len(pipelines))
    if shares and not (judges.sentences and dataset.has_texts):
        raise ConfigError(
            "an ensemble averages embeddings: it needs a sentence encoder and images with texts."
        )
    truth = _Truth(dataset, judges)
    judged = [
        truth.judge(run_model(name, pipeline, dataset, text=text, on_image=on_image), seed)
        for name, pipeline in pipelines.items()
    ]
    if shares:
        judged.append(truth.judge_ensemble(judged, shares, seed))
    deciding = next(name for name in DECIDING if all(name in one.figures for one in judged))
    ordered = tuple(sorted(judged, key=lambda one: -one.figures[deciding].value))
    names = {
        "sentences": judges.sentences and judges.sentences.name,
        "clip": judges.clip and (judges.clip_name or judges.clip.id),
    }
    return Evaluation(
        dataset=dataset,
        judged=ordered,
        comparisons=_comparisons(ordered, deciding, seed),
        deciding=deciding,
        true_vectors=truth.mean_vectors,
        judges={kind: name for kind, name in names.items() if name},
        seed=seed,
    )


class _Truth:
    """Keep the ground truth of the images, with its embeddings, computed once for all models."""

    def __init__(self, dataset: EvaluationSet, judges: Judges) -> None:
        self.dataset = dataset
        self.judges = judges
        self.texts = [example.texts for example in dataset.examples] if dataset.has_texts else []
        self.all_texts = [text for texts in self.texts for text in texts]
        self.owners = np.repeat(np.arange(len(self.texts)), [len(texts) for texts in self.texts])
        self.mean_vectors = self._mean_vectors() if judges.sentences and self.texts else None
        self.cider = CiderD(self.texts) if len(self.texts) > 1 else None
        self.image_vectors: NDArray[np.float32] | None = None
        self.clip_references: NDArray[np.float32] | None = None
        if judges.clip and self.texts:
            self.image_vectors = _image_vectors(dataset, judges.clip)
            self.clip_references = _clip_texts(judges.clip, self.all_texts)

    def judge(self, run: ModelRun, seed: int) -> Judged:
        """Compute all figures of one model."""
        measures: list[Measure] = []
        vectors = compared = None
        if self.texts:
            if self.judges.sentences and self.mean_vectors is not None:
                vectors = self.judges.sentences.vectors(run.texts)
                compared = _compared(unit_rows(vectors), self.mean_vectors)
                measures += _similarity_measures(compared)
            measures += self._word_measures(run.texts)
            measures += self._clip_measures(run.texts)
        if run.tags is not None and self.dataset.labels:
            measures += _tag_measures(run, self.dataset)
        return _judged(run, measures, seed, vectors=vectors, compared=compared)

    def judge_ensemble(self, members: Sequence[Judged], shares: Sequence[float], seed: int) -> Judged:
        """Compute the figures of an ensemble, from its members' embeddings."""
        assert self.mean_vectors is not None  # noqa: S101 - asked before
        vectors = mean_embedding([one.vectors for one in members if one.vectors is not None], shares)
        compared = _compared(unit_rows(vectors), self.mean_vectors)
        run = run_of_ensemble([one.run for one in members], shares)
        names = tuple(one.run.name for one in members)
        return _judged(
            run, _similarity_measures(compared), seed, vectors=vectors, compared=compared, members=names
        )

    def _mean_vectors(self) -> NDArray[np.float64]:
        """Return the mean unit vector (N, D) of each image's true texts.

        Its dot product with a text's unit vector is the text's mean cosine with the true texts.
        """
        assert self.judges.sentences is not None  # noqa: S101 - asked before
        rows = unit_rows(self.judges.sentences.vectors(self.all_texts))
        sums = np.zeros((len(self.texts), rows.shape[1]))
        np.add.at(sums, self.owners, rows)
        means: NDArray[np.float64] = sums / np.bincount(self.owners)[:, None]
        return means

    def _word_measures(self, texts: Sequence[str]) -> list[Measure]:
        cider = self.cider
        scores = [cider.score(image, text) for image, text in enumerate(texts)] if cider else None
        return [
            *([mean_measure("cider_d", np.array(scores))] if scores else []),
            mean_measure("rouge_l", rouge_l(texts, self.texts)),
            sum_measure("bleu_4", bleu_rows(texts, self.texts), bleu_4),
        ]

    def _clip_measures(self, texts: Sequence[str]) -> list[Measure]:
        if self.judges.clip is None or self.image_vectors is None or self.clip_references is None:
            return []
        rows = _clip_texts(self.judges.clip, texts)
        ranks = _compared(unit_rows(rows), unit_rows(self.image_vectors)).ranks
        return [
            mean_measure("clip_score", clip_score(self.image_vectors, rows)),
            mean_measure(
                "ref_clip_score", ref_clip_score(self.image_vectors, rows, self.clip_references, self.owners)
            ),
            mean_measure("image_found_at_1", found_at(ranks, 1)),
            mean_measure("image_found_at_5", found_at(ranks, 5)),
        ]


@dataclass(frozen=True, eq=False, slots=True)
class _Compared:
    """Results of comparing texts with images, without the full matrix, which may not fit into memory.

    Attributes:
        matched: (N,) similarity of each text with its own partner.
        ranks: (N,) rank of each text's own partner, from 1.
        best: (N,) index of the most similar partner.
        corner: upper left corner of the similarity matrix, at most ``MATRIX_SIDE`` square.
    """

    matched: NDArray[np.float64]
    ranks: NDArray[np.intp]
    best: NDArray[np.intp]
    corner: NDArray[np.float64]


def _compared(rows: NDArray[np.float64], partners: NDArray[np.float64]) -> _Compared:
    """Compare unit rows (N, D) with all partners (N, D), a block of rows at a time."""
    matched, ranks, best, corner = [], [], [], []
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        block = rows[start : start + _ROWS_AT_ONCE] @ partners.T
        matched.append(np.diagonal(block, offset=start))
        ranks.append(partner_ranks(block, first=start))
        best.append(best_matches(block))
        corner.append(block[: max(0, MATRIX_SIDE - start), :MATRIX_SIDE])
    return _Compared(
        np.concatenate(matched), np.concatenate(ranks), np.concatenate(best), np.concatenate(corner)
    )


def _judged(
    run: ModelRun,
    measures: Sequence[Measure],
    seed: int,
    *,
    vectors: NDArray[np.float32] | None,
    compared: _Compared | None,
    members: tuple[str, ...] = (),
) -> Judged:
    return Judged(
        run=run,
        measures={measure.name: measure for measure in measures},
        figures={one.name: Figure(one.value, bootstrap_interval(one, seed=seed)) for one in measures},
        vectors=vectors,
        matrix=None if compared is None else compared.corner,
        best_matches=None if compared is None else compared.best,
        members=members,
    )


def _similarity_measures(compared: _Compared) -> list[Measure]:
    return [
        mean_measure("similarity", compared.matched),
        mean_measure("text_found_at_1", found_at(compared.ranks, 1)),
        mean_measure("text_found_at_5", found_at(compared.ranks, 5)),
    ]


def _tag_measures(run: ModelRun, dataset: EvaluationSet) -> list[Measure]:
    """Compute the figures of tags, matched with labels as whole texts, ignoring case.

    A tag that is not a label counts only in ``tags_per_image`` and ``without_tag``.
    """
    assert run.tags is not None  # noqa: S101 - asked before
    columns = {label: column for column, label in enumerate(dataset.labels)}
    shape = (len(dataset.examples), len(dataset.labels))
    true, given, scores = np.zeros(shape, bool), np.zeros(shape, bool), np.full(shape, -np.inf)
    for row, (example, tags) in enumerate(zip(dataset.examples, run.tags, strict=True)):
        true[row, [columns[tag.casefold()] for tag in example.tags]] = True
        for tag in tags:
            column = columns.get(tag.text.casefold())
            if column is not None:
                given[row, column] = True
                scores[row, column] = max(scores[row, column], tag.score)
    numbers = np.array([len(tags) for tags in run.tags], dtype=np.float64)
    rows = count_rows(given, true)
    kinds = (("precision", precision), ("recall", recall), ("f1", f1))
    return [
        Measure(
            "mean_average_precision", np.concatenate([scores, true], axis=1), _map_of, exchangeable=False
        ),
        *(sum_measure(f"{name}_micro", rows, partial(of, average="micro")) for name, of in kinds),
        *(sum_measure(f"{name}_macro", rows, partial(of, average="macro")) for name, of in kinds),
        mean_measure("tags_per_image", numbers),
        mean_measure("without_tag", (numbers == 0).astype(np.float64)),
    ]


def _map_of(rows: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    labels = rows.shape[1] // 2
    return mean_average_precision(rows[:, :labels], rows[:, labels:] > 0, weights)


def _comparisons(judged: Sequence[Judged], deciding: str, seed: int) -> tuple[Comparison, ...]:
    pairs = list(combinations(judged, 2))
    p_values: dict[str, float] = {}
    for number, (one, other) in enumerate(pairs):
        p_value = paired_test(one.measures[deciding], other.measures[deciding], seed=seed)
        assert p_value is not None  # noqa: S101 - every deciding figure can be tested
        p_values[str(number)] = p_value
    adjusted = holm(p_values)
    return tuple(
        Comparison(
            better=one.run.name,
            worse=other.run.name,
            difference=one.figures[deciding].value - other.figures[deciding].value,
            interval=difference_interval(one.measures[deciding], other.measures[deciding], seed=seed),
            p_value=adjusted[str(number)],
        )
        for number, (one, other) in enumerate(pairs)
    )


def _image_vectors(dataset: EvaluationSet, clip: ImageTextEncoder) -> NDArray[np.float32]:
    """Embed the images: (N, D) float32, a row of zeros for an image that cannot be read."""
    size = image_size_of(clip)
    parts: list[NDArray[np.float32]] = []
    for start in range(0, len(dataset.examples), _IMAGES_AT_ONCE):
        pictures: dict[int, Any] = {}
        some = dataset.examples[start : start + _IMAGES_AT_ONCE]
        for place, example in enumerate(some):
            try:
                pictures[place] = read_image(example.image, target_size=size).image
            except ImageReadError:
                continue  # the models' own runs report it
        rows = clip.embed_images(list(pictures.values())) if pictures else np.zeros((0, 1), np.float32)
        part = np.zeros((len(some), rows.shape[1]), dtype=np.float32)
        part[list(pictures)] = rows
        parts.append(part)
    width = max(part.shape[1] for part in parts)
    return np.concatenate([np.broadcast_to(part, (len(part), width)) for part in parts])


def _clip_texts(clip: ImageTextEncoder, texts: Sequence[str]) -> NDArray[np.float32]:
    """Embed texts after ``CLIP_PREFIX``: (T, D) float32, a row of zeros for an empty text."""
    rows = np.concatenate(
        [
            clip.embed_texts([CLIP_PREFIX + text for text in texts[start : start + 256]])
            for start in range(0, len(texts), 256)
        ]
    )
    spoken = np.array([bool(text.strip()) for text in texts])
    return np.where(spoken[:, None], rows, np.float32(0))
