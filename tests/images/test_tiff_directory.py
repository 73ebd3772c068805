"""A TIFF keeps what its pixels need and loses what Pillow would stumble over."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autotag.images.tiff_directory import first_page

RAMP = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5)


def saved(image: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "TIFF", **options)
    return stream.getvalue()


def opened(tiff: bytes) -> Image.Image:
    return Image.open(io.BytesIO(tiff))


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "LA", "RGBA", "I;16", "F", "LAB"])
@pytest.mark.parametrize("big", [False, True], ids=["classic", "big"])
def test_the_pixels_stay_the_same(mode: str, options: dict[str, Any], big: bool) -> None:
    image = RAMP.convert("L").convert(mode) if mode in {"I;16", "LA"} else RAMP.convert(mode)
    tiff = saved(image, big_tiff=big, **options)
    page, turned = first_page(tiff)
    assert turned == 1
    assert opened(page).mode == opened(tiff).mode
    assert opened(page).tobytes() == opened(tiff).tobytes()


def test_a_big_endian_file_stays_readable() -> None:
    image = Image.frombytes("I;16B", (2, 2), struct.pack(">4H", 1, 2, 3, 60000))
    tiff = saved(image)
    assert tiff.startswith(b"MM")
    assert np.asarray(opened(first_page(tiff)[0])).tolist() == [[1, 2], [3, 60000]]


def test_the_colour_profile_is_kept() -> None:
    assert opened(first_page(saved(RAMP, icc_profile=b"a profile"))[0]).info["icc_profile"] == b"a profile"


def test_the_orientation_is_taken_out_and_returned() -> None:
    page, turned = first_page(saved(RAMP, tiffinfo={274: 6}))
    assert turned == 6
    assert 274 not in opened(page).tag_v2  # type: ignore[attr-defined]


def test_private_tags_and_further_pages_are_left_out() -> None:
    tiff = saved(RAMP, save_all=True, append_images=[RAMP, RAMP], tiffinfo={270: "words", 65000: "private"})
    page = opened(first_page(tiff)[0])
    assert page.n_frames == 1  # type: ignore[attr-defined]
    assert not {270, 65000} & set(page.tag_v2)  # type: ignore[attr-defined]


def entry_at(tiff: bytes | bytearray, tag: int) -> int:
    (start,) = struct.unpack_from("<L", tiff, 4)
    (count,) = struct.unpack_from("<H", tiff, start)
    positions = range(start + 2, start + 2 + 12 * count, 12)
    return next(place for place in positions if struct.unpack_from("<H", tiff, place) == (tag,))


def test_one_value_is_kept_of_a_tag_that_has_too_many() -> None:
    tiff = bytearray(saved(RAMP))
    struct.pack_into("<LHH", tiff, entry_at(tiff, 259) + 4, 2, 1, 9)  # compression: none, and a stray 9
    with pytest.warns(UserWarning, match="too many entries"):
        opened(bytes(tiff))
    assert opened(first_page(bytes(tiff))[0]).tobytes() == RAMP.tobytes()


def test_a_tag_whose_data_lie_outside_the_file_is_left_out() -> None:
    tiff = bytearray(saved(RAMP, icc_profile=b"a profile of some length"))
    struct.pack_into("<L", tiff, entry_at(tiff, 34675) + 8, 2**31)
    assert "icc_profile" not in opened(first_page(bytes(tiff))[0]).info


@pytest.mark.parametrize(
    "tiff",
    [
        b"II*\0",
        b"II*\0\x08\0\0\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        b"MM\0+" + b"\xff" * 20,
    ],
)
def test_a_directory_that_is_cut_short_is_an_error(tiff: bytes) -> None:
    with pytest.raises(ValueError, match="cut short"):
        first_page(tiff)
