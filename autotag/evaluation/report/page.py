"""Renders an evaluation as one self-contained HTML page, without scripts, fonts or other files."""

from __future__ import annotations

import base64
import io
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from autotag.errors import ImageReadError
from autotag.evaluation.metrics.cider import caption_tokens
from autotag.evaluation.metrics.text_similarity import unit_rows
from autotag.evaluation.projection import principal_plane
from autotag.evaluation.report import charts
from autotag.evaluation.report.charts import escaped
from autotag.evaluation.report.text import (
    LABELS,
    deciding_scores,
    extremes,
    figure_names,
    headings,
    remarks,
    rows,
    verdicts,
)
from autotag.images.reading import read_image
from autotag.language import english

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from autotag.evaluation.datasets import Example
    from autotag.evaluation.evaluate import Evaluation, Judged

_THUMBNAIL = 200
_MOST_POINTS = 300
_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e26; --faint: #5d6270; --ground: #fff; --box: #f5f6f9; --line: #d9dce4;
  --c0: #3366cc; --c1: #e8710a; --c2: #188038; --c3: #a142f4; --c4: #d01884; --c5: #00808a; --c6: #9a6700; --c7: #c5221f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaf0; --faint: #a2a8b8; --ground: #15171d; --box: #1f222b;
  --line: #3a3f4d; --c0: #8ab4f8; --c1: #fcad70; --c2: #81c995; --c3: #d7aefb; --c4: #ff8bcb; --c5: #78d9ec; --c6: #fdd663;
  --c7: #f28b82; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); margin: 0 auto; max-width: 1180px;
  padding: 24px 20px 60px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 36px 0 8px; } h3 { font-size: 15px; margin: 14px 0 6px; }
p, ul { margin: 6px 0; } .faint { color: var(--faint); font-size: 13px; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 12px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--ground); }
td small { color: var(--faint); display: block; font-size: 12px; } td b { font-weight: 650; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); gap: 18px; }
figure { margin: 0; padding: 12px; background: var(--box); border-radius: 10px; } figcaption { font-weight: 600; margin-bottom: 6px; }
figure p { font-weight: 400; } svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
.legend span { margin-right: 14px; font-size: 13px; } .legend i { display: inline-block; width: 10px; height: 10px;
  border-radius: 2px; margin-right: 5px; }
.matrix { width: 100%; max-width: 420px; image-rendering: pixelated; display: block; margin: 0 auto; }
.examples { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 12px; }
.example { background: var(--box); border-radius: 10px; padding: 10px; overflow-wrap: anywhere; font-size: 13px; }
.example img, .example .none { width: 100%; height: 150px; object-fit: contain; background: var(--line); border-radius: 6px;
  display: block; margin-bottom: 6px; text-align: center; line-height: 150px; }
