"""The frozen backbone's features of several views of every photograph, computed once and kept on disk.

Features are written in chunks, each to a temporary file that is renamed, so that a killed run can resume.
The views of a chunk depend only on its number, not on the run or the number of workers.
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
    """The views to compute of each photograph.

    View 0 is the whole photograph, view 1 its mirror image; the others are random crops.

    Attributes:
        views: number of views per photograph, at least 1.
        map_views: number of views whose feature maps are kept in addition to their means: the whole
            photograph and the first random crops. The mirror image's is not kept: maps can be mirrored later.
        smallest_crop: smallest side of a crop, relative to the photograph's side.
        seed: for the crops.
    """

    views: int
    map_views: int = 0
    smallest_crop: float = 0.65
    seed: int = 0


@dataclass(frozen=True)
class Features:
    """The backbone's features of N photographs, in V views.

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
    """Return the features of photographs; compute the chunks that are missing in ``folder``.

    Args:
        name: name of the set of photographs, part of the file names.
        pixels: (N, 3, S, S) uint8.
        plan: which views.
        folder: where chunks are kept.
        workers: number of processes.
        on_step: called after each chunk with its number, from 1.
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
    """Compute the missing ones of every ``count``-th chunk, from number ``rank`` on."""
    model = FeatureMaps(read_backbone())
    for number, file in enumerate(files):
        if number % count != rank or file.is_file():
            continue
        rows = pixels[number * _CHUNK : (number + 1) * _CHUNK]
        seed = zlib.crc32(f"{name} {number} {plan.seed}".encode())
        pooled, maps = _seen(model, rows, plan, torch.Generator().manual_seed(seed))
        with appearing(file) as stream:  # workers of a killed run may still be running
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
    """Join chunks into arrays, one chunk at a time, because the maps of all photographs are gigabytes."""
    pooled = np.empty((count, plan.views, WIDTH), dtype=np.float16)
    maps = np.empty((count, plan.map_views, GRID * GRID, WIDTH), dtype=np.float16)
    for number, file in enumerate(files):
        rows = slice(number * _CHUNK, (number + 1) * _CHUNK)
        with np.load(file) as chunk:
            pooled[rows], maps[rows] = chunk["pooled"], chunk["maps"]
    return Features(pooled, maps)
