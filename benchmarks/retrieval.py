"""Text-to-image retrieval of an index over Flickr8k's val: by vectors, by words, by both, beside brute force.

Run: python benchmarks/retrieval.py --data FOLDER [--preset mini] [--photos 600] [--json FILE]

Every human caption is a query, and its own photograph is what must be found: R@k is the part of the queries
whose photograph is among the first k (Hodosh, Young and Hockenmaier, "Framing Image Description as a Ranking
Task", JAIR 2013). The index holds what the preset finds: its vectors, captions and tags. Brute force is one
matrix product without the index: of the encoder's float32 vectors, and of the float16 vectors of the results.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from pyarrow import parquet

from autotag import Index
from autotag.cli.index import embedding_pipeline
from autotag.models.pool import ModelPool
from autotag.relevance.embeddings import read_embedding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from autotag.protocols import ImageTextEncoder
    from autotag.records import Result
    from autotag.search.queries import By

DEPTHS = (1, 5, 10)


class Known:
    """An encoder whose vectors of texts were made together; queries are then quick."""

    def __init__(self, encoder: ImageTextEncoder, texts: Sequence[str]) -> None:
        self.id = encoder.id
        self.default_thresholds = encoder.default_thresholds
        self.encoder = encoder
        unique = list(dict.fromkeys(texts))
        parts = [encoder.embed_texts(unique[first : first + 64]) for first in range(0, len(unique), 64)]
        self.vectors = dict(zip(unique, np.concatenate(parts), strict=True))

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([self.vectors[text] for text in texts])

    def embed_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        return self.encoder.embed_images(images)


def plain(caption: str) -> str:
    """A caption without quotes, whose content a search would require to stand in the texts."""
    return " ".join(caption.replace('"', " ").split())


def recalls(ranks: Sequence[int]) -> dict[str, float]:
    return {f"R@{depth}": round(float(np.mean(np.asarray(ranks) < depth)), 4) for depth in DEPTHS}


def rank(index: Index, query: str, path: str, by: By) -> int:
    """The place of a photograph among the first ten, from 0; 10 where it is not there."""
    found = [hit.path for hit in index.search(query, by=by, top_k=max(DEPTHS))]
    return found.index(path) if path in found else max(DEPTHS)


def ranks_of(encoder: Known, images: NDArray[np.float32], queries: Sequence[tuple[str, int]]) -> list[int]:
    """The place of each query's photograph among all, from 0, by one matrix product."""
    texts = encoder.embed_texts([query for query, _ in queries])
    scores = texts @ images.T
    own = scores[np.arange(len(queries)), [photo for _, photo in queries]]
    return (scores > own[:, None]).sum(axis=1).tolist()


def embedded(encoder: Known, photos: Sequence[Path]) -> NDArray[np.float32]:
    images = [Image.open(photo).convert("RGB") for photo in photos]
    return np.concatenate([encoder.embed_images(images[i : i + 32]) for i in range(0, len(images), 32)])


def stored(results: Sequence[Result]) -> NDArray[np.float32]:
    found = [read_embedding(result.extras) for result in results]
    vectors = np.stack([one[1] for one in found if one is not None]).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="of flickr8k-val.parquet")
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--photos", type=int, default=600)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = parquet.read_table(options.data / "flickr8k-val.parquet").to_pylist()[: options.photos]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = [folder / f"{number}.png" for number in range(len(rows))]
        for photo, row in zip(photos, rows, strict=True):
            raw = row["image"]["bytes"] if isinstance(row["image"], dict) else row["image"]
            Image.open(io.BytesIO(raw)).convert("RGB").save(photo, compress_level=1)
        queries = [(plain(text), number) for number, row in enumerate(rows) for text in row["captions"]]
        pipeline = embedding_pipeline(options.preset, {}, ())
        encoder = Known(ModelPool(device="cpu").encoder(pipeline.encoder), [query for query, _ in queries])
        with Index.open(folder / "index.db", encoder=encoder) as index:
            with pipeline:
                results = list(pipeline.stream(map(str, photos)))
            index.add(results)
            figures: dict[str, object] = {
                "preset": options.preset,
                "encoder": encoder.id,
                "photographs": len(photos),
                "queries": len(queries),
                "brute_force_float32": recalls(ranks_of(encoder, embedded(encoder, photos), queries)),
                "brute_force_float16": recalls(ranks_of(encoder, stored(results), queries)),
            }
            kinds: tuple[By, ...] = ("vectors", "words", "both")
            for by in kinds:
                started = time.perf_counter()
                ranks = [rank(index, query, str(photos[number]), by) for query, number in queries]
                spent = 1000 * (time.perf_counter() - started) / len(queries)
                figures[by] = {**recalls(ranks), "ms_per_query": round(spent, 2)}
    text = json.dumps(figures, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
