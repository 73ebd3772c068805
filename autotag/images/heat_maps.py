"""Draws a map of numbers over a photograph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STOPS = np.array([(0, 0, 0), (0, 114, 178), (230, 159, 0), (255, 255, 255)], dtype=np.float32)
"""Black, blue, orange, white: lightness grows all along, so colours are not needed (Okabe and Ito 2008)."""
_STRENGTH = 0.65


def heat_map(
    image: Image.Image, values: NDArray[np.float32], box: tuple[float, float, float, float]
) -> Image.Image:
    """Return a photograph in grey under a map in colours: none where there is nothing, white at the maximum.

    Args:
        image: RGB.
        values: (h, w) float32; what is below half of the way from the lowest to the highest is nothing. A map
            that is the same everywhere shows nothing.
        box: left, top, right, bottom of the map, in pixels of the image; may reach beyond it.
    """
    lowest, highest = float(values.min()), float(values.max())
    spread = (values - lowest) / (highest - lowest) if highest > lowest else np.zeros_like(values)
    left, top, right, bottom = (round(edge) for edge in box)
    size = (max(1, right - left), max(1, bottom - top))
    whole = Image.new("F", image.size, 0.0)
    whole.paste(
        Image.fromarray(spread.astype(np.float32)).resize(size, Image.Resampling.BICUBIC), (left, top)
    )
    heat = np.clip(np.asarray(whole) * 2 - 1, 0, 1)[..., None]
    place = heat * (len(_STOPS) - 1)
    below = np.minimum(place.astype(np.intp), len(_STOPS) - 2)
    colours = _STOPS[below[..., 0]] + (place - below) * (_STOPS[below[..., 0] + 1] - _STOPS[below[..., 0]])
    grey = np.asarray(image.convert("L").convert("RGB"), dtype=np.float32)
    mixed = grey * (1 - _STRENGTH * heat**0.5) + colours * _STRENGTH * heat**0.5
    return Image.fromarray(np.clip(mixed * (0.6 + 0.4 * heat), 0, 255).astype(np.uint8))
