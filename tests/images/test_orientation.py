"""Pictures are shown the way up that the camera recorded."""

from __future__ import annotations

import struct

import pytest
from PIL import Image, ImageOps

from autotag.images.orientation import exif_orientation, orientation, upright, upright_size


def exif_with(turned: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = turned
    return exif.tobytes()


def corners() -> Image.Image:
    image = Image.new("L", (3, 2))
    image.putdata([10, 20, 30, 40, 50, 60])
    return image


@pytest.mark.parametrize("turned", range(1, 9))
def test_every_orientation_is_undone_as_pillow_undoes_it(turned: int) -> None:
    image = corners()
    image.info["exif"] = exif_with(turned)
    expected = ImageOps.exif_transpose(image)
    result = upright(image, orientation(image.info))
    assert result.size == expected.size == upright_size(image.size, turned)
    assert result.tobytes() == expected.tobytes()


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_is_read_in_both_byte_orders(order: str) -> None:
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    directory = struct.pack(order + "LHHHLHH", 8, 1, 0x0112, 3, 1, 6, 0)
    assert exif_orientation(mark + directory) == 6


@pytest.mark.parametrize(
    "info",
    [
        {"xmp": b'<x tiff:Orientation="8"/>'},
        {"XML:com.adobe.xmp": "<tiff:Orientation>8</tiff:Orientation>"},
        {"Raw profile type exif": f"\nexif\n{len(exif_with(8))}\n{exif_with(8).hex()}\n"},
    ],
    ids=["xmp", "png xmp", "imagemagick"],
)
def test_orientation_is_found_wherever_programs_put_it(info: dict[str, object]) -> None:
    assert orientation(info) == 8


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"Exif\0\0",
        b"nonsense",
        exif_with(6)[:-9],
        b"II*\0\xff\xff\xff\xff",
        exif_with(9),
        exif_with(0),
        b"II*\0" + struct.pack("<LH", 8, 65535),
    ],
)
def test_damaged_exif_counts_as_none(exif: bytes) -> None:
    assert orientation({"exif": exif}) == 1


def test_damaged_hexadecimal_exif_counts_as_none() -> None:
    assert orientation({"Raw profile type exif": "\nexif\n8\nzz\n"}) == 1
