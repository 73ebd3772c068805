"""From a JPEG file to what BLIP and CLIP look at: the usual way beside autotag's.

    python benchmarks/decode.py [--images N] [--photos FOLDER] [--megapixels 12]

Naive: each model opens the file for itself, and its processor resizes (BLIP to 384 x 384, CLIP to a crop of
224 x 224).
Exact: the file is decoded once in full, and the processors resize, as with ``decode="exact"``. Fast: the file
is decoded once, by the codec itself no larger than twice what is needed, and resized in uint8 by the reading
thread, as with ``decode="fast"``. Pictures of 500 x 375 are seeded crops of real photographs; the large ones
are these enlarged, with noise, at quality 90. Milliseconds of processor time per image, the best of the
rounds; the difference of pixels is given in grey levels of 255.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from material import SIZE, add_material_options, photographs
from PIL import Image
from reporting import options, report

from autotag.images.reading import read_image
from autotag.models.fast.views import SquareView, view_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LARGEST_SIDE = 384


def main() -> None:
    parser = options(__doc__)
    add_material_options(parser)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--megapixels", type=float, default=12.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    blip, clip = transformers.BlipImageProcessor(), transformers.CLIPImageProcessor()
    views = [fitting(blip), fitting(clip)]
    ways = {
        "naive": functools.partial(naive, processors=[blip, clip]),
        "exact": functools.partial(exact, processors=[blip, clip]),
        "fast": functools.partial(fast, views=views),
    }
    small = photographs(given, given.images, own_first=False)
    few = max(2, given.images // 8)
    large = [enlarged(path, given.megapixels) for path in small[:few]]
    rows = [row for paths in (small, large) for row in measured(ways, paths, given.rounds)]
    report(
        "decode", given, ["pictures", "way", "ms per image", "times naive", "mean difference", "most"], rows
    )


def fitting(processor: Any) -> SquareView:
    view = view_of(processor)
    assert view, "the fast path does not fit this version of transformers"
    return view


def naive(path: Path, processors: list[Any]) -> list[np.ndarray[Any, Any]]:
    return [
        processor(images=Image.open(path).convert("RGB"), return_tensors="pt")["pixel_values"][0].numpy()
        for processor in processors
    ]


def exact(path: Path, processors: list[Any]) -> list[np.ndarray[Any, Any]]:
    image = read_image(path).image
    return [
        processor(images=image, return_tensors="pt")["pixel_values"][0].numpy() for processor in processors
    ]


def fast(path: Path, views: list[SquareView]) -> list[np.ndarray[Any, Any]]:
    image = read_image(path, target_size=LARGEST_SIDE).image
    pixels = [view.make(image) for view in views]
    return [
        view.normalised([made], "cpu", torch.float32)[0].numpy()
        for view, made in zip(views, pixels, strict=True)
    ]


def measured(ways: dict[str, Callable[[Path], Any]], paths: list[Path], rounds: int) -> list[list[Any]]:
    """One row per way, timed in turns."""
    seconds = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.process_time()
            for path in paths:
                way(path)
            seconds[name].append((time.process_time() - started) / len(paths))
    best = {name: min(times) for name, times in seconds.items()}
    size = "{} x {}".format(*Image.open(paths[0]).size)
    return [
        [
            size,
            name,
            1e3 * best[name],
            best["naive"] / best[name],
            *difference(ways["naive"], ways[name], paths),
        ]
        for name in ways
    ]


def difference(naive: Callable[[Path], Any], way: Callable[[Path], Any], paths: list[Path]) -> list[float]:
    """Mean and largest difference of pixels, in grey levels; both processors divide by about the same."""
    scale = 255 * 0.27
    apart = [
        np.abs(expected - found).ravel() * scale
        for path in paths[:4]
        for expected, found in zip(naive(path), way(path), strict=True)
    ]
    return [float(np.concatenate(apart).mean()), float(np.concatenate(apart).max())]


def enlarged(path: Path, megapixels: float) -> Path:
    """The photograph as a camera's file."""
    width = round((megapixels * 1e6 * SIZE[0] / SIZE[1]) ** 0.5)
    target = path.with_name(f"{path.stem}-{width}.jpg")
    if not target.exists():
        height = round(width * SIZE[1] / SIZE[0])
        image = np.asarray(
            Image.open(path).resize((width, height), Image.Resampling.LANCZOS), dtype=np.float32
        )
        noise = np.random.default_rng(0).normal(scale=4, size=image.shape).astype(np.float32)
        Image.fromarray(np.clip(image + noise, 0, 255).astype(np.uint8)).save(target, quality=90)
    return target


if __name__ == "__main__":
    main()
