"""Inputs of a captioner in training: pixels, or precomputed feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autotag.training.augmentation import normalized, random_views, resized


class Inputs(Protocol):
    """Photographs as inputs of a vision model; each call returns other random views."""

    def __len__(self) -> int:
        """Return the number of photographs."""

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return (B, C, H, W) float32 for the photographs with these indices, (B,) int64."""


class PixelInputs:
    """Return random crops of photographs, normalised.

    Args:
        pixels: (N, 3, S, S) uint8.
        size: side of the crops in pixels, after resizing.
        smallest: smallest side of a crop, relative to the photograph's side, in (0, 1].
        mean: per channel, for pixels in [0, 1].
        std: per channel, for pixels in [0, 1].
    """

    def __init__(
        self,
        pixels: Tensor,
        *,
        size: int,
        smallest: float,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        self._pixels = resized(pixels, min(pixels.shape[-1], size * 3 // 2))
        self._size, self._smallest = size, smallest
        self._mean, self._std = mean, std

    def __len__(self) -> int:
        return len(self._pixels)

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return (B, 3, size, size) float32."""
        views = random_views(
            self._pixels[rows], size=self._size, smallest=self._smallest, generator=generator
        )
        return normalized(views, self._mean, self._std)


class MapInputs:
    """Return feature maps of random views of photographs, half of them mirrored.

    Args:
        maps: (N, M, P, C) float16, M views, P places of a square map, row by row.
    """

    def __init__(self, maps: NDArray[np.float16]) -> None:
        self._maps = maps

    def __len__(self) -> int:
        return len(self._maps)

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return (B, C, sqrt(P), sqrt(P)) float32."""
        views = torch.randint(self._maps.shape[1], (len(rows),), generator=generator)
        mirrored = torch.rand(len(rows), generator=generator) < 0.5
        square = _square(torch.from_numpy(self._maps[rows.numpy(), views.numpy()]).float())
        return torch.where(mirrored.view(-1, 1, 1, 1), square.flip(-1), square)


class ClassMapInputs:
    """Return synthetic feature maps of classes for which photographs are missing.

    The map of a random photograph is faded towards the mean, and every place in a random rectangle is moved
    towards one class (see ``SyntheticFeatures``).

    Args:
        maps: (N, M, P, C) float16 of photographs of many kinds.
        mean: (C,) float32, the mean over all places.
        shifts: (K, C) float32, direction from the mean to each class; one unit adds 1 to its logit.
    """

    def __init__(self, maps: NDArray[np.float16], mean: Tensor, shifts: Tensor) -> None:
        self._maps, self._mean, self._shifts = maps, mean, shifts

    def __len__(self) -> int:
        return len(self._shifts)

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return (B, C, sqrt(P), sqrt(P)) float32 for the classes with these indices."""
        count = len(rows)
        base = torch.randint(len(self._maps), (count,), generator=generator)
        square = _square(torch.from_numpy(self._maps[base.numpy(), 0]).float())
        faded = torch.lerp(
            square, self._mean.view(1, -1, 1, 1), 0.8 * torch.rand(count, 1, 1, 1, generator=generator)
        )
        amount = 6 + 14 * torch.rand(count, 1, 1, 1, generator=generator)
        moved = faded + amount * self._shifts[rows].view(count, -1, 1, 1)
        inside = _rectangles(count, square.shape[-1], generator)
        return torch.where(inside, moved.clamp(0, 6), faded)


class ChainedInputs:
    """Concatenate several inputs; the indices of a part follow those of the part before.

    Args:
        parts: at least one.
    """

    def __init__(self, parts: Sequence[Inputs]) -> None:
        self._parts = list(parts)
        self._starts = np.cumsum([0, *map(len, parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return (B, C, H, W) float32; each part returns its own rows."""
        owners = np.searchsorted(self._starts, rows.numpy(), side="right") - 1
        made: dict[int, Tensor] = {}
        for number in sorted(set(owners.tolist())):
            mine = np.flatnonzero(owners == number)
            seen = self._parts[number](rows[mine] - int(self._starts[number]), generator)
            made.update(zip(mine.tolist(), seen, strict=True))
        return torch.stack([made[place] for place in range(len(rows))])


def _square(maps: Tensor) -> Tensor:
    """Reshape (B, S * S, C) to (B, C, S, S)."""
    side = int(maps.shape[1] ** 0.5)
    return maps.view(len(maps), side, side, -1).permute(0, 3, 1, 2)


def _rectangles(count: int, side: int, generator: torch.Generator) -> Tensor:
    """Return random rectangles as masks, (B, 1, S, S) bool; each side is at least half of S."""
    least = (side + 1) // 2
    inside = []
    for _ in range(2):
        length = torch.randint(least, side + 1, (count, 1), generator=generator)
        start = (torch.rand(count, 1, generator=generator) * (side - length + 1)).long()
        places = torch.arange(side).view(1, -1)
        inside.append((places >= start) & (places < start + length))
    return (inside[0][:, :, None] & inside[1][:, None, :]).unsqueeze(1)
