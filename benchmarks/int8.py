"""What int8 would gain: every linear layer of the models by torch's dynamic quantisation, beside float32.

    python benchmarks/int8.py [--images 4] [--rounds 3] [--data FOLDER]

Processor time on one thread, both sides with all fast paths, in turns in one process. ``base`` is preset base
at full size with seeded random weights, as in ``pipeline.py``; ``mini`` has its bundled weights. For mini,
captions and tags of both sides are compared too, over the photographs of ``--data`` (Flickr8k's val).
"""

from __future__ import annotations

import sys
import time
import warnings
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from material import add_material_options, caption_texts, photographs
from pipeline import base_pipeline
from reporting import options, report
from torch import nn

import autotag
from autotag.models.fast import packed_linears

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path


class Int8Linear(nn.Module):
    """A linear layer in int8: weights once, activations at each call."""

    int8_original_dtype = torch.float32

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        plain = nn.Linear(linear.in_features, linear.out_features, bias=linear.bias is not None)
        plain.weight = nn.Parameter(linear.weight.detach().clone())
        if linear.bias is not None:
            plain.bias = nn.Parameter(linear.bias.detach().clone())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces another package for this
            self.inner = torch.ao.quantization.quantize_dynamic(
                nn.Sequential(plain), {nn.Linear}, dtype=torch.qint8
            )
        self.bias = linear.bias

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Map (..., in_features) float32 to (..., out_features) float32."""
        found: torch.Tensor = self.inner(rows)
        return found


@contextmanager
def int8_linears() -> Iterator[None]:
    """Load models whose packed linear layers are int8 instead."""
    packed: Any = packed_linears
    before, packed.PackedLinear = packed.PackedLinear, Int8Linear
    try:
        yield
    finally:
        packed.PackedLinear = before


def base(given: argparse.Namespace, stack: ExitStack) -> tuple[autotag.Pipeline, list[Path]]:
    """The stages of preset base at full size."""
    found = photographs(given, given.images)
    pipeline, written = base_pipeline(given.cache, device="cpu", batch_size=given.images)
    texts = caption_texts(given, given.images)
    written.update({str(path): text for path, text in zip(found, texts, strict=True)})
    return stack.enter_context(pipeline), found


def mini(given: argparse.Namespace, stack: ExitStack) -> tuple[autotag.Pipeline, list[Path]]:
    """Preset mini with its bundled weights."""
    tagger = stack.enter_context(autotag.load("mini", device="cpu", batch_size=given.images))
    return tagger, photographs(given, given.images)


def timed(make: Any, given: argparse.Namespace) -> tuple[float, float]:
    """Return milliseconds per image in float32 and in int8, medians."""
    with ExitStack() as stack:
        sides = []
        for linears in (ExitStack, int8_linears):
            pipeline, found = make(given, stack)
            with linears():
                list(pipeline.stream(found))  # loads and warms up
            sides.append((pipeline, found, []))
        for _ in range(given.rounds):
            for pipeline, found, seconds in sides:
                started = time.process_time()
                list(pipeline.stream(found))
                seconds.append(time.process_time() - started)
        exact, int8 = (1e3 * median(seconds) / given.images for _, _, seconds in sides)
        return exact, int8


def difference(given: argparse.Namespace) -> dict[str, float]:
    """Return the shares of photographs with the same caption and tags, and of tags that both sides keep."""
    import io

    from PIL import Image
    from pyarrow import parquet

    table = parquet.read_table(given.data / "flickr8k-val.parquet", columns=["image"])
    photos = [Image.open(io.BytesIO(row)) for row in table["image"].to_pylist()[: given.compared]]
    results = []
    for linears in (ExitStack, int8_linears):
        with linears(), autotag.load("mini", device="cpu") as tagger:
            results.append(list(tagger.stream(photos)))
    pairs = list(zip(*results, strict=True))
    tags = [({tag.text for tag in one.tags}, {tag.text for tag in other.tags}) for one, other in pairs]
    return {
        "photographs": len(pairs),
        "same caption": sum(one.caption == other.caption for one, other in pairs) / len(pairs),
        "same tags": sum(one == other for one, other in tags) / len(pairs),
        "tags in both": sum(len(one & other) for one, other in tags) / sum(len(a | b) for a, b in tags),
    }


def parsed() -> argparse.Namespace:
    parser = options(__doc__)
    add_material_options(parser)
    parser.add_argument("--images", type=int, default=4, help="photographs a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compared", type=int, default=150, help="photographs whose results are compared")
    return parser.parse_args()


def main() -> None:
    given = parsed()
    torch.set_num_threads(1)
    rows = []
    for name, make in (("base", base), ("mini", mini)):
        exact, int8 = timed(make, given)
        rows.append([name, exact, int8, exact / int8])
        print(*rows[-1], file=sys.stderr)
    findings: dict[str, Any] = {"instruction set": torch.backends.cpu.get_cpu_capability()}
    if given.data:
        findings |= difference(given)
    report("int8", given, ["preset", "ms float32", "ms int8", "times faster"], rows, findings=findings)


if __name__ == "__main__":
    main()
