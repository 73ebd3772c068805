"""What does the engine itself cost, and does it grow? Fake models, small generated images.

    python benchmarks/scaling.py [--images 100 1000 5000 20000] [--batch-sizes 1 8 64] [--threads 1 2]

The models are those of ``autotag.testing`` and a stage that does nothing, so that what is left is reading,
batching, threads and records. The column "engine ms" is processor time per image with that stage alone and
one image object given again and again: nothing is decoded. "all ms" decodes 64 x 48 PNG files and runs
every fake model. Memory is that of the process when half of the images and when all are through; the first
run of a size is preceded by one of 500 images, so that what libraries keep for themselves is there already.
"""

from __future__ import annotations

import gc
import itertools
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from reporting import cores, options, report, resident_mb

import autotag
from autotag.stages import AssemblePrompt, CaptionImages, ExtractKeyphrases, FilterTags, MergeTags
from autotag.testing import FakeCaptioner, FakeEncoder, FakeExtractor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from autotag.records import Sample

WARM_UP = 500
DISTINCT = 100


@autotag.stage(provides={"prompt"})
def say_nothing(sample: Sample) -> None:
    sample.prompt = "-"


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[100, 1000, 5000, 20_000])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, cores()}))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = pictures(Path(folder), DISTINCT)
        rows = measured(given, paths)
    columns = [
        "images",
        "batch",
        "threads",
        "engine ms",
        "all ms",
        "images/s",
        "MB half-way",
        "MB at the end",
    ]
    report("scaling", given, columns, rows, findings=flatness(columns, rows))


def measured(given: Any, paths: list[Path]) -> list[list[Any]]:
    """One row per number of images at the middle batch size, then one per batch size and thread count."""
    usual = (given.batch_sizes[len(given.batch_sizes) // 2], given.threads[-1])
    settings = [(count, *usual) for count in given.images]
    middle = given.images[len(given.images) // 2]
    settings += [
        (middle, size, threads)
        for size, threads in itertools.product(given.batch_sizes, given.threads)
        if (size, threads) != usual
    ]
    run(WARM_UP, *usual, paths)
    return [run(count, size, threads, paths) for count, size, threads in settings]


def run(count: int, batch_size: int, threads: int, paths: list[Path]) -> list[Any]:
    bare = autotag.Pipeline([say_nothing], encoder=None, batch_size=batch_size, decode_threads=threads)
    image = Image.open(paths[0]).convert("RGB")
    with bare:
        engine, _, _, _ = streamed(bare, itertools.repeat(image, count), count)
    with fakes(batch_size, threads) as full:
        inputs = itertools.islice(itertools.cycle(paths), count)
        processor, seconds, half, end = streamed(full, inputs, count)
    return [
        count,
        batch_size,
        threads,
        1e3 * engine / count,
        1e3 * processor / count,
        count / seconds,
        half,
        end,
    ]


def streamed(
    pipeline: autotag.Pipeline, images: Iterable[Any], count: int
) -> tuple[float, float, float, float]:
    """Processor seconds, wall seconds, and MB half-way and at the end."""
    pipeline.load()
    gc.collect()
    half = resident_mb()
    started, processor = time.perf_counter(), time.process_time()
    for number, _ in enumerate(pipeline.stream(images), 1):
        if number == count // 2:
            half = resident_mb()
    seconds, processor = time.perf_counter() - started, time.process_time() - processor
    return processor, seconds, half, resident_mb()


def fakes(batch_size: int, threads: int) -> autotag.Pipeline:
    stages = [
        CaptionImages(FakeCaptioner()),
        ExtractKeyphrases(FakeExtractor()),
        MergeTags(),
        FilterTags(),
        AssemblePrompt(),
    ]
    return autotag.Pipeline(stages, encoder=FakeEncoder(), batch_size=batch_size, decode_threads=threads)


def pictures(folder: Path, count: int) -> list[Path]:
    """Small noisy pictures, all different."""
    chance = np.random.default_rng(0)
    paths = [folder / f"{number:03}.png" for number in range(count)]
    for path in paths:
        tint = chance.integers(0, 200, size=3)
        noise = chance.integers(0, 55, size=(48, 64, 3))
        Image.fromarray((tint + noise).astype(np.uint8)).save(path)
    return paths


def flatness(columns: list[str], rows: list[list[Any]]) -> dict[str, Any]:
    """How much more memory the longest run held than the shortest one of at least 1,000 images."""
    end = columns.index("MB at the end")
    long = [row for row in rows if row[0] >= 1000] or rows
    least, most = min(long, key=lambda row: row[0]), max(long, key=lambda row: row[0])
    return {
        "engine's own cost, ms per image, at most": max(row[3] for row in long),
        f"memory at {most[0]} images over that at {least[0]}": most[end] / least[end],
    }


if __name__ == "__main__":
    main()
