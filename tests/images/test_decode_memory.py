"""How large a picture may be."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from autotag.errors import ImageReadError
from autotag.images.decode_memory import MAX_PIXELS, bytes_to_decode, check_size, most_pixels, peak_bytes


def opened(kind: str, mode: str, **options: object) -> Image.Image:
    stream = io.BytesIO()
    Image.new(mode, (10, 20)).save(stream, kind, **options)
    return Image.open(stream)


def test_what_was_set_counts_whatever_the_kind() -> None:
    assert most_pixels(1000, None) == most_pixels(1000, 21) == 1000


def test_by_itself_a_file_that_is_decoded_whole_may_take_a_gigabyte() -> None:
    assert most_pixels("auto", None) == MAX_PIXELS
    assert most_pixels("auto", 16) == 2**30 // 16
    assert most_pixels("auto", 1) == MAX_PIXELS


def test_transparency_and_a_codec_with_canvases_take_more() -> None:
    plain, clear = (peak_bytes(opened("PNG", mode)) for mode in ("RGB", "RGBA"))
    assert plain == 8
    assert clear == 13
    assert peak_bytes(opened("WEBP", "RGBA", lossless=True)) > clear
    assert peak_bytes(opened("PNG", "L")) < plain
    assert peak_bytes(opened("PNG", "I;16")) > plain


def test_a_progressive_jpeg_keeps_all_coefficients_at_whatever_size_it_is_decoded() -> None:
    usual, progressive = (opened("JPEG", "RGB", progressive=both) for both in (False, True))
    assert bytes_to_decode(usual, (10, 20)) == 8 * 200
    assert bytes_to_decode(progressive, (100, 200)) == 8 * 200 + 6 * 20_000


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((0, 5), "no pixels"),
        ((100, 101), "100 x 101 pixels are more than max_pixels=10000"),
        ((1, 501), "too long and thin"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(size: tuple[int, int], said: str) -> None:
    with pytest.raises(ImageReadError, match=said):
        check_size(size, "a.png", 10_000)
    check_size((100, 100), "a.png", 10_000)
