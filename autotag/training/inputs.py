"""Where a captioner in training gets its photographs from: pixels, or feature maps computed before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autotag.training.augmentation import normalized, random_views, resized


class Inputs(Protocol):
    """Photographs as a vision model takes them, another view of each at every call."""

    def __len__(self) -> int:
        """Return the number of photographs."""

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return (B, C, H, W) float32 for the photographs with these numbers, (B,) int64."""


class PixelInputs:
    """Random crops of photographs, normalised.

    Args:
        pixels: (N, 3, S, S) uint8.
        size: side of the crops in pixels.
        smallest: least share of the side that a crop keeps.
        mean: of each channel.
        std: of each channel.
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
    """Feature maps of several views of photographs, half of them mirrored.

    Args:
        maps: (N, M, P, C) float16, P the places of a square map, row by row.
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
    """Synthetic feature maps of classes that no photograph at hand shows.

    A map of some photograph fades towards the mean of all, and in a random rectangle of it every place moves
    towards one class (see ``SyntheticFeatures``).

    Args:
        maps: (N, M, P, C) float16 of photographs of many kinds.
        mean: (C,) float32, of all places.
        shifts: (K, C) float32: where each class lies from the mean; one unit adds 1 to its logit.
    """

    def __init__(self, maps: NDArray[np.float16], mean: Tensor, shifts: Tensor) -> None:
        self._maps, self._mean, self._shifts = maps, mean, shifts

    def __len__(self) -> int:
        return len(self._shifts)

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return (B, C, sqrt(P), sqrt(P)) float32 for the classes with these numbers."""
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
    """Several inputs in a row, numbered on.

    Args:
        parts: at least one.
    """

    def __init__(self, parts: Sequence[Inputs]) -> None:
        self._parts = list(parts)
        self._starts = np.cumsum([0, *map(len, parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return (B, C, H, W) float32, what each part makes of its own rows."""
        owners = np.searchsorted(self._starts, rows.numpy(), side="right") - 1
        made: dict[int, Tensor] = {}
        for number in sorted(set(owners.tolist())):
            mine = np.flatnonzero(owners == number)
            seen = self._parts[number](rows[mine] - int(self._starts[number]), generator)
            made.update(zip(mine.tolist(), seen, strict=True))
        return torch.stack([made[place] for place in range(len(rows))])


def _square(maps: Tensor) -> Tensor:
    """(B, C, S, S) of (B, S * S, C)."""
    side = int(maps.shape[1] ** 0.5)
    return maps.view(len(maps), side, side, -1).permute(0, 3, 1, 2)


def _rectangles(count: int, side: int, generator: torch.Generator) -> Tensor:
    """(B, 1, S, S) bool: rectangles of at least half the side, anywhere."""
    least = (side + 1) // 2
    inside = []
    for _ in range(2):
        length = torch.randint(least, side + 1, (count, 1), generator=generator)
        start = (torch.rand(count, 1, generator=generator) * (side - length + 1)).long()
        places = torch.arange(side).view(1, -1)
        inside.append((places >= start) & (places < start + length))
    return (inside[0][:, :, None] & inside[1][:, None, :]).unsqueeze(1)
