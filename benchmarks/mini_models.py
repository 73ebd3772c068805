"""How good are the bundled mini models? Prints a table, keeps it in ``benchmarks/results/mini_models.json``.

    python benchmarks/mini_models.py --data DIR

DIR holds ``flickr8k-val.parquet`` (columns ``image``, ``captions``) and ``tiny-imagenet-val.parquet``
(``image``, ``wnid``, ``names``); neither is used in training. Needs the extra ``autotag[train]``.

- zero-shot top-1: each Tiny ImageNet photograph against "a photo of a <first name>" of its 200 classes.
- R@5: share of Flickr8k photographs with one of their own captions among the five nearest of all captions.
- CIDEr-D: the pipeline's captions against the five human captions (1.0 is often written as 100).
- tags: a tag counts as right if all its words are content words of one human caption of its photograph, after
  lower-casing and lemmatising. The baseline gives every photograph the same five commonest content words.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import time
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet
from PIL import Image

import autotag
from autotag.evaluation.caption_words import content_words, is_said
from autotag.evaluation.captions import CiderD
from autotag.models.pool import ModelPool

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from autotag.protocols import ImageTextEncoder
    from autotag.records import Result

RESULTS = Path(__file__).parent / "results" / "mini_models.json"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--preset", default="mini")
    given = options.parse_args()
    flickr = pyarrow.parquet.read_table(given.data / "flickr8k-val.parquet").to_pylist()
    tiny = pyarrow.parquet.read_table(given.data / "tiny-imagenet-val.parquet").to_pylist()
    with autotag.load(given.preset) as tagger:
        encoder = ModelPool(encoder=tagger.encoder).encoder()
        started = time.perf_counter()
        results = list(tagger.stream(opened(row["image"]) for row in flickr))
        seconds = time.perf_counter() - started
    references = [row["captions"] for row in flickr]
    figures = {
        "zero-shot top-1, Tiny ImageNet": zero_shot(encoder, tiny),
        "image-to-text R@5, Flickr8k": recall_at_5(encoder, flickr),
        "CIDEr-D, Flickr8k": CiderD(references).mean([result.caption for result in results]),
        "distinct captions": len({result.caption for result in results}) / len(results),
        **tag_figures(results, references),
        "images per second, whole pipeline": len(results) / seconds,
    }
    for name, figure in figures.items():
        print(f"{name:44s} {figure:8.4f}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"preset": given.preset, **circumstances(), **figures}, indent=2) + "\n")


def opened(encoded: bytes) -> Image.Image:
    return Image.open(io.BytesIO(encoded)).convert("RGB")


def embed(encoder: ImageTextEncoder, rows: list[dict[str, Any]]) -> NDArray[np.float32]:
    batches = [rows[at : at + 256] for at in range(0, len(rows), 256)]
    return np.concatenate(
        [encoder.embed_images([opened(row["image"]) for row in batch]) for batch in batches]
    )


def zero_shot(encoder: ImageTextEncoder, rows: list[dict[str, Any]]) -> float:
    names = {row["wnid"]: row["names"][0] for row in rows}
    classes = sorted(names)
    texts = encoder.embed_texts([f"a photo of a {names[wnid]}" for wnid in classes])
    guesses = (embed(encoder, rows) @ texts.T).argmax(axis=1)
    return float(np.mean([classes[guess] == row["wnid"] for guess, row in zip(guesses, rows, strict=True)]))


def recall_at_5(encoder: ImageTextEncoder, rows: list[dict[str, Any]]) -> float:
    owners = np.array([image for image, row in enumerate(rows) for _ in row["captions"]])
    texts = encoder.embed_texts([caption for row in rows for caption in row["captions"]])
    nearest = np.argsort(-(embed(encoder, rows) @ texts.T), axis=1)[:, :5]
    return float((owners[nearest] == np.arange(len(rows))[:, None]).any(axis=1).mean())


def tag_figures(results: list[Result], references: list[list[str]]) -> dict[str, float]:
    captions = [[content_words(caption) for caption in texts] for texts in references]
    commonest = Counter(word for texts in captions for word in frozenset().union(*texts))
    baseline = [word for word, _ in commonest.most_common(5)]
    tags = [[tag.text for tag in result.tags] for result in results]
    kept = [is_said(tag, texts) for row, texts in zip(tags, captions, strict=True) for tag in row]
    same = [is_said(word, texts) for texts in captions for word in baseline]
    return {
        "tags right": float(np.mean(kept)),
        "tags right, same five words for every photo": float(np.mean(same)),
        "distinct tags per photo": float(np.mean([len(set(row)) for row in tags])),
        "photos without a tag": float(np.mean([not row for row in tags])),
    }


def circumstances() -> dict[str, Any]:
    packages = (
        "autotag",
        "torch",
        "transformers",
        "open_clip_torch",
        "keybert",
        "sentence-transformers",
        "pillow",
    )
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {platform.system()}",
        "versions": {name: version(name) for name in packages},
    }


if __name__ == "__main__":
    main()
