"""Does one threshold fit every encoder? Prints tables, keeps them in ``benchmarks/results/thresholds.json``.

    python benchmarks/threshold_encoders.py --data DIR --output ENCODERS      # once
    python benchmarks/thresholds.py --data DIR --encoders ENCODERS

DIR holds ``flickr8k-val.parquet`` and ``tiny-imagenet-val.parquet``, on whose photographs no encoder was
trained. clip-mini is compared with every folder in ENCODERS, on three kinds of tags:

- proposed: what the captions and keyphrases of preset mini propose for each Flickr8k photograph; right is
  what all words of a human caption bear out (``autotag.evaluation.metrics.caption_words``).
- words: every content word that the captions of at least six photographs share, on every photograph; right
  where a caption of the photograph has it.
- classes: the 200 class names of Tiny ImageNet on every fifth of its photographs; right is its own.

Cuts are fitted to the photographs at even places and judged on those at odd places by F1, summed over tags.
Per score: each encoder's own best cut; one cut for all encoders, the one whose worst loss against the own
cuts is least on the fitting half; and the same leaving one out: the cut that the other encoders share.
Scores besides those of ``FilterTags`` are compared to choose: see ``SCORES``.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet
from mini_models import circumstances, embed, opened

import autotag
from autotag.evaluation.calibration import Proposals, fit_cut, held_out
from autotag.evaluation.metrics.caption_words import content_words, is_said
from autotag.models.pool import ModelPool
from autotag.relevance.scores import LOWEST, STANDARDISED_CUT
from autotag.relevance.unrelated_labels import unrelated_labels
from autotag.vocabularies.templates import PHOTO, filled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from autotag.protocols import ImageTextEncoder

    Rows = NDArray[np.float64]
    Rescale = Callable[["Levels", Rows], Rows]

RESULTS = Path(__file__).parent / "results" / "thresholds.json"
KEPT_CLOSE = 0.95
"""The share of its own best F1 that each encoder must keep at the shared cut."""


@dataclass(frozen=True)
class Task:
    """Photographs, the tags to be judged on each, and which of them are right."""

    rows: list[dict[str, Any]]
    tags: list[list[str]]
    right: list[NDArray[np.bool_]]


@dataclass(frozen=True)
class Levels:
    """One photograph: the cosines of the unrelated labels; and the labels' own over other photographs."""

    unrelated: Rows
    label_mean: Rows
    label_spread: Rows


def by_deviation(levels: Levels, cosines: Rows) -> Rows:
    return np.asarray((cosines - levels.unrelated.mean()) / levels.unrelated.std())


def standardised(levels: Levels, cosines: Rows) -> Rows:
    middle, high = np.quantile(levels.unrelated, [0.5, 0.95])
    return np.asarray((cosines - middle) / (high - middle))


def above_the_best(levels: Levels, cosines: Rows) -> Rows:
    middle, high = np.quantile(levels.unrelated, [0.5, 0.99])
    return np.asarray((cosines - middle) / (high - middle))


def by_rank(levels: Levels, cosines: Rows) -> Rows:
    ordered = np.sort(levels.unrelated)
    above = len(ordered) - np.searchsorted(ordered, cosines)
    return -np.log((above + 0.5) / (len(ordered) + 1))


def by_label(levels: Levels, cosines: Rows) -> Rows:
    return (cosines - levels.label_mean) / levels.label_spread


