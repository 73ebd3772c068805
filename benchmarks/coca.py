"""CoCa's captions one by one and in batches: how much faster?

    python benchmarks/coca.py [--model coca_ViT-B-32] [--images 16] [--device cuda]

A CoCa of open_clip's own configuration, in full size with seeded random weights that write no end token: each
caption has ``--tokens`` tokens. "decoder" is given the states of the images, "whole" the images. Milliseconds
per caption, the best of some rounds in which the ways take turns: processor time on a CPU, else wall time.
"open_clip's calls" is greedy search without a cache. A caption counts as identical if its tokens are.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import torch
from PIL import Image
from reporting import options, report

from autotag.config.fast_paths import FastPaths
from autotag.models.captioners.coca_captioner import CocaCaptioner
from autotag.models.fast.coca_generation import write
from autotag.models.fast.packed_linears import pack_linears
from autotag.protocols import CaptionOptions

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

Tokens = list[list[int]]
START, END = 49406, 49407


def main() -> None:
    parser = options(__doc__)
    parser.add_argument(
        "--model", default="coca_ViT-B-32", help="a CoCa that open_clip has a configuration of"
    )
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    cached, plain = captioners(given)
    pixels = views(given, cached)
    rows = []
    for search, asked in searches(given.tokens).items():
        ways = {
            **decoder_ways(given, cached, plain, pixels, asked),
            **whole_ways(given, cached, pixels, asked),
        }
        rows += measured(given, search, ways)
    columns = ["search", "part", "way", "ms per caption", "times one by one", "identical", "of"]
    report("coca" if given.device == "cpu" else "coca-gpu", given, columns, rows)


def searches(tokens: int) -> dict[str, CaptionOptions]:
    return {
        "greedy": CaptionOptions(max_new_tokens=tokens),
        "top-p 0.9": CaptionOptions(max_new_tokens=tokens, do_sample=True, top_p=0.9),
        "3 beams": CaptionOptions(max_new_tokens=tokens, num_beams=3),
    }


def captioners(given: argparse.Namespace) -> tuple[CocaCaptioner, CocaCaptioner]:
    """With its cache, as it is loaded, and with open_clip's own calls."""
    torch.manual_seed(0)
    model = open_clip.create_model(given.model)
    with torch.no_grad():
        projection = model.text_decoder.text_projection  # which open_clip leaves as memory was
        projection.normal_(std=projection.shape[0] ** -0.5)
        projection[:, [0, END]] = 0
    model = model.to(given.device, getattr(torch, given.dtype)).eval()
    tokenizer = open_clip.get_tokenizer(given.model)
    cached, plain = (
        CocaCaptioner(model, tokenizer, "coca", dtype=given.dtype, fast_paths=FastPaths.parse(off))
        for off in ([], ["coca_decoder"])
    )
    pack_linears(torch.nn.ModuleList([cached.visual, cached.decoder]))
    return cached, plain


def views(given: argparse.Namespace, captioner: CocaCaptioner) -> list[np.ndarray]:
    """Noise of several colours, so that the images differ."""
    random = np.random.default_rng(0)
    sizes = random.integers(2, 40, given.images)
    pictures = [random.integers(0, 256, (size, size, 3), dtype=np.uint8) for size in sizes]
    return [captioner.view(Image.fromarray(picture)) for picture in pictures]


def decoder_ways(
    given: argparse.Namespace,
    cached: CocaCaptioner,
    plain: CocaCaptioner,
    pixels: list[np.ndarray],
    asked: CaptionOptions,
) -> dict[tuple[str, str], Callable[[], Tokens]]:
    """(part, way) -> what writes all captions."""
    with torch.inference_mode():
        view: Any = cached._view  # noqa: SLF001 - what is given to the decoder is what it would be given
        pixels_there = view.normalised(pixels, given.device, getattr(torch, given.dtype))
        states = torch.cat([cached.visual(some)[1] for some in pixels_there.split(4)])

    def way(captioner: CocaCaptioner, batch: int) -> Callable[[], Tokens]:
        def run() -> Tokens:
            seeds = list(range(len(states)))
            return [
                image[0].tokens
                for start in range(0, len(states), batch)
                for image in write(
                    captioner.decoder,
                    states[start : start + batch],
                    [START],
                    END,
                    asked,
                    seeds=seeds[start : start + batch] if asked.do_sample else (),
                )
            ]

        return run

    found = {("decoder", "one by one"): way(cached, 1)}
    found |= {("decoder", f"batches of {batch}"): way(cached, batch) for batch in given.batches}
    if asked != searches(given.tokens)["greedy"]:
        return found
    most = max(given.batches)
    return {**found, ("decoder", f"open_clip's calls, batches of {most}"): way(plain, most)}


def whole_ways(
    given: argparse.Namespace, captioner: CocaCaptioner, pixels: list[np.ndarray], asked: CaptionOptions
) -> dict[tuple[str, str], Callable[[], Tokens]]:
    """The same for what a pipeline calls; the tokens are those of the words."""

    def way(batch: int) -> Callable[[], Tokens]:
        def run() -> Tokens:
            return [
                captioner.tokenizer.encode(captions[0].text)
                for start in range(0, len(pixels), batch)
                for captions in captioner.caption_views(pixels[start : start + batch], asked)
            ]

        return run

    found = {("whole", "one by one"): way(1)}
    return found | {("whole", f"batches of {batch}"): way(batch) for batch in given.batches}


def measured(
    given: argparse.Namespace, search: str, ways: dict[tuple[str, str], Callable[[], Tokens]]
) -> list[list[Any]]:
    """The rows of the table for one search."""
    best = dict.fromkeys(ways, float("inf"))
    written: dict[tuple[str, str], Tokens] = {}
    for _ in range(given.rounds):
        for name, way in ways.items():
            written[name], seconds = timed(given, way)
            best[name] = min(best[name], 1e3 * seconds / given.images)
    rows = []
    for (part, way_name), milliseconds in best.items():
        one = (part, "one by one")
        same = sum(one_row == row for one_row, row in zip(written[one], written[part, way_name], strict=True))
        rows.append([search, part, way_name, milliseconds, best[one] / milliseconds, same, len(written[one])])
    return rows


@torch.inference_mode()
def timed(given: argparse.Namespace, way: Callable[[], Tokens]) -> tuple[Tokens, float]:
    on_cpu = given.device == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    started = clock()
    found = way()
    if not on_cpu:
        torch.cuda.synchronize()
    return found, clock() - started


if __name__ == "__main__":
    main()
