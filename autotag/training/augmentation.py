"""Image augmentation: random views of photographs, computed for whole batches of uint8 tensors."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  (the name that torch's users know)
from torch import Tensor


def resized(pixels: Tensor, size: int) -> Tensor:
    """Resize (N, 3, S, S) uint8 to (N, 3, size, size) uint8, bicubic with antialiasing."""
    if pixels.shape[-1] == size:
        return pixels
    chunks = [
        F.interpolate(chunk, size=(size, size), mode="bicubic", antialias=True)
        for chunk in torch.split(pixels, 512)
    ]
    return torch.cat(chunks)


def random_views(
    pixels: Tensor,
    *,
    size: int,
    smallest: float,
    generator: torch.Generator,
    flip: bool = True,
    jitter: float = 0.2,
) -> Tensor:
    """Return a random crop of each photograph, half of them mirrored, with random brightness and contrast.

    Args:
        pixels: (B, 3, S, S) uint8.
        size: side of the views in pixels.
        smallest: smallest side of a crop, relative to the photograph's side, in (0, 1].
        generator: the source of randomness.
        flip: whether to mirror half of the views left to right.
        jitter: largest relative change of brightness and contrast.

    Returns:
        (B, 3, size, size) float32 in [0, 1].
    """
    count = len(pixels)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=generator) * (high - low) + low

    width, height = uniform(smallest, 1.0), uniform(smallest, 1.0)
    theta = torch.zeros(count, 2, 3)
    mirrored = (torch.rand(count, generator=generator) < 0.5) & flip
    theta[:, 0, 0] = torch.where(mirrored, -width, width)
    theta[:, 1, 1] = height
    theta[:, 0, 2] = uniform(-1, 1) * (1 - width)
    theta[:, 1, 2] = uniform(-1, 1) * (1 - height)
    grid = F.affine_grid(theta, [count, 3, size, size], align_corners=False)
    views = F.grid_sample(
        pixels.float() / 255, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    brightness = uniform(1 - jitter, 1 + jitter).view(-1, 1, 1, 1)
    contrast = uniform(1 - jitter, 1 + jitter).view(-1, 1, 1, 1)
    middle = views.mean(dim=(1, 2, 3), keepdim=True)
    return ((views - middle) * contrast + middle * brightness).clamp(0, 1)


def normalized(views: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Subtract the channel means and divide by the standard deviations: (B, 3, S, S) float32."""
    return (views - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
