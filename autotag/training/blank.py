"""Negative examples: pictures that show nothing but plain colours, gradients, stripes or noise.

An encoder trained only on photographs of things finds things in every picture. These teach it to find none.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  (the name that torch's users know)
from torch import Tensor

COLOUR_WORDS = frozenset(
    [
        "black",
        "white",
        "gray",
        "grey",
        "red",
        "orange",
        "yellow",
        "green",
        "blue",
        "purple",
        "pink",
        "brown",
        "beige",
        "dark",
        "bright",
        "light",
    ]
)
"""Words that may still be right for such a picture."""


def blank_pictures(count: int, *, size: int, seed: int) -> Tensor:
    """Return (count, 3, size, size) uint8: plain colours, gradients, stripes and noise, in turn.

    Args:
        count: number of pictures.
        size: side in pixels.
        seed: for colours and shapes.
    """
    random = torch.Generator().manual_seed(seed)
    kinds = (_plain, _gradient, _stripes, _noise)
    pictures = [kinds[number % len(kinds)](size, random) for number in range(count)]
    return (torch.stack(pictures) * 255).round().to(torch.uint8)


def _colour(random: torch.Generator) -> Tensor:
    """Return a random colour, (3, 1, 1) in [0, 1]; in a third of the cases grey, black or white."""
    if torch.rand((), generator=random) < 1 / 3:
        return (torch.rand((), generator=random) * 1.4 - 0.2).clamp(0, 1).expand(3).view(3, 1, 1)
    return torch.rand(3, 1, 1, generator=random)


def _plain(size: int, random: torch.Generator) -> Tensor:
    return _colour(random).expand(3, size, size)


def _gradient(size: int, random: torch.Generator) -> Tensor:
    ramp = torch.linspace(0, 1, size).expand(size, size)
    ramp = ramp.T if torch.rand((), generator=random) < 0.5 else ramp
    return torch.lerp(_colour(random), _colour(random), ramp)


def _stripes(size: int, random: torch.Generator) -> Tensor:
    places = torch.arange(size).float()
    width = 4 + 40 * torch.rand((), generator=random)
    slant = torch.rand((), generator=random) * 2
    wave = ((places[:, None] + slant * places[None]) % (2 * width) < width).float()
    return torch.lerp(_colour(random), _colour(random), wave)


def _noise(size: int, random: torch.Generator) -> Tensor:
    grain = int(torch.randint(4, size, (), generator=random))
    coarse = torch.rand(1, 3, grain, grain, generator=random)
    noise = F.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False)[0]
    return torch.lerp(_colour(random), noise, torch.rand((), generator=random))
