"""Renders an evaluation as one self-contained HTML page, without scripts, fonts or other files.

The page is the jinja2 template ``page.html``; here is what it shows.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from autotag.errors import ImageReadError
from autotag.evaluation.metrics.cider import caption_tokens
from autotag.evaluation.metrics.text_similarity import unit_rows
from autotag.evaluation.report import charts
from autotag.evaluation.report.text import (
    LABELS,
    deciding_scores,
    extremes,
    figure_names,
    figure_rows,
    remarks,
    verdicts,
)
from autotag.images.reading import read_image
from autotag.language import english

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from markupsafe import Markup
    from numpy.typing import NDArray

    from autotag.evaluation.datasets import Example
    from autotag.evaluation.evaluate import Evaluation, Judged

_THUMBNAIL = 200
_MOST_POINTS = 300
_FEWEST_FOR_PLANE = 3


@dataclass(frozen=True, slots=True)
class _Chart:
    """A chart of the page; ``names`` is its legend, whose colours begin with number ``first``."""

    title: str
    svg: Markup
    note: str = ""
    names: tuple[str, ...] = ()
    first: int = 0


@dataclass(frozen=True, slots=True)
class _Card:
    """An image among the best or worst; ``picture`` is a JPEG as base64, empty if it cannot be read.

    ``other`` is the image whose true texts are most like the text, if it is another one.
    """

    example: Example
    picture: str
    score: float
    said: str
    other: Example | None


def page(evaluation: Evaluation) -> str:
    """Return the whole page. All text from the data set and the models is escaped."""
    template = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_cleaned, trim_blocks=True
    ).from_string(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))
    return template.render(
        colours=charts.COLOURS,
        series=charts.SERIES,
        models=len(evaluation.judged),
        images=len(evaluation.dataset.examples),
        dataset=evaluation.dataset.name,
        verdicts=verdicts(evaluation),
        table=figure_rows(evaluation),
        charts=list(_charts(evaluation)),
        examples=[
            (judged.run.name, _cards(evaluation, judged, scores))
            for judged in evaluation.judged
            if (scores := deciding_scores(evaluation, judged)) is not None
        ],
        remarks=remarks(evaluation),
        meanings=[f"{LABELS[name].title}: {LABELS[name].meaning}." for name in figure_names(evaluation)],
    )


def _cleaned(shown: Any) -> Any:
    return charts.printable(shown) if type(shown) is str else shown


def _charts(evaluation: Evaluation) -> Iterator[_Chart]:
    label = LABELS[evaluation.deciding].title
    names = tuple(judged.run.name for judged in evaluation.judged)
    figures = [judged.figures[evaluation.deciding] for judged in evaluation.judged]
    yield _Chart(
        "Quality against time",
        charts.quality_against_speed(
            names,
            [judged.run.images_per_second for judged in evaluation.judged],
            [figure.value for figure in figures],
            [(one.low, one.high) if (one := figure.interval) else None for figure in figures],
            label=label,
        ),
    )
    found = {judged.run.name: deciding_scores(evaluation, judged) for judged in evaluation.judged}
    scores = {name: rows for name, rows in found.items() if rows is not None}
    if scores:
        drawn = charts.histogram(scores, label=label, first=1)
        yield _Chart(f"{label} of single images", drawn, names=tuple(scores), first=1)
    if evaluation.dataset.has_texts:
        yield from _charts_of_words(evaluation)
    for judged in evaluation.judged:
        yield from _maps(evaluation, judged)


def _charts_of_words(evaluation: Evaluation) -> Iterator[_Chart]:
    texts = {"true": [text for example in evaluation.dataset.examples for text in example.texts]}
    texts |= {one.run.name: list(one.run.texts) for one in evaluation.judged if not one.members}
    lengths = {name: np.array([len(caption_tokens(text)) for text in some]) for name, some in texts.items()}
    drawn = charts.histogram(lengths, label="words", whole=True)
    yield _Chart("Length of texts", drawn, names=tuple(texts))
    words = {name: _word_shares(some) for name, some in texts.items()}
    yield _Chart("Frequent words", charts.frequent_words(words), names=tuple(texts))


def _word_shares(texts: Sequence[str]) -> dict[str, float]:
    """Return the share of texts that contain each word, without function words and single letters."""
    function_words = english.function_words()
    counts = Counter(
        word
        for text in texts
        for word in set(caption_tokens(text))
        if word not in function_words and (len(word) > 1 or not word.isascii())
    )
    return {word: count / len(texts) for word, count in counts.items()}


def _maps(evaluation: Evaluation, judged: Judged) -> Iterator[_Chart]:
    """Draw the similarity matrix and the projection of texts, if sentence embeddings are available."""
    if judged.matrix is None or judged.vectors is None or evaluation.true_vectors is None:
        return
    name = judged.run.name
    first = "" if len(judged.matrix) == len(judged.vectors) else f"The first {len(judged.matrix)} images. "
    yield _Chart(
        f"Similarity of texts: {name}",
        charts.similarities(judged.matrix),
        f"{first}A bright diagonal means that texts match only their own images.",
    )
    true, generated = unit_rows(evaluation.true_vectors), unit_rows(judged.vectors)
    if len(true) >= _FEWEST_FOR_PLANE:
        yield _Chart(
            f"Texts in a plane: {name}",
            charts.projection(*_in_plane(true[:_MOST_POINTS], generated[:_MOST_POINTS])),
            "Sentence embeddings on the two main directions of the true ones. Short lines are good.",
            ("true", "generated"),
        )


def _in_plane(
    true: NDArray[np.float64], generated: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Project vectors (N, D) onto the two principal components of the true ones: (N, 2) each."""
    from sklearn.decomposition import PCA

    with np.errstate(invalid="ignore"):  # all texts are the same: there is no variance to explain
        plane = PCA(2, svd_solver="full").fit(true)
    return plane.transform(true), plane.transform(generated)


def _cards(evaluation: Evaluation, judged: Judged, scores: NDArray[np.float64]) -> dict[str, list[_Card]]:
    kinds = zip(("Best", "Worst"), extremes(evaluation, judged), strict=True)
    return {
        kind: [_card(evaluation, judged, index, float(scores[index])) for index in indices]
        for kind, indices in kinds
    }


def _card(evaluation: Evaluation, judged: Judged, index: int, score: float) -> _Card:
    examples, error, text = (
        evaluation.dataset.examples,
        judged.run.errors[index],
        judged.run.texts[index].strip(),
    )
    match = index if judged.best_matches is None or error or not text else int(judged.best_matches[index])
    return _Card(
        examples[index],
        _thumbnail(examples[index]),
        score,
        f"failed: {error}" if error else text or "(nothing)",
        None if match == index else examples[match],
    )


def _thumbnail(example: Example) -> str:
    try:
        picture = read_image(example.image, target_size=_THUMBNAIL).image.copy()
    except ImageReadError:
        return ""
    picture.thumbnail((_THUMBNAIL * 3 // 2, _THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
