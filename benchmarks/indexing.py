"""What an index costs: a run over unchanged photographs, and each photograph beside its tagging.

Run: python benchmarks/indexing.py [--photos FOLDER] [--count 10000]

So many files are made from the photographs at hand, each with other bytes of pixels, and indexed with ready
results of ten tags and a vector of 512, so that no model's time is counted. `added` is what indexing does for
a photograph: it reads its facts (digest of the pixels, keywords, date) and puts the result in. `run again` is
the whole command `autotag index` over the unchanged files, in a process of its own.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from material import EXAMPLES
from PIL import Image
from reporting import options, report

from autotag.images.reading import find_images
from autotag.records import Caption, Result, Tag
from autotag.relevance.embeddings import written_embedding
from autotag.search import Index

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

SIZE = (500, 375)
RUNS = 3


def make_files(photos: Path, folder: Path, count: int) -> None:
    """Write JPEG files of 500x375: the same pictures, with a number at the end of the pixels."""
    contents = []
    for path in islice(find_images(photos), 64):
        file = io.BytesIO()
        Image.open(path).convert("RGB").resize(SIZE).save(file, "JPEG", quality=90)
        contents.append(file.getvalue())
    for number, content in zip(range(count), cycle(contents), strict=False):
        place = folder / f"{number // 500:03}"
        place.mkdir(exist_ok=True)
        (place / f"{number:06}.jpg").write_bytes(content[:-2] + number.to_bytes(4) + content[-2:])


def results(folder: Path) -> Iterator[Result]:
    """What a pipeline would yield."""
    random = np.random.default_rng(0)
    for number, path in enumerate(find_images(folder)):
        vector = random.normal(size=512).astype(np.float32)
        yield Result(
            str(path),
            SIZE,
            captions=(Caption(f"a picture of thing {number}", "benchmark"),),
            tags=tuple(Tag(f"thing {number % 97 + place}", 0.5, "benchmark") for place in range(10)),
            extras={"embedding": written_embedding("benchmark", vector)},
        )


def run(given: argparse.Namespace) -> None:
    """Measure, print and keep the results."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder, index_file = Path(name) / "photos", Path(name) / "index.db"
        folder.mkdir()
        make_files(given.photos, folder, given.count)
        ready = list(results(folder))
        started, processor = time.perf_counter(), time.process_time()
        with Index.open(index_file) as index:
            index.add(ready)
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
        per = [round(1000 * spent / given.count, 3) for spent in (seconds, processor)]
        rows.append(["added, a photograph (ms)", *per])
        command = [sys.executable, "-c", "from autotag.cli.main import main; main()"]
        for _ in range(RUNS):
            started = time.perf_counter()
            done = subprocess.run(  # noqa: S603 - ours
                [*command, "index", folder, "--preset", "mini", "--index", index_file],
                capture_output=True,
                check=True,
            )
            rows.append(["run again, all (s)", round(time.perf_counter() - started, 2), None])
            assert f"{given.count} unchanged".encode() in done.stderr, done.stderr
    report("indexing", given, ["what", "time", "processor"], rows)


if __name__ == "__main__":
    parser = options(__doc__ or "")
    parser.add_argument("--photos", type=Path, default=EXAMPLES, metavar="FOLDER", help="photographs")
    parser.add_argument("--count", type=int, default=10_000, metavar="N", help="files to make")
    run(parser.parse_args())
