from __future__ import annotations

import ctypes
import gc
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autotag.models import pixel_memory
from autotag.models.pixel_memory import lent_pixels


def _image(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (500, 375)])
def test_the_pixels_are_those_of_the_image_and_not_copied(size: tuple[int, int]) -> None:
    image = _image(*size)
    with lent_pixels(image) as first, lent_pixels(image) as second:
        assert first.shape == (size[1], size[0], 4)
        assert first.dtype == np.uint8
        np.testing.assert_array_equal(first[:, :, :3], np.asarray(image))
        assert first.ctypes.data == second.ctypes.data


def test_an_image_is_let_go_afterwards() -> None:
    image: Any = _image(40, 30)
    core = image.im
    references = len(gc.get_referrers(core))
    for _ in range(3):
        with lent_pixels(image) as pixels:
            assert pixels.any()

    assert len(gc.get_referrers(core)) == references


def test_memory_in_several_pieces_is_copied() -> None:
    image = _image(3000, 2000)  # more than the 16 MB of one of Pillow's blocks
    with pytest.raises(ValueError, match="not contiguous"):
        image.__arrow_c_array__()
    with lent_pixels(image) as pixels:
        np.testing.assert_array_equal(pixels, np.asarray(image))


def test_another_layout_than_the_one_known_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_memory, "_FORMAT", b"+w:3")
    image = _image(5, 4)
    with lent_pixels(image) as pixels:
        np.testing.assert_array_equal(pixels, np.asarray(image))


def test_the_structures_are_as_long_as_the_specification_has_them() -> None:
    assert pixel_memory._ArrowArray.children.offset == 5 * 8 + ctypes.sizeof(ctypes.c_void_p)