SCORES: Mapping[str, Rescale] = {
    "cosine": lambda _levels, cosines: cosines,
    "cosine above the unrelated labels' mean": lambda levels, cosines: cosines - levels.unrelated.mean(),
    "mean and standard deviation": by_deviation,
    "standardised": standardised,
    "median and 99th percentile": above_the_best,
    "rank among the unrelated labels": by_rank,
    "per label over other photographs": by_label,
}
"""Name -> how a photograph's cosines become scores."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--encoders", type=Path, required=True)
    given = options.parse_args()
    places = {"clip-mini": "clip-mini", **{place.name: str(place) for place in folders(given.encoders)}}
    tasks = read_tasks(given.data)
    if len(places) < 2:
        options.error(f"no encoder in {given.encoders}; threshold_encoders.py makes them")
    encoders = {name: ModelPool(encoder=place).encoder() for name, place in places.items()}
    scored = {name: score_tasks(encoder, tasks) for name, encoder in encoders.items()}
    found = {
        task: {
            score: compared({encoder: scored[encoder][task][score] for encoder in places}) for score in SCORES
        }
        for task in tasks
    }
    found["all three kinds of tags"] = {
        score: compared({f"{name}, {task}": scored[name][task][score] for name in places for task in tasks})
        for score in SCORES
    }
    for task, table in found.items():
        show(task, table)
    sizes = numbers_of_labels(encoders["clip-mini"], tasks["proposed"])
    RESULTS.parent.mkdir(exist_ok=True)
    figures = {"encoders": list(places), **found, "clip-mini, proposed, by number of unrelated labels": sizes}
    RESULTS.write_text(json.dumps({**circumstances(), **figures}, indent=2) + "\n")


def numbers_of_labels(encoder: ImageTextEncoder, task: Task) -> dict[str, Any]:
    """What the standardised score owes to the number of unrelated labels: draws of them at random."""
    unrelated = embed_texts(encoder, unrelated_labels())
    vectors = embedded(encoder, task)
    generator = np.random.default_rng(0)
    found = {}
    for size in (25, 50, 100, 200, 400, len(unrelated)):
        draws = 5 if size < len(unrelated) else 1
        drawn = [generator.choice(len(unrelated), size=size, replace=False) for _ in range(draws)]
        images = [score_task(vectors, task, unrelated[rows])["standardised"] for rows in drawn]
        cuts = [fit_cut(one[::2], top_k=None) for one in images]
        own = [f1_at(pooled(one[1::2]), cut) for one, cut in zip(images, cuts, strict=True)]
        found[str(size)] = {"own cuts": cuts, "F1 at its own cut": own}
        print(f"{size} unrelated labels: own cuts {np.round(cuts, 2)}, F1 {np.round(own, 3)}")
    return found


def folders(place: Path) -> list[Path]:
    return sorted(file.parent for file in place.glob("*/open_clip_config.json"))


def read_tasks(data: Path) -> dict[str, Task]:
    flickr = pyarrow.parquet.read_table(data / "flickr8k-val.parquet").to_pylist()
    tiny = pyarrow.parquet.read_table(data / "tiny-imagenet-val.parquet").to_pylist()[::5]
    said = [[content_words(caption) for caption in row["captions"]] for row in flickr]
    proposed = proposals(flickr)
    words = shared_words(said)
    classes = sorted({row["names"][0] for row in tiny})
    return {
        "proposed": Task(
            flickr,
            proposed,
            [
                np.array([is_said(tag, captions) for tag in tags], dtype=bool)
                for tags, captions in zip(proposed, said, strict=True)
            ],
        ),
        "words": Task(
            flickr,
            [words] * len(flickr),
            [np.isin(words, list(frozenset().union(*captions))) for captions in said],
        ),
        "classes": Task(tiny, [classes] * len(tiny), [np.isin(classes, row["names"][0]) for row in tiny]),
    }


def proposals(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """What preset mini proposes, before its filter cuts."""
    uncut = {"score": "cosine", "threshold": LOWEST["cosine"], "top_k": None}
    with autotag.load("mini", filter_tags=uncut) as tagger:
        return [[tag.text for tag in one.tags] for one in tagger.stream(opened(row["image"]) for row in rows)]


def shared_words(said: Sequence[Sequence[frozenset[str]]]) -> list[str]:
    """Words that two captions of one photograph use, of at least six photographs."""
    counts = Counter(
        word
        for captions in said
        for word, times in Counter(word for caption in captions for word in caption).items()
        if times >= 2 and len(word) > 2
    )
    return sorted(word for word, count in counts.items() if count >= 6)


def score_tasks(
    encoder: ImageTextEncoder, tasks: Mapping[str, Task]
) -> dict[str, dict[str, list[Proposals]]]:
    """By task and score, what one encoder gives to every photograph's tags."""
    unrelated = embed_texts(encoder, unrelated_labels())
    return {name: score_task(embedded(encoder, task), task, unrelated) for name, task in tasks.items()}


def score_task(
    embedded: tuple[dict[str, int], Rows, Rows], task: Task, labels: Rows
) -> dict[str, list[Proposals]]:
    number, images, cosines = embedded
    unrelated = images @ labels.T
    mean, spread = cosines[::2].mean(axis=0), cosines[::2].std(axis=0)  # the fitting half, as if a bank
    scored: dict[str, list[Proposals]] = {score: [] for score in SCORES}
    for place, (tags, right) in enumerate(zip(task.tags, task.right, strict=True)):
        columns = [number[tag] for tag in tags]
        levels = Levels(unrelated[place], mean[columns], spread[columns])
        for score, rescale in SCORES.items():
            scored[score].append(ranked(rescale(levels, cosines[place, columns]), right))
    return scored


