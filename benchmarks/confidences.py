"""How sure is a tag? Fits the logistic maps of the card of ``clip-mini``, and judges them.

    python benchmarks/confidences.py --data DIR

Keeps its figures in ``results/confidences.json``. DIR as for ``mini_models.py``, whose photographs are
used; no model was trained on them.

- cosines of the tags of preset mini: on Flickr8k a tag is right if a human caption says all its words; on
  COCO it is right if the object is there, and tags that name none of the 80 objects are left out. Both are
  pooled.
- standardised scores of labels that a request names: the names of COCO's 80 objects.

A map is fitted to a random half of the photographs and judged on the other: the expected calibration error
over ten equal parts (Naeini et al. 2015), and the Brier score, also of the maps that uncalibrated encoders
get. The maps of the card are then fitted to all photographs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet
from mini_models import circumstances, held_out, opened
from sklearn.linear_model import LogisticRegression

import autotag
from autotag.evaluation.metrics.caption_words import content_words, is_said
from autotag.models.cards import find_card
from autotag.relevance.scores import STANDARDISED_CUT, LogisticMap
from autotag.server.core.wishes import Pipelines, Wish
from autotag.vocabularies.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

RESULTS = Path(__file__).parent / "results" / "confidences.json"
PARTS = 10

Judged = list[tuple[float, bool]]
"""The scores of one photograph's tags, and whether each is right."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--data", type=Path, required=True)
    data = options.parse_args().data
    flickr = pyarrow.parquet.read_table(data / "flickr8k-val.parquet").to_pylist()
    coco = held_out(data / "coco-train.parquet")
    names = sorted({label for row in coco for label in row["labels"]})
    with autotag.load("mini") as tagger:
        said, seen = list(by_captions(tagger, flickr)), list(by_objects(tagger, coco, names))
        labelled = asyncio.run(Pipelines({"mini": tagger}).of(Wish(labels=tuple(names))))
        named = [
            [(tag.score, tag.text in row["labels"]) for tag in result.tags]
            for result, row in zip(labelled.stream(pictures(coco)), coco, strict=True)
        ]
    card = find_card("clip-mini", "encoder")
    assert card is not None
    cut = card.default_thresholds["cosine"]
    figures = {
        "cosine": report({"Flickr8k": said, "COCO": seen}, LogisticMap(25.0, cut)),
        "standardised": report({"COCO": named}, LogisticMap(1.6, STANDARDISED_CUT)),
    }
    print(json.dumps(figures, indent=2))
    RESULTS.write_text(json.dumps({**circumstances(), **figures}, indent=2) + "\n")


def pictures(rows: list[dict[str, Any]]) -> Iterator[Any]:
    return (opened(row["image"]) for row in rows)


def by_captions(tagger: autotag.Pipeline, rows: list[dict[str, Any]]) -> Iterator[Judged]:
    for result, row in zip(tagger.stream(pictures(rows)), rows, strict=True):
        captions = [content_words(caption) for caption in row["captions"]]
        yield [(tag.score, is_said(tag.text, captions)) for tag in result.tags]


def by_objects(tagger: autotag.Pipeline, rows: list[dict[str, Any]], names: list[str]) -> Iterator[Judged]:
    things = Vocabulary.bundled("things")
    label_of = {name.casefold(): label for label in things for name in things.names(label)}
    objects = {label_of[name] for name in names}
    for result, row in zip(tagger.stream(pictures(rows)), rows, strict=True):
        present = {label_of[label] for label in row["labels"]}
        labelled = [(tag.score, label_of.get(tag.text.casefold())) for tag in result.tags]
        yield [(score, label in present) for score, label in labelled if label in objects]


def report(sets: dict[str, list[Judged]], uncalibrated: LogisticMap) -> dict[str, Any]:
    random = np.random.default_rng(0)
    halves = {}
    for name, photographs in sets.items():
        order = random.permutation(len(photographs))
        middle = len(order) // 2
        halves[name] = [[photographs[place] for place in part] for part in (order[:middle], order[middle:])]
    fitted = fit([photo for half, _ in halves.values() for photo in half])
    final = fit([photo for photographs in sets.values() for photo in photographs])
    judged = {
        name: {
            "tags": len(flat(half)[0]),
            "right": float(flat(half)[1].mean()),
            "mean confidence": float(np.mean(chances(fitted, half))),
            "calibration error": calibration_error(fitted, half),
            "Brier": brier(fitted, half),
            "calibration error, uncalibrated": calibration_error(uncalibrated, half),
            "Brier, uncalibrated": brier(uncalibrated, half),
        }
        for name, (_, half) in halves.items()
    }
    return {"slope": final.slope, "middle": final.middle, "judged on the other half": judged}


def flat(photographs: list[Judged]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(tags,) scores, and 1 for right."""
    rows = np.array([row for photograph in photographs for row in photograph], dtype=np.float64)
    return rows[:, 0], rows[:, 1]


def fit(photographs: list[Judged]) -> LogisticMap:
    scores, right = flat(photographs)
    centre, unit = scores.mean(), scores.std()
    model = LogisticRegression(C=np.inf).fit(((scores - centre) / unit)[:, None], right)
    slope = float(model.coef_[0, 0] / unit)
    return LogisticMap(slope, float(centre - model.intercept_[0] / slope))


def chances(curve: LogisticMap, photographs: list[Judged]) -> NDArray[np.float64]:
    return np.array([curve.probability(score) for score in flat(photographs)[0]])


def calibration_error(curve: LogisticMap, photographs: list[Judged]) -> float:
    found, right = chances(curve, photographs), flat(photographs)[1]
    parts = np.array_split(np.argsort(found, kind="stable"), PARTS)
    return float(sum(len(part) * abs(found[part].mean() - right[part].mean()) for part in parts) / len(found))


def brier(curve: LogisticMap, photographs: list[Judged]) -> float:
    return float(np.mean((chances(curve, photographs) - flat(photographs)[1]) ** 2))


if __name__ == "__main__":
    main()
