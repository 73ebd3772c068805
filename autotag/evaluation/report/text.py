"""Renders an evaluation as text: the table of models, the conclusions, and a Markdown page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from autotag.writers.one_line import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from autotag.evaluation.evaluate import Evaluation, Figure, Judged

SURE = 0.05
"""Significance level: below this p-value, the report says that models differ."""

EXAMPLES = 4
"""Number of best images, and of worst images, that a report shows for each model."""


@dataclass(frozen=True, slots=True)
class Label:
    """Title and meaning of a figure.

    Attributes:
        title: heading of its column.
        meaning: explanation in one sentence, without a full stop.
    """

    title: str
    meaning: str


LABELS = {
    "similarity": Label("similarity", "mean cosine of the sentence embeddings of text and true texts"),
    "text_found_at_1": Label("text R@1", "images whose text is most like their own true texts, of all"),
    "text_found_at_5": Label("text R@5", "the same, among the five most like it"),
    "cider_d": Label(
        "CIDEr-D", "shared phrases, rare ones counting more; from 0 to 10, papers write 1 as 100"
    ),
    "rouge_l": Label("ROUGE-L", "longest common sequence of words, from 0 to 1"),
    "bleu_4": Label("BLEU-4", "shared phrases of one to four words over the whole set, without smoothing"),
    "clip_score": Label("CLIPScore", "2.5 times the cosine of image and text, by the judging encoder"),
    "ref_clip_score": Label("RefCLIPScore", "CLIPScore and the nearest true text, harmonic mean"),
    "image_found_at_1": Label("image R@1", "images that the judging encoder finds first by their text"),
    "image_found_at_5": Label("image R@5", "the same, among the first five"),
    "mean_average_precision": Label("mAP", "mean over labels of average precision; tags not given rank last"),
    "precision_micro": Label("precision", "right tags of those given, all labels together"),
    "recall_micro": Label("recall", "true labels that were given, all labels together"),
    "f1_micro": Label("F1", "harmonic mean of the two"),
    "precision_macro": Label("macro precision", "precision, mean over labels; 0 for one never given"),
    "recall_macro": Label("macro recall", "recall, mean over labels"),
    "f1_macro": Label("macro F1", "F1, mean over labels"),
    "tags_per_image": Label("tags/image", "tags given per image, labels or not"),
    "without_tag": Label("no tag", "share of images without any tag"),
}


def figure_names(evaluation: Evaluation) -> list[str]:
    """Return the names of the figures that at least one model has, the deciding one first."""
    present = {name for judged in evaluation.judged for name in judged.figures}
    return [evaluation.deciding, *(name for name in LABELS if name in present - {evaluation.deciding})]


def shown(figure: Figure | None) -> str:
    """Format a figure as ``"0.412 [0.398, 0.427]"``, without brackets if it has no interval."""
    if figure is None:
        return "–"
    if figure.interval is None:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} [{figure.interval.low:.3f}, {figure.interval.high:.3f}]"


def headings(evaluation: Evaluation) -> list[str]:
    """Return the column headings of ``rows``."""
    titles = [LABELS[name].title for name in figure_names(evaluation)]
    return ["model", *titles, "images/s", "memory", "failed", "empty"]


def rows(evaluation: Evaluation) -> list[list[str]]:
    """Return the table of models, best first."""
    return [
        [
            one.run.name,
            *(shown(one.figures.get(name)) for name in figure_names(evaluation)),
            f"{one.run.images_per_second:.1f}",
            "–" if one.run.memory is None else f"{one.run.memory / 2**20:.0f} MiB",
            str(one.run.failed),
            str(one.run.empty),
        ]
        for one in evaluation.judged
    ]


def figure_rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Return the table transposed for a terminal: one row per figure, one column per model; names first."""
    return list(zip(headings(evaluation), *rows(evaluation), strict=True))


