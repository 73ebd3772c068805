"""What a reduced dtype gains on a CPU, and what it does to captions and tags, beside float32.

    python benchmarks/dtypes.py --data FOLDER [--dtypes int8 bfloat16] [--images 4] [--rounds 3]
    python benchmarks/dtypes.py --data FOLDER --isa avx512-vnni --dtypes int8

Processor time on one thread, all sides with all fast paths, in turns in one process. ``base`` is preset base
at full size with seeded random weights, as in ``pipeline.py``; ``mini`` has its bundled weights. Captions and
tags are compared with those of float32: for mini over photographs of ``--data`` (Flickr8k's val), for base
over the photographs that are timed. A tag of either side counts once: "tags in both" is their share.
"""

from __future__ import annotations

import io
import sys
import time
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from instruction_sets import ISA, instruction_set, limit_to
from material import add_material_options, caption_texts, photographs
from PIL import Image
from pipeline import base_pipeline
from reporting import options, report

import autotag

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from autotag.records import Result


def base(given: argparse.Namespace, dtype: str) -> autotag.Pipeline:
    """The stages of preset base at full size."""
    found = photographs(given, given.images)
    pipeline, written = base_pipeline(given.cache, device="cpu", batch_size=given.images, dtype=dtype)
    texts = caption_texts(given, given.images)
    written.update({str(path): text for path, text in zip(found, texts, strict=True)})
    return pipeline


def mini(given: argparse.Namespace, dtype: str) -> autotag.Pipeline:
    """Preset mini with its bundled weights."""
    return autotag.load("mini", device="cpu", batch_size=given.images, dtype=dtype)


def compared(plain: Sequence[Result], reduced: Sequence[Result]) -> dict[str, float]:
    """Return the shares of photographs with the same caption and tags, and of tags that both sides keep."""
    pairs = list(zip(plain, reduced, strict=True))
    captions = [tuple(each.extras.get("generated", each.caption) for each in pair) for pair in pairs]
    tags = [({tag.text for tag in one.tags}, {tag.text for tag in other.tags}) for one, other in pairs]
    return {
        "photographs": len(pairs),
        "same caption": sum(one == other for one, other in captions) / len(pairs),
        "same tags": sum(one == other for one, other in tags) / len(pairs),
        "tags in both": sum(len(one & other) for one, other in tags)
        / max(1, sum(len(one | other) for one, other in tags)),
    }


def measured(make: Any, given: argparse.Namespace, more: list[Image.Image]) -> list[list[Any]]:
    """Return a row for each dtype: milliseconds per image (median), and what differs from float32."""
    found = photographs(given, given.images)
    with ExitStack() as stack:
        sides: dict[str, autotag.Pipeline] = {}
        for dtype in ("float32", *given.dtypes):
            sides[dtype] = stack.enter_context(make(given, dtype))
            list(sides[dtype].stream(found))  # loads and warms up
        seconds: dict[str, list[float]] = {dtype: [] for dtype in sides}
        for _ in range(given.rounds):
            for dtype, pipeline in sides.items():
                started = time.process_time()
                list(pipeline.stream(found))
                seconds[dtype].append(time.process_time() - started)
        results = {dtype: list(pipeline.stream(more or found)) for dtype, pipeline in sides.items()}
    took = {dtype: 1e3 * median(each) / given.images for dtype, each in seconds.items()}
    return [
        [dtype, took[dtype], took["float32"] / took[dtype], *compared(results["float32"], each).values()]
        for dtype, each in results.items()
    ]


def parsed() -> argparse.Namespace:
    parser = options(__doc__)
    add_material_options(parser)
    parser.add_argument("--dtypes", nargs="+", default=["int8", "bfloat16"], metavar="DTYPE")
    parser.add_argument("--images", type=int, default=4, help="photographs a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compared", type=int, default=200, help="photographs whose results are compared")
    parser.add_argument("--isa", choices=[*ISA], help="use no more than this instruction set")
    return parser.parse_args()


def main() -> None:
    from pyarrow import parquet

    given = parsed()
    limit_to(given.isa)
    torch.set_num_threads(1)
    more: list[Image.Image] = []
    if given.data:
        table = parquet.read_table(given.data / "flickr8k-val.parquet", columns=["image"])
        more = [Image.open(io.BytesIO(row)) for row in table["image"].to_pylist()[: given.compared]]
    rows = []
    for name, make, others in (("base", base, []), ("mini", mini, more)):
        for row in measured(make, given, others):
            rows.append([name, *row])
            print(*rows[-1], file=sys.stderr)
    report(
        f"dtypes-{given.isa}" if given.isa else "dtypes",
        given,
        ["preset", "dtype", "ms", "times float32", "compared", "same caption", "same tags", "tags in both"],
        rows,
        findings={"instruction set": instruction_set(given.isa)},
    )


if __name__ == "__main__":
    main()
