"""How many ordinary photographs are flagged by mistake, and what does moderation cost?

    python benchmarks/moderation.py --data DIR

Keeps its figures in ``results/moderation.json``. DIR as for ``mini_models.py``: ``flickr8k-val.parquet`` and
the held-out part of ``coco-train.parquet``, everyday photographs that nobody would keep from people, and that
none of the models was trained on. So every flag is a false alarm. What is missed cannot be judged here: there
are no pictures that should be flagged.

For each model and data set: the share of photographs that are flagged at the model's own threshold, with the
95 % interval of Wilson (1927), the share at other thresholds, and the milliseconds per photograph of the
whole pipeline, decoding included.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet
from mini_models import circumstances, held_out, opened

import autotag
from autotag.stages import ModerateImages

RESULTS = Path(__file__).parent / "results" / "moderation.json"
MODELS = {
    "opennsfw": ModerateImages("opennsfw"),
    "zero-shot, clip-mini": ModerateImages("zero-shot", encoder="clip-mini"),
}
THRESHOLDS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--data", type=Path, required=True)
    data = options.parse_args().data
    sets = {
        "Flickr8k val": pyarrow.parquet.read_table(data / "flickr8k-val.parquet").to_pylist(),
        "COCO held out": held_out(data / "coco-train.parquet"),
    }
    figures: dict[str, dict[str, Any]] = {model: {} for model in MODELS}
    for name, rows in sets.items():
        for model, stage in MODELS.items():
            figures[model][name] = judged(stage, rows)
            print(model, name, json.dumps(figures[model][name]), flush=True)
    RESULTS.write_text(json.dumps({**circumstances(), **figures}, indent=2) + "\n")


def judged(stage: ModerateImages, rows: list[dict[str, Any]]) -> dict[str, Any]:
    with autotag.Pipeline([stage]) as tagger:
        tagger(opened(rows[0]["image"]))
        started = time.perf_counter()
        results = list(tagger.stream(opened(row["image"]) for row in rows))
        seconds = time.perf_counter() - started
    worst = [max(one.probability for one in result.moderation if one.label != "safe") for result in results]
    flagged = [result for result in results if result.flagged]
    names = [one.label for result in flagged for one in result.moderation if one.flagged]
    return {
        "photographs": len(results),
        "flagged": len(flagged),
        "share flagged": len(flagged) / len(results),
        "95 % interval": wilson(len(flagged), len(results)),
        "labels": {name: names.count(name) for name in sorted(set(names))},
        "share at threshold": {
            str(least): sum(chance >= least for chance in worst) / len(worst) for least in THRESHOLDS
        },
        "milliseconds per photograph": round(1000 * seconds / len(results), 1),
    }


def wilson(hits: int, count: int) -> list[float]:
    share, z = hits / count, 1.96
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return [round(max(0.0, (middle + sign * half) / (1 + z * z / count)), 4) for sign in (-1, 1)]


if __name__ == "__main__":
    main()
