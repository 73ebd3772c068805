"""What do photographs with keywords teach? Keeps its figures in ``benchmarks/results/learning.json``.

    python benchmarks/learning.py --data DIR --cache FOLDER

DIR holds ``coco-train.parquet`` and ``tiny-imagenet-val.parquet``; the vectors are kept in FOLDER. Keywords
are COCO's 80 objects and the 200 classes of Tiny ImageNet. Only photographs that clip-mini was not trained on
teach and judge: it was trained on seven of eight photographs of this COCO file, with these labels, and knows
their labels by heart. COCO's are judged in four parts, each by what the other three taught.

- ``shots``: mAP with at most N photographs a keyword, minus zero-shot mAP.
- ``hundred_tiny_imagenet``: the same with 100 photographs of each of 50 classes. There are so many only among
  the photographs that clip-mini was trained on, ``tiny-imagenet-train-0.parquet``; others judge.
- ``thresholds``: F1 at the learned thresholds, divided by F1 at each keyword's best threshold on the judged
  photographs themselves; micro-averaged over the keywords that were learned.
- ``incomplete``: mAP when every keyword is withheld from half of its photographs.
- ``corrections``: precision on 150 photographs before and after somebody corrected 200 others.
- ``fit``: seconds to learn 500 keywords from 20,000 vectors of 512, with cross-validation.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet
from PIL import Image

from autotag.learning.events import events
from autotag.learning.heads import fit_heads
from autotag.learning.lesson import FOLDS, Lesson, best_ridge, learn
from autotag.learning.teaching import Taught
from autotag.models.pool import ModelPool
from autotag.training.data import is_held_out
from autotag.vocabularies.templates import PHOTO, filled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from autotag.protocols import ImageTextEncoder

    Floats = NDArray[np.float32]
    Bools = NDArray[np.bool_]
    Places = NDArray[np.intp]

RESULTS = Path(__file__).parent / "results" / "learning.json"
PARTS = 4
FEWEST = 3


@dataclass(frozen=True, eq=False)
class Photographs:
    """Vectors (N, D), keywords (K,), and who has them (N, K)."""

    vectors: Floats
    keywords: list[str]
    present: Bools

    def rows(self, places: Places) -> Photographs:
        return Photographs(self.vectors[places], self.keywords, self.present[places])

    def taught(self) -> list[Taught]:
        columns = [np.flatnonzero(column) for column in self.present.T]
        return [
            Taught((word,), tuple(places.tolist()))
            for word, places in zip(self.keywords, columns, strict=True)
            if len(places)
        ]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--cache", type=Path, required=True)
    options.add_argument("--only", help="Measure one part again.")
    given = options.parse_args()
    encoder = ModelPool(encoder="clip-mini").encoder()
    coco = read(given.data / "coco-train.parquet", "labels", encoder, given.cache)
    tiny = read(given.data / "tiny-imagenet-val.parquet", "names", encoder, given.cache)
    about = {"encoder": encoder.id, "coco_photographs": len(coco.vectors)}
    sections: dict[str, Callable[[], Any]] = {
        "about": lambda: about,
        "shots_coco": lambda: {str(n or "all"): shots(coco, encoder, n) for n in (5, 20, None)},
        "shots_tiny_imagenet": lambda: {
            str(n): shots(tiny, encoder, n, parts=parts) for n, parts in ((5, 2), (20, 5))
        },
        "hundred_tiny_imagenet": lambda: hundred(given.data, tiny, encoder, given.cache),
        "thresholds_coco": lambda: thresholds(coco, encoder),
        "incomplete_coco": lambda: incomplete(coco, encoder),
        "corrections_coco": lambda: corrections(coco, encoder),
        "fit": fitting,
        "thresholds_tiny_imagenet": lambda: thresholds(tiny, encoder),
        "incomplete_tiny_imagenet": lambda: incomplete(tiny, encoder),
    }
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    for name, section in sections.items():
        if given.only in {None, name}:
            kept[name] = section()
            print(name, json.dumps(kept[name], indent=2), flush=True)
            RESULTS.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def read(file: Path, column: str, encoder: ImageTextEncoder, cache: Path) -> Photographs:
    """Return the photographs of a file that clip-mini was not trained on."""
    rows = pyarrow.parquet.read_table(file).to_pylist()
    if "file_name" in rows[0]:
        rows = [row for row in rows if is_held_out(row["file_name"])]
    labels = [row[column] if column == "labels" else row[column][:1] for row in rows]
    kept = cache / f"{file.stem}.npy"
    if not kept.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        np.save(kept, np.concatenate([embed(rows[n : n + 32], encoder) for n in range(0, len(rows), 32)]))
    keywords = sorted({label for some in labels for label in some})
    present = np.array([[word in some for word in keywords] for some in labels])
    return Photographs(np.load(kept), keywords, present)


def embed(rows: Sequence[dict[str, Any]], encoder: ImageTextEncoder) -> Floats:
    contents = [row["image"]["bytes"] if isinstance(row["image"], dict) else row["image"] for row in rows]
    return encoder.embed_images([Image.open(io.BytesIO(content)).convert("RGB") for content in contents])


def parts_of(photos: Photographs, parts: int = PARTS, seed: int = 0) -> list[tuple[Places, Places]]:
    """Return who teaches and who judges, for each part."""
    order = np.random.default_rng(seed).permutation(len(photos.vectors))
    judges = np.array_split(order, parts)
    return [(np.setdiff1d(order, judge), judge) for judge in judges]


def prior(photos: Photographs, encoder: ImageTextEncoder) -> Floats:
    return encoder.embed_texts([filled(PHOTO, word) for word in photos.keywords])


def fitted(photos: Photographs, texts: Floats) -> tuple[Places, Any]:
    """Return the heads of the keywords that have a photograph, and which these are."""
    known = np.flatnonzero(photos.present.any(axis=0))
    given = [np.flatnonzero(photos.present[:, place]) for place in known]
    folds = np.arange(len(photos.vectors)) % FOLDS
    testable = [place for place, some in enumerate(given) if len(some) >= FEWEST]
    ridge = best_ridge(photos.vectors, [given[place] for place in testable], texts[known[testable]], folds)
    return known, fit_heads(photos.vectors, given, texts[known], ridge=ridge)[0]


def scored(teachers: Photographs, judges: Photographs, texts: Floats) -> Floats:
    """Return the learned scores of the judges, (N, K); zero-shot where nothing was learned."""
    scores = judges.vectors @ texts.T
    known, heads = fitted(teachers, texts)
    scores[:, known] = heads.logits(judges.vectors)
    return scores


def mean_ap(scores: Floats, present: Bools) -> float:
    common = np.flatnonzero(present.sum(axis=0) >= FEWEST)
    return float(np.mean([average_precision(scores[:, place], present[:, place]) for place in common]))


def average_precision(scores: Floats, present: Bools) -> float:
    found = np.flatnonzero(present[np.argsort(-scores, kind="stable")])
    return float((np.arange(1, len(found) + 1) / (found + 1)).mean())


def shots(
    photos: Photographs, encoder: ImageTextEncoder, most: int | None, parts: int = PARTS
) -> dict[str, float]:
    texts = prior(photos, encoder)
    before, after, counts = [], [], []
    for number, (teach, judge) in enumerate(parts_of(photos, parts)):
        teachers, judges = photos.rows(teach), photos.rows(judge)
        if most is not None:
            teachers = teachers.rows(drawn(teachers, most, number))
        counts.append(float(np.median(teachers.present.sum(axis=0))))
        before.append(mean_ap(judges.vectors @ texts.T, judges.present))
        after.append(mean_ap(scored(teachers, judges, texts), judges.present))
    return rounded(
        zero_shot=np.mean(before),
        learned=np.mean(after),
        gain=np.mean(after) - np.mean(before),
        median_photographs=np.mean(counts),
    )


def hundred(data: Path, tiny: Photographs, encoder: ImageTextEncoder, cache: Path) -> dict[str, float]:
    """Learn 50 classes from 100 photographs each, and judge on others."""
    some = np.arange(0, len(tiny.keywords), 4)
    words = [tiny.keywords[place] for place in some]
    due = dict.fromkeys(words, 100)
    rows = []
    for row in pyarrow.parquet.read_table(data / "tiny-imagenet-train-0.parquet").to_pylist():
        if due.get(row["names"][0], 0):
            due[row["names"][0]] -= 1
            rows.append(row)
    kept = cache / "tiny-imagenet-train-0.npy"
    if not kept.is_file():
        np.save(kept, np.concatenate([embed(rows[n : n + 32], encoder) for n in range(0, len(rows), 32)]))
    teachers = Photographs(
        np.load(kept), words, np.array([[row["names"][0] == word for word in words] for row in rows])
    )
    judging = np.flatnonzero(tiny.present[:, some].any(axis=1))
    judges = Photographs(tiny.vectors[judging], words, tiny.present[np.ix_(judging, some)])
    texts = prior(judges, encoder)
    before = mean_ap(judges.vectors @ texts.T, judges.present)
    after = mean_ap(scored(teachers, judges, texts), judges.present)
    return rounded(zero_shot=before, learned=after, gain=after - before, photographs=len(rows))


def drawn(photos: Photographs, most: int, seed: int) -> Places:
    """Return photographs that hold ``most`` of each keyword, where there are so many; some hold several."""
    draw = np.random.default_rng(seed)
    some = [draw.permutation(np.flatnonzero(column))[:most] for column in photos.present.T]
    return np.unique(np.concatenate(some))


def withheld(photos: Photographs, seed: int = 0) -> Photographs:
    """Return the photographs without each keyword on half of those that have it."""
    draw = np.random.default_rng(seed)
    present = photos.present.copy()
    for column in present.T:
        places = np.flatnonzero(column)
        column[draw.permutation(places)[: len(places) // 2]] = False
    return Photographs(photos.vectors, photos.keywords, present)


def incomplete(photos: Photographs, encoder: ImageTextEncoder) -> dict[str, float]:
    texts = prior(photos, encoder)
    whole, half = [], []
    for teach, judge in parts_of(photos):
        teachers, judges = photos.rows(teach), photos.rows(judge)
        whole.append(mean_ap(scored(teachers, judges, texts), judges.present))
        half.append(mean_ap(scored(withheld(teachers), judges, texts), judges.present))
    return rounded(complete=np.mean(whole), half=np.mean(half), fall=np.mean(whole) - np.mean(half))


def lesson_of(photos: Photographs, encoder: ImageTextEncoder, removed: Sequence[Places] = ()) -> Lesson:
    alone = [""] * len(photos.vectors)
    groups = events(alone, [None] * len(alone), photos.vectors)
    by_word = dict(zip(photos.keywords, removed, strict=False))
    taught = [
        Taught(one.path, one.given, tuple(by_word[one.path[0]].tolist()) if removed else ())
        for one in photos.taught()
    ]
    return learn(taught, photos.vectors, groups, encoder)


def proposals(lesson: Lesson, judges: Photographs) -> tuple[Floats, Bools, Bools]:
    """Return probabilities, what is proposed and what is right, (N, learned keywords)."""
    columns = [judges.keywords.index(one.text) for one in lesson.learned.keywords]
    found, proposed = lesson.learned.suggested(judges.vectors)
    return found, proposed, judges.present[:, columns]


def thresholds(photos: Photographs, encoder: ImageTextEncoder) -> dict[str, float]:
    hits = np.zeros(3)
    best_hits = np.zeros(3)
    refused = learned = 0
    for teach, judge in parts_of(photos):
        lesson = lesson_of(photos.rows(teach), encoder)
        refused, learned = refused + len(lesson.refused), learned + len(lesson.learned.keywords)
        found, proposed, right = proposals(lesson, photos.rows(judge))
        hits += counted(proposed, right)
        for column in range(found.shape[1]):
            best_hits += best_counts(found[:, column], right[:, column])
    return rounded(
        f1=f1(hits), best=f1(best_hits), ratio=f1(hits) / f1(best_hits), learned=learned, refused=refused
    )


def counted(proposed: Bools, right: Bools) -> NDArray[np.float64]:
    return np.array([(proposed & right).sum(), proposed.sum(), right.sum()], dtype=np.float64)


def best_counts(found: Floats, right: Bools) -> NDArray[np.float64]:
    if not right.any():
        return np.zeros(3)
    order = np.argsort(-found, kind="stable")
    hits = np.cumsum(right[order])
    kept = np.arange(1, len(order) + 1)
    best = int(np.argmax(2 * hits / (kept + right.sum())))
    return np.array([hits[best], kept[best], right.sum()], dtype=np.float64)


def f1(hits: NDArray[np.float64]) -> float:
    return float(2 * hits[0] / max(hits[1] + hits[2], 1))


def corrections(photos: Photographs, encoder: ImageTextEncoder) -> dict[str, float]:
    """Learn from the first photographs; somebody corrects the next 200; judge the last ones."""
    before, after, same = np.zeros(3), np.zeros(3), np.zeros(3)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(photos.vectors))
        first, corrected, last = order[:-350], order[-350:-150], photos.rows(order[-150:])
        lesson = lesson_of(photos.rows(first), encoder)
        _, proposed, right = proposals(lesson, photos.rows(corrected))
        both = photos.rows(np.concatenate([first, corrected]))
        wrong = {
            one.text: np.flatnonzero(column) + len(first)
            for one, column in zip(lesson.learned.keywords, (proposed & ~right).T, strict=True)
        }
        removed = [wrong.get(word, np.empty(0, dtype=np.intp)) for word in photos.keywords]
        again = lesson_of(both, encoder, removed)
        before += counted(*proposals(lesson, last)[1:])
        _, proposed, right = proposals(again, last)
        after += counted(proposed, right)
        known = [one.text in wrong for one in again.learned.keywords]
        same += counted(proposed[:, known], right[:, known])
    return rounded(
        precision_before=before[0] / before[1],
        precision_after=after[0] / after[1],
        precision_after_of_these_keywords=same[0] / same[1],
        recall_before=before[0] / before[2],
        recall_after=after[0] / after[2],
        f1_before=f1(before),
        f1_after=f1(after),
        proposed_before=before[1],
        proposed_after=after[1],
    )


def fitting() -> dict[str, float]:
    draw = np.random.default_rng(0)
    texts = unit(draw.normal(size=(500, 512)))
    vectors = unit(draw.normal(size=(20_000, 512)) + 2)
    scores = vectors @ texts.T
    given = [np.argsort(-scores[:, place])[: int(draw.integers(8, 400))] for place in range(500)]
    folds = draw.integers(0, 3, size=len(vectors))
    start, worked = time.perf_counter(), time.process_time()
    fit_heads(vectors, given, texts, ridge=best_ridge(vectors, given, texts, folds), folds=folds)
    return rounded(seconds=time.perf_counter() - start, processor_seconds=time.process_time() - worked)


def unit(rows: NDArray[np.float64]) -> Floats:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def rounded(**figures: Any) -> dict[str, float]:
    return {name: round(float(figure), 4) for name, figure in figures.items()}


if __name__ == "__main__":
    main()
