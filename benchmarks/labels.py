"""What do labels straight from the image add to preset mini? Keeps its table in ``results/labels.json``.

    python benchmarks/labels.py --data DIR

DIR as for ``mini_models.py``, whose photographs are used. The preset runs with its labels, with all that
reach the cut of ``filter_tags``, and without any.

- Flickr8k: tags a photograph; the share that is right as in ``mini_models.py``; F1 of that share and of the
  share of the captions' content words that right tags cover.
- COCO: F1 on the names of the 80 objects (synonyms count); other tags are neither right nor wrong.
- ImageNet: a right name, synonym or broader term among the five best tags.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet
from mini_models import circumstances, held_out, opened, right_names

import autotag
from autotag.evaluation.metrics.caption_words import content_words, is_said
from autotag.vocabularies.vocabulary import Vocabulary

if TYPE_CHECKING:
    from autotag.records import Result

RESULTS = Path(__file__).parent / "results" / "labels.json"
WAYS: dict[str, dict[str, Any]] = {
    "phrases only": {"threshold": 1.0},
    "labels as in the preset": {},
    "labels from the cut of filter_tags": {"threshold": None},
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--data", type=Path, required=True)
    data = options.parse_args().data
    flickr = pyarrow.parquet.read_table(data / "flickr8k-val.parquet").to_pylist()
    coco = held_out(data / "coco-train.parquet")
    photos = sorted((data / "photos").glob("*.JPEG"))
    figures = {}
    for name, changes in WAYS.items():
        with autotag.load("mini", match_vocabulary=changes) as tagger:
            figures[name] = {
                **said(list(tagger.stream(opened(row["image"]) for row in flickr)), flickr),
                "F1, COCO": seen(list(tagger.stream(opened(row["image"]) for row in coco)), coco),
                "right name among five, ImageNet": right_names(list(tagger.stream(photos))),
            }
        print(name, {figure: round(value, 3) for figure, value in figures[name].items()}, flush=True)
    RESULTS.write_text(json.dumps({**circumstances(), **figures}, indent=2) + "\n")


def said(results: list[Result], rows: list[dict[str, Any]]) -> dict[str, float]:
    tags = right = covered = words = 0
    for result, row in zip(results, rows, strict=True):
        captions = [content_words(caption) for caption in row["captions"]]
        mine = [tag.text for tag in result.tags if is_said(tag.text, captions)]
        everything = frozenset[str]().union(*captions)
        tags, right, words = tags + len(result.tags), right + len(mine), words + len(everything)
        covered += len({word for text in mine for word in content_words(text)} & everything)
    precision, recall = right / tags, covered / words
    return {
        "tags a photograph, Flickr8k": tags / len(rows),
        "right, Flickr8k": precision,
        "F1, Flickr8k": 2 * precision * recall / (precision + recall),
    }


def seen(results: list[Result], rows: list[dict[str, Any]]) -> float:
    things = Vocabulary.bundled("things")
    label_of = {name.casefold(): label for label in things for name in things.names(label)}
    objects = {label_of[label] for row in rows for label in row["labels"]}
    right = found = there = 0
    for result, row in zip(results, rows, strict=True):
        present = {label_of[label] for label in row["labels"]}
        mine = {label_of.get(tag.text.casefold()) for tag in result.tags} & objects
        right, found, there = right + len(mine & present), found + len(mine), there + len(present)
    return 2 * right / (found + there)


if __name__ == "__main__":
    main()
