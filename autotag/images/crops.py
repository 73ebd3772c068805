"""Parts of an image, cut out by boxes in pixels of its original."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


def cut_out(
    image: Image.Image,
    size: tuple[int, int],
    box: tuple[float, float, float, float],
    *,
    margin: float = 0.0,
    smallest: int = 1,
) -> Image.Image | None:
    """Return the part of an image in a box; None for a part that is too small or outside.

    Args:
        image: upright, possibly with fewer pixels than its original.
        size: width and height of the original in pixels.
        box: left, top, right, bottom in pixels of the original.
        margin: added to each side, as a part of the box's width and height; cut at the edges of the image.
        smallest: of the shorter side of the box, in pixels of the original.
    """
    left, top, right, bottom = box
    if min(right - left, bottom - top) < smallest:
        return None
    across, down = (right - left) * margin, (bottom - top) * margin
    wide, high = image.width / size[0], image.height / size[1]
    place = (
        max(0, round((left - across) * wide)),
        max(0, round((top - down) * high)),
        min(image.width, round((right + across) * wide)),
        min(image.height, round((bottom + down) * high)),
    )
    return image.crop(place) if place[0] < place[2] and place[1] < place[3] else None