.example b { float: right; font-variant-numeric: tabular-nums; } .example p { margin: 3px 0; white-space: pre-line; }
.example .faint { font-size: 12px; }
"""  # noqa: E501  a style sheet


def page(evaluation: Evaluation) -> str:
    """Return the whole page. All text from the data set and the models is escaped."""
    models, images = len(evaluation.judged), len(evaluation.dataset.examples)
    parts = [
        f"<h1>{_count(models, 'model')}, {_count(images, 'image')}</h1>",
        f'<p class="faint">{escaped(evaluation.dataset.name)}</p>',
        _list(verdicts(evaluation)),
        '<div class="wide">' + _table(evaluation) + "</div>",
        *_charts(evaluation),
        *(_examples(evaluation, judged) for judged in evaluation.judged),
        "<h2>How to read this</h2>",
        _list(remarks(evaluation)),
        _list(f"{LABELS[name].title}: {LABELS[name].meaning}." for name in figure_names(evaluation)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>autotag evaluation</title><style>{_STYLE}</style></head>\n"
        f"<body>{chr(10).join(part for part in parts if part)}</body></html>\n"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escaped(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def _table(evaluation: Evaluation) -> str:
    """Render one row per model, or one row per figure if there are more figures than models."""
    lines = [headings(evaluation), *rows(evaluation)]
    if len(lines) <= len(lines[0]):
        lines = [list(column) for column in zip(*lines, strict=True)]
    head = "".join(f"<th>{escaped(heading)}</th>" for heading in lines[0])
    body = "".join(
        "<tr>"
        + "".join(f"<td>{_cell(cell, first=not place)}</td>" for place, cell in enumerate(row))
        + "</tr>"
        for row in lines[1:]
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(cell: str, *, first: bool) -> str:
    """Render a figure with its interval below it, or the first cell of a row in bold."""
    figure, bracket, interval = cell.partition(" [")
    if first or not bracket:
        return f"<b>{escaped(cell)}</b>" if first else escaped(cell)
    return f"{escaped(figure)}<small>[{escaped(interval)}</small>"


def _charts(evaluation: Evaluation) -> list[str]:
    figures = [_quality(evaluation), _scores(evaluation), *_lengths_and_words(evaluation)]
    for judged in evaluation.judged:
        figures += _maps(evaluation, judged)
    return ["<h2>Pictures</h2>", '<div class="grid">' + "".join(figures) + "</div>"]


def _figure(title: str, body: str, note: str = "") -> str:
    small = f'<p class="faint">{escaped(note)}</p>' if note else ""
    return f"<figure><figcaption>{escaped(title)}</figcaption>{body}{small}</figure>"


def _quality(evaluation: Evaluation) -> str:
    points = []
    for judged in evaluation.judged:
        figure = judged.figures[evaluation.deciding]
        low, high = (figure.interval.low, figure.interval.high) if figure.interval else (None, None)
        points.append(charts.Point(judged.run.name, judged.run.images_per_second, figure.value, low, high))
    label = LABELS[evaluation.deciding].title
    return _figure("Quality against time", charts.quality_against_time(points, label=label, first=1))


def _scores(evaluation: Evaluation) -> str:
    found = {judged.run.name: deciding_scores(evaluation, judged) for judged in evaluation.judged}
    series = {name: scores for name, scores in found.items() if scores is not None}
    if not series:
        return ""
    label = LABELS[evaluation.deciding].title
    return _figure(f"{label} of single images", charts.histogram(series, label=label, of="images", first=1))


def _lengths_and_words(evaluation: Evaluation) -> list[str]:
    if not evaluation.dataset.has_texts:
        return []
    texts = {"true": [text for example in evaluation.dataset.examples for text in example.texts]}
    texts |= {one.run.name: list(one.run.texts) for one in evaluation.judged if not one.members}
    lengths = {name: np.array([len(caption_tokens(text)) for text in some]) for name, some in texts.items()}
    clouds = [
        _figure(f"Words: {name}", charts.word_cloud(_word_counts(some))) for name, some in texts.items()
    ]
    return [
        _figure("Length of texts", charts.histogram(lengths, label="words", of="texts", whole=True)),
        *clouds,
    ]


def _word_counts(texts: Sequence[str]) -> Counter[str]:
    """Count the texts that contain each word, without function words and single letters."""
    function_words = english.function_words()
    return Counter(
        word
        for text in texts
        for word in set(caption_tokens(text))
        if word not in function_words and (len(word) > 1 or not word.isascii())
    )


def _maps(evaluation: Evaluation, judged: Judged) -> list[str]:
    """Draw the similarity matrix and the projection of texts, if sentence embeddings are available."""
    if judged.matrix is None or judged.vectors is None or evaluation.true_vectors is None:
        return []
    high = float(np.quantile(judged.matrix, 0.999))
    name = judged.run.name
    matrix = charts.matrix_picture(judged.matrix, low=0.0, high=high)
    first = "" if len(judged.matrix) == len(judged.vectors) else f"The first {len(judged.matrix)} images. "
    note = (
        f"{first}A row is a generated text, a column an image's true texts; a dark diagonal means that texts "
        f"match only their own images. White is 0, dark {high:.2f}."
    )
    true = unit_rows(evaluation.true_vectors[:_MOST_POINTS])
    generated = unit_rows(judged.vectors[:_MOST_POINTS])
    mean, plane = principal_plane(true)
    ids = [example.id for example in evaluation.dataset.examples[:_MOST_POINTS]]
    cloud = charts.projection((true - mean) @ plane.T, (generated - mean) @ plane.T, ids)
    spread = "Sentence embeddings on the two main directions of the true ones. Short lines are good."
    return [
        _figure(f"Similarity of texts: {name}", matrix, note),
        _figure(f"Texts in a plane: {name}", cloud, spread),
    ]


def _examples(evaluation: Evaluation, judged: Judged) -> str:
    scores = deciding_scores(evaluation, judged)
    if scores is None:
        return ""
    parts = [f"<h2>{escaped(judged.run.name)}: best and worst</h2>"]
    for kind, indices in zip(("Best", "Worst"), extremes(evaluation, judged), strict=True):
        cards = "".join(_card(evaluation, judged, index, float(scores[index])) for index in indices)
        if cards:
            parts.append(f'<h3>{kind}</h3><div class="examples">{cards}</div>')
    return "".join(parts)


def _card(evaluation: Evaluation, judged: Judged, index: int, score: float) -> str:
    example = evaluation.dataset.examples[index]
    error = judged.run.errors[index]
    text = judged.run.texts[index].strip()
    said = f"failed: {error}" if error else text or "(nothing)"
    lines = [f"<p>{escaped(said)}</p>"]
    if judged.best_matches is not None and not error and text:
        match = int(judged.best_matches[index])
        if match != index:
            other = evaluation.dataset.examples[match]
            lines.append(f'<p class="faint">more like {escaped(other.id)}: {escaped(other.texts[0])}</p>')
    true = "\n".join(f"· {text}" for text in example.texts)
    return (
        f'<div class="example">{_thumbnail(example)}<b>{score:.3f}</b>'
        f'<span class="faint">{escaped(example.id)}</span>{"".join(lines)}'
        f'<p class="faint">{escaped(true)}</p></div>'
    )


def _thumbnail(example: Example) -> str:
    try:
        picture = read_image(example.image, target_size=_THUMBNAIL).image.copy()
    except ImageReadError:
        return '<span class="none">no picture</span>'
    picture.thumbnail((_THUMBNAIL * 3 // 2, _THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="{escaped(example.id)}" src="data:image/jpeg;base64,{encoded}">'