def embedded(encoder: ImageTextEncoder, task: Task) -> tuple[dict[str, int], Rows, Rows]:
    """Columns of the tags, the photographs' vectors (B, D), and cosines of both (B, T)."""
    texts = list(dict.fromkeys(tag for tags in task.tags for tag in tags))
    images = embed(encoder, task.rows).astype(np.float64)
    return {text: place for place, text in enumerate(texts)}, images, images @ embed_texts(encoder, texts).T


def embed_texts(encoder: ImageTextEncoder, texts: Sequence[str]) -> Rows:
    rows = [
        encoder.embed_texts([filled(PHOTO, text) for text in texts[at : at + 512]])
        for at in range(0, len(texts), 512)
    ]
    return np.concatenate(rows).astype(np.float64)


def ranked(scores: Rows, right: NDArray[np.bool_]) -> Proposals:
    order = np.argsort(-scores, kind="stable")
    return Proposals(scores[order], right[order])


def compared(of: Mapping[str, list[Proposals]]) -> dict[str, Any]:
    """Own, shared and left-out cuts of several encoders, and what each keeps of its own best F1."""
    fitting = {name: pooled(images[::2]) for name, images in of.items()}
    judging = {name: pooled(images[1::2]) for name, images in of.items()}
    own = {name: fit_cut(images[::2], top_k=None) for name, images in of.items()}
    best = {name: f1_at(fitting[name], own[name]) for name in of}
    shared = shared_cut(fitting, best)
    rows = {name: one_row(images[1::2], judging[name], own[name], shared) for name, images in of.items()}
    for name, row in rows.items():
        others = {other: pool for other, pool in fitting.items() if other != name}
        row["left-out cut"] = shared_cut(others, best)
        row["F1 at the left-out cut"] = f1_at(judging[name], row["left-out cut"])
    kept = [row["F1 at the shared cut"] / row["F1 at its own cut"] for row in rows.values()]
    kept_left_out = [row["F1 at the left-out cut"] / row["F1 at its own cut"] for row in rows.values()]
    return {
        "shared cut": shared,
        "least share of the own F1 kept": min(kept),
        "the same, left out": min(kept_left_out),
        "within 5 %": min(kept) >= KEPT_CLOSE,
        "encoders": rows,
    }


def one_row(
    images: Sequence[Proposals], pool: tuple[Rows, Rows, int], own: float, shared: float
) -> dict[str, Any]:
    figure = held_out(images, own, top_k=None, seed=0)["f1"]
    assert figure.interval is not None
    return {
        "own cut": own,
        "F1 at its own cut": figure.value,
        "its 95 % interval": [figure.interval.low, figure.interval.high],
        "F1 at the shared cut": f1_at(pool, shared),
        f"F1 at {STANDARDISED_CUT}": f1_at(pool, STANDARDISED_CUT),
        "F1 when every tag stays": f1_at(pool, -np.inf),
    }


def pooled(images: Sequence[Proposals]) -> tuple[Rows, Rows, int]:
    """Scores in rising order, how many right tags have at least each, and how many are right."""
    scores = np.concatenate([image.scores for image in images])
    right = np.concatenate([image.right for image in images])
    order = np.argsort(scores, kind="stable")
    from_here = np.cumsum(right[order][::-1])[::-1].astype(np.float64)
    return scores[order], np.append(from_here, 0.0), int(right.sum())


def f1_at(pool: tuple[Rows, Rows, int], cut: float) -> float:
    scores, right_from, total = pool
    first = int(np.searchsorted(scores, cut))
    return float(2 * right_from[first] / (len(scores) - first + total))


def shared_cut(pools: Mapping[str, tuple[Rows, Rows, int]], best: Mapping[str, float]) -> float:
    """The cut whose worst loss against the own best F1 is least."""
    quantiles = np.linspace(0.0, 1.0, 2001)
    grid = np.unique(np.concatenate([np.quantile(scores, quantiles) for scores, _, _ in pools.values()]))
    kept = [min(f1_at(pool, cut) / best[name] for name, pool in pools.items()) for cut in grid]
    return float(grid[int(np.argmax(kept))])


def show(task: str, table: Mapping[str, dict[str, Any]]) -> None:
    print(f"\n{task}")
    for score, found in table.items():
        print(
            f"  {score}: shared cut {found['shared cut']:.3f} keeps "
            f"{found['least share of the own F1 kept']:.3f}, left out {found['the same, left out']:.3f}"
        )
        for name, row in found["encoders"].items():
            low, high = row["its 95 % interval"]
            print(
                f"    {name:22s} own cut {row['own cut']:7.3f}  F1 {row['F1 at its own cut']:.3f} "
                f"({low:.3f}-{high:.3f})  shared {row['F1 at the shared cut']:.3f}  "
                f"left out {row['F1 at the left-out cut']:.3f}"
            )


if __name__ == "__main__":
    main()