def verdicts(evaluation: Evaluation) -> list[str]:
    """Return the conclusion about each pair of models, one sentence each."""
    if len(evaluation.dataset.examples) < 2:
        return ["One image only: there is no interval, and nothing can be concluded for other images."]
    title = LABELS[evaluation.deciding].title
    sentences = []
    for pair in evaluation.comparisons:
        assert pair.interval is not None  # noqa: S101 - there are two images or more
        spread = f"{pair.difference:.3f} [{pair.interval.low:.3f}, {pair.interval.high:.3f}]"
        what = f"{title} by {spread}, p = {pair.p_value:.2g}"
        if pair.p_value < SURE:
            sentences.append(f"{pair.better} is better than {pair.worse} in {what}.")
        else:
            sentences.append(f"{pair.better} and {pair.worse} cannot be told apart: they differ in {what}.")
    return sentences


def remarks(evaluation: Evaluation) -> list[str]:
    """Return notes on how the figures were computed."""
    dataset = evaluation.dataset
    lines = [f"{len(dataset.examples)} images of {dataset.name}."]
    if dataset.without_truth:
        lines.append(f"{dataset.without_truth} images without text or tags are left out.")
    if dataset.without_image:
        lines.append(f"{dataset.without_image} entries whose image is missing are left out.")
    judges = {"sentences": "Similarity", "clip": "CLIPScore and image R@k"}
    lines += [f"{judges[kind]}: by {name}." for kind, name in evaluation.judges.items()]
    lines.append(
        "In brackets: the 95 % bootstrap interval over images. p: two-sided, by exchanging the models' "
        "results at random, adjusted for the number of pairs (Holm)."
    )
    lines.append(
        "An image that failed or got no text scores 0. Memory is the peak growth of the process while a "
        "model was loaded and ran, or on a GPU the peak of allocated memory."
    )
    if any(judged.members for judged in evaluation.judged):
        lines.append(
            "A model named by several names and weights is an ensemble, the mean of their embeddings. "
            "It does not write texts, so its members' texts are shown, and figures of texts are left out."
        )
    return lines


def extremes(evaluation: Evaluation, judged: Judged) -> tuple[list[int], list[int]]:
    """Return the indices of a model's best and worst images by the deciding figure.

    Both lists are empty if the figure is not defined per image.
    """
    scores = deciding_scores(evaluation, judged)
    if scores is None:
        return [], []
    order = [int(index) for index in np.argsort(-scores, kind="stable")]
    number = min(EXAMPLES, len(order) // 2) or 1
    return order[:number], order[: -number - 1 : -1] if len(order) > 1 else []


def deciding_scores(evaluation: Evaluation, judged: Judged) -> NDArray[np.float64] | None:
    """Return the deciding figure of each image (N,), or None if it exists only for the whole set."""
    return judged.per_image(evaluation.deciding)


def markdown(evaluation: Evaluation) -> str:
    """Return the report as Markdown."""
    lines = ["# Evaluation", "", *(f"- {_marked(line)}" for line in remarks(evaluation)), ""]
    lines += [_table_line(headings(evaluation)), _table_line(["---"] * len(headings(evaluation)))]
    lines += [_table_line(row) for row in rows(evaluation)]
    lines += ["", *(f"- {_marked(line)}" for line in verdicts(evaluation)), ""]
    for name in figure_names(evaluation):
        lines.append(f"- {LABELS[name].title}: {LABELS[name].meaning}.")
    for judged in evaluation.judged:
        lines += ["", f"## {_marked(judged.run.name)}", "", *_example_lines(evaluation, judged)]
    return "\n".join(lines) + "\n"


def _example_lines(evaluation: Evaluation, judged: Judged) -> list[str]:
    scores = deciding_scores(evaluation, judged)
    if scores is None:
        return []
    lines = [_table_line(["", "image", LABELS[evaluation.deciding].title, "generated", "true"])]
    lines.append(_table_line(["---"] * 5))
    for kind, indices in zip(("best", "worst"), extremes(evaluation, judged), strict=True):
        for index in indices:
            example = evaluation.dataset.examples[index]
            text = judged.run.errors[index] or judged.run.texts[index]
            lines.append(
                _table_line([kind, example.id, f"{scores[index]:.3f}", text, " / ".join(example.texts)])
            )
    return lines


def _table_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_marked, cells)) + " |"


def _marked(text: str) -> str:
    """Escape untrusted text for Markdown and put it on one line."""
    escaped = "".join(f"\\{sign}" if sign in "\\`*_[]<>|#~&" else sign for sign in " ".join(text.split()))
    return one_line(escaped)
