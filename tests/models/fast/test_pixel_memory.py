from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autotag.models.fast import pixel_memory
from autotag.models.fast.pixel_memory import lent_pixels


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


def test_the_memory_is_given_back_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    lenders: list[weakref.ref[_Lender]] = []

    def lent(image: Image.Image) -> tuple[Any, object]:
        given = _lent(image)
        assert given is not None
        lender = _Lender(given[1])
        lenders.append(weakref.ref(lender))
        return given[0], lender

    _lent = pixel_memory._lent
    monkeypatch.setattr(pixel_memory, "_lent", lent)
    with lent_pixels(_image(40, 30)) as pixels:
        gc.collect()
        assert lenders[-1]() is not None
        assert pixels.any()
    gc.collect()

    assert lenders[-1]() is None


class _Lender:
    """Holds what holds the memory, and can be watched, as a capsule cannot."""

    def __init__(self, capsule: object) -> None:
        self.capsule = capsule


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


def test_memory_that_is_laid_out_otherwise_is_noticed_and_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def padded(image: Image.Image) -> tuple[Any, object]:
        """As Pillow 11.3 with PILLOW_ALIGNMENT=64: the second row is not where the first ends."""
        return np.roll(np.asarray(image.convert("RGBX")), 1, axis=1), None

    monkeypatch.setattr(pixel_memory, "_lent", padded)
    pixel_memory._is_understood.cache_clear()
    image = _image(5, 4)
    with lent_pixels(image) as pixels:
        np.testing.assert_array_equal(pixels, np.asarray(image))
    pixel_memory._is_understood.cache_clear()
