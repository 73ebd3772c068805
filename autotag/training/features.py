"""What the frozen backbone sees in many views of every photograph, computed once and kept on disk.

Features are written in chunks, each aside and then renamed, so that a run that is killed goes on where it
was. The views of a chunk depend on its number only, not on the run or the number of workers.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autotag.files.replacing import appearing
from autotag.training.augmentation import random_views, resized
from autotag.training.backbone import GRID, SIZE, WIDTH, FeatureMaps, read_backbone
from autotag.training.progress import OnStep, say_nothing
from autotag.training.workers import run_each

_CHUNK = 256
_BATCH = 32


@dataclass(frozen=True)
class ViewPlan:
    """Which views of each photograph are made.

    View 0 is the whole photograph, view 1 its mirror image, the others are random crops.

    Attributes:
        views: views of each photograph, at least 1.
        map_views: views whose feature maps are kept as well as their means; they are the whole photograph and
            the first random crops, never the mirror image, because a map can be mirrored later.
        smallest_crop: least share of the side that a crop keeps.
        seed: of the crops.
    """

    views: int
    map_views: int = 0
    smallest_crop: float = 0.65
    seed: int = 0


@dataclass(frozen=True)
class Features:
    """What the backbone saw.

    Attributes:
        pooled: (N, V, 1280) float16, the mean of each view's feature map.
        maps: (N, M, 49, 1280) float16, row by row; M may be 0.
    """

    pooled: NDArray[np.float16]
    maps: NDArray[np.float16]


def make_features(
    name: str,
    pixels: Tensor,
    plan: ViewPlan,
    folder: Path,
    *,
    workers: int,
    on_step: OnStep = say_nothing,
) -> Features:
    """Return the features of photographs, computing those that are not in ``folder`` yet.

    Args:
        name: of the set of photographs; names its files.
        pixels: (N, 3, S, S) uint8.
        plan: which views.
        folder: where chunks are kept.
        workers: processes.
        on_step: is told the number of chunks after each one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kind = zlib.crc32(f"{plan} {len(pixels)} {_CHUNK}".encode())
    files = [folder / f"{name}-{kind:08x}-{number:04d}.npz" for number in range(-(-len(pixels) // _CHUNK))]
    if not all(file.is_file() for file in files):
        ranks = range(min(workers, len(files)))
        jobs = [partial(_make_chunks, rank, len(ranks), name, pixels, plan, files, on_step) for rank in ranks]
        run_each(jobs, threads=1)
    return _joined(files, len(pixels), plan)


def _make_chunks(  # noqa: PLR0917  (workers are given positions)
    rank: int, count: int, name: str, pixels: Tensor, plan: ViewPlan, files: list[Path], on_step: OnStep
) -> None:
    """Make every ``count``-th chunk, from number ``rank``, that is not there yet."""
    model = FeatureMaps(read_backbone())
    for number, file in enumerate(files):
        if number % count != rank or file.is_file():
            continue
        rows = pixels[number * _CHUNK : (number + 1) * _CHUNK]
        seed = zlib.crc32(f"{name} {number} {plan.seed}".encode())
        pooled, maps = _seen(model, rows, plan, torch.Generator().manual_seed(seed))
        with appearing(file) as stream:  # workers of a run that was killed may live on for a while
            np.savez(stream, pooled=pooled, maps=maps)
        on_step(number + 1, {})


@torch.inference_mode()
def _seen(
    model: FeatureMaps, pixels: Tensor, plan: ViewPlan, generator: torch.Generator
) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    pooled: list[Tensor] = []
    maps: list[Tensor] = []
    for number in range(plan.views):
        views = _views(pixels, number, plan, generator)
        seen = torch.cat([model(batch) for batch in torch.split(views, _BATCH)])
        pooled.append(seen.mean(dim=1).half())
        if number != 1 and len(maps) < plan.map_views:
            maps.append(seen.half())
    kept = torch.stack(maps, dim=1) if maps else torch.zeros(len(pixels), 0, GRID * GRID, WIDTH).half()
    return torch.stack(pooled, dim=1).numpy(), kept.numpy()


def _views(pixels: Tensor, number: int, plan: ViewPlan, generator: torch.Generator) -> Tensor:
    if number > 1:
        return random_views(
            pixels, size=SIZE, smallest=plan.smallest_crop, generator=generator, flip=plan.map_views == 0
        )
    whole = resized(pixels, SIZE).float() / 255
    return whole.flip(-1) if number == 1 else whole


def _joined(files: list[Path], count: int, plan: ViewPlan) -> Features:
    """Read chunks into whole arrays, one chunk at a time: maps of all photographs are gigabytes."""
    pooled = np.empty((count, plan.views, WIDTH), dtype=np.float16)
    maps = np.empty((count, plan.map_views, GRID * GRID, WIDTH), dtype=np.float16)
    for number, file in enumerate(files):
        rows = slice(number * _CHUNK, (number + 1) * _CHUNK)
        with np.load(file) as chunk:
            pooled[rows], maps[rows] = chunk["pooled"], chunk["maps"]
    return Features(pooled, maps)
