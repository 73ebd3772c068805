"""Exact search of an index beside numpy's own matrix product: time, memory, first query of a fresh process.

Run: python benchmarks/search.py [--rows 100000] [--json FILE]

The vectors are random, of 512 dimensions; exact search does the same work for any vectors. Rows are put into
the tables of the index directly, as `autotag index` would have after tagging.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autotag.search import Filter, Index
from autotag.search.vector_rows import IN_MEMORY

if TYPE_CHECKING:
    from collections.abc import Callable

DIMENSION = 512
REPEATS = 15


class Given:
    """An encoder whose query vector is given, so that no model's time is counted."""

    id = "given"

    def __init__(self, vector: np.ndarray) -> None:
        self.vector = vector
        self.default_thresholds: dict[str, float] = {}

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        return np.stack([self.vector] * len(texts))

    embed_images = embed_texts


def fill(path: Path, rows: int) -> float:
    """Seconds to put ``rows`` photographs in; every tenth lies in ``tenth``, the first tenth in ``first``."""
    random = np.random.default_rng(0)
    started = time.perf_counter()
    with Index.open(path) as index:
        for first in range(0, rows, 20_000):
            count = min(20_000, rows - first)
            vectors = random.normal(size=(count, DIMENSION)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            numbers = range(first + 1, first + count + 1)
            names = [f"/photos/{folders_of(number, rows)}/{number}.jpg" for number in numbers]
            with index.writing() as generation:
                if first == 0:
                    about = {"encoder": "given", "encoder_name": "", "dimension": str(DIMENSION)}
                    index.execute_many("INSERT INTO about VALUES (?, ?)", about.items())
                index.execute_many(
                    "INSERT INTO photo (id, path, width, height, caption, generation) "
                    "VALUES (?, ?, 1, 1, ?, ?)",
                    [
                        (number, name.encode(), f"a picture of thing{number % 1000}", generation)
                        for number, name in zip(numbers, names, strict=True)
                    ],
                )
                raw = vectors.astype("<f2")
                index.execute_many(
                    "INSERT INTO vector VALUES (?, ?)",
                    ((number, row.tobytes()) for number, row in zip(numbers, raw, strict=True)),
                )
                index.execute_many(
                    "INSERT INTO words (rowid, caption, tags, keywords, name) VALUES (?, ?, '', '', ?)",
                    [(number, f"a picture of thing{number % 1000}", str(number)) for number in numbers],
                )
    return time.perf_counter() - started


def folders_of(number: int, rows: int) -> str:
    return ("first" if number <= rows // 10 else "rest") + ("/more" if number % 10 else "/tenth")


def best_of(call: Callable[[], object]) -> float:
    """Milliseconds of processor time of the quietest run, so that a busy machine counts little."""
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return round(1000 * min(times), 2)


def memory_mb() -> dict[str, float]:
    """What the process holds for itself, and at its peak with mapped pages."""
    lines = Path("/proc/self/status").read_text().splitlines()
    facts = {line.split(":")[0]: line.split(":")[1].split()[0] for line in lines if line.startswith("Rss")}
    return {
        "own": round(int(facts["RssAnon"]) / 1024, 1),
        "mapped": round(int(facts["RssFile"]) / 1024, 1),
        "peak": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def searching(path: Path) -> dict[str, object]:
    """The searches of one fresh process."""
    query = np.random.default_rng(1).normal(size=DIMENSION).astype(np.float32)
    query /= np.linalg.norm(query)
    before = memory_mb()
    started = time.perf_counter()
    with Index.open(path, encoder=Given(query)) as index:
        index.search("anything", by="vectors")
        first = time.perf_counter() - started
        found: dict[str, object] = {
            "first_query_s": round(first, 3),
            "later_ms": best_of(lambda: index.search("anything", by="vectors")),
            "both_ms": best_of(lambda: index.search("thing77")),
            "filter_10_percent_ms": best_of(
                lambda: index.search("anything", by="vectors", filter=Filter(folder="tenth"))
            ),
            "filter_10_percent_in_a_row_ms": best_of(
                lambda: index.search("anything", by="vectors", filter=Filter(folder="first"))
            ),
            "memory_before_mb": before,
            "memory_mb": memory_mb(),
        }
        rows = index._vector_rows()  # noqa: SLF001 - the product alone
        found["product_and_top_ms"] = best_of(lambda: rows.top(query, 10))
        tenth = rows.ids[rows.ids % 10 == 0]
        found["product_and_top_of_10_percent_ms"] = best_of(lambda: rows.top(query, 10, tenth))
        found["plain_numpy_ms"] = best_of(lambda: plain(rows.matrix, query))
    return found


def plain(matrix: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Numpy's own product; of float16 widened in blocks."""
    if matrix.dtype == np.float32:
        return matrix @ query
    blocks = range(0, len(matrix), 8192)
    return np.concatenate([matrix[start : start + 8192].astype(np.float32) @ query for start in blocks])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--search-only", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.search_only:
        print(json.dumps(searching(options.search_only)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.db"
        filled = fill(path, options.rows)
        runs = []
        for _ in range(2):  # the second finds the file of vectors that the first made
            command = [sys.executable, __file__, "--search-only", str(path)]
            runs.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))  # noqa: S603
        figures = {
            "rows": options.rows,
            "dimension": DIMENSION,
            "kept": "float32 in memory" if options.rows <= IN_MEMORY else "float16 mapped",
            "numpy": np.__version__,
            "cores": os.cpu_count(),
            "fill_s": round(filled, 1),
            "bytes_on_disk": sum(file.stat().st_size for file in Path(folder).iterdir()),
            "first_process": runs[0],
            "next_process": runs[1],
        }
    text = json.dumps(figures, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
