"""Pixels of every mode come out as a person would see them."""

from __future__ import annotations

import io
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from autotag.images import colours
from autotag.images.colours import eight_bits, to_rgb

GREY_RAMP = np.linspace(0, 255, 16 * 16).reshape(16, 16)


def pixel(image: Image.Image) -> Any:
    assert image.mode == "RGB"
    return image.getpixel((0, 0))


@pytest.mark.parametrize(
    ("mode", "colour", "seen"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 90, (90, 90, 90)),
        ("RGB", (10, 20, 30), (10, 20, 30)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("HSV", (0, 255, 255), (255, 0, 0)),
        ("YCbCr", (128, 128, 128), (128, 128, 128)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (0, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),
        ("RGBa", (0, 0, 0, 0), (255, 255, 255)),
        ("LA", (0, 0), (255, 255, 255)),
        ("LA", (70, 255), (70, 70, 70)),
        ("PA", (0, 0), (255, 255, 255)),
    ],
)
def test_each_mode_is_seen_on_white(mode: str, colour: Any, seen: tuple[int, int, int]) -> None:
    assert pixel(to_rgb(Image.new(mode, (2, 2), colour))) == seen


def test_lab_white_and_black_are_white_and_black() -> None:
    assert pixel(to_rgb(Image.new("LAB", (2, 2), (255, 128, 128)))) == pytest.approx((255, 255, 255), abs=2)
    assert pixel(to_rgb(Image.new("LAB", (2, 2), (0, 128, 128)))) == pytest.approx((0, 0, 0), abs=2)


@pytest.mark.parametrize("transparency", [1, bytes([255, 0])], ids=["one index", "one alpha per index"])
def test_transparent_palette_entries_are_white_and_the_callers_image_stays_as_it_was(
    transparency: int | bytes,
) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putdata([0, 1])
    image.info["transparency"] = transparency
    before = (image.tobytes(), dict(image.info), image.im.getpalette("RGBA", "RGBA"))
    seen = to_rgb(image)
    assert [seen.getpixel((0, 0)), seen.getpixel((1, 0))] == [(200, 0, 0), (255, 255, 255)]
    assert (image.tobytes(), dict(image.info), image.im.getpalette("RGBA", "RGBA")) == before


def test_palette_with_alpha_is_laid_over_white() -> None:
    image = Image.new("P", (1, 1))
    image.putpalette([0, 0, 0, 0], "RGBA")
    assert pixel(to_rgb(image)) == (255, 255, 255)


@pytest.mark.parametrize(("mode", "colour"), [("RGB", (1, 2, 3)), ("L", 7), ("1", 0), ("I;16", 700)])
def test_the_transparent_colour_of_a_png_is_white(mode: str, colour: Any) -> None:
    image = Image.new(mode, (1, 1), colour)
    image.info["transparency"] = colour
    assert pixel(to_rgb(image)) == (255, 255, 255)


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(dtype: str) -> None:
    values = (GREY_RAMP * 257).astype(dtype)
    mode = "I;16" if dtype == "<u2" else "I;16B"
    image = Image.frombytes(mode, (16, 16), values.tobytes())
    assert np.abs(np.asarray(to_rgb(image))[..., 0] - GREY_RAMP).max() <= 1


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_wide_grey_modes_are_scaled_and_not_clipped(dtype: type) -> None:
    image = Image.fromarray((GREY_RAMP * 1000 - 90_000).astype(dtype))
    assert image.mode in {"I", "F"}
    assert np.abs(np.asarray(to_rgb(image))[..., 0] - GREY_RAMP).max() <= 1


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        (np.array([0, 4095], np.uint16), [0, 255]),
        (np.array([0, 2048], np.uint16), [0, 128]),
        (np.array([0, 200], np.uint16), [0, 200]),
        (np.array([0, 65535], np.int32), [0, 255]),
        (np.array([-1000, 1000], np.int32), [0, 255]),
        (np.array([0.0, 0.5, 1.0], np.float32), [0, 128, 255]),
        (np.array([0.0, 100.4], np.float64), [0, 100]),
        (np.array([0.0, 1e6, np.nan, -np.inf, np.inf], np.float64), [0, 255, 0, 0, 255]),
        (np.array([5e8, 5e8], np.float64), [0, 0]),
        (np.array([np.nan, np.nan], np.float32), [0, 0]),
    ],
    ids=str,
)
def test_deep_values_are_scaled_by_the_range_they_use(values: Any, seen: list[int]) -> None:
    assert eight_bits(values).tolist() == seen
    assert eight_bits(values).dtype == np.uint8


def wide_gamut_profile() -> bytes:
    """A matrix profile with the primaries of Adobe RGB (1998), gamma 2.2, relative to D50."""
    columns = {b"r": (0.60974, 0.31111, 0.01947), b"g": (0.20528, 0.62567, 0.06087)}
    columns[b"b"] = (0.14919, 0.06322, 0.74457)
    white = (0.9642, 1.0, 0.8249)
    tags = {b"wtpt": xyz(white), b"desc": description(b"Test wide gamut"), b"cprt": text(b"none")}
    for letter, column in columns.items():
        tags[letter + b"XYZ"] = xyz(column)
        tags[letter + b"TRC"] = b"curv\0\0\0\0" + struct.pack(">LH", 1, round(2.2 * 256)) + b"\0\0"
    return profile(b"RGB ", tags)


def fixed(value: float) -> bytes:
    return struct.pack(">l", round(value * 65536))


def xyz(column: tuple[float, float, float]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(fixed, column))


def text(words: bytes) -> bytes:
    return b"text\0\0\0\0" + words + b"\0"


def description(words: bytes) -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">L", len(words) + 1) + words + b"\0" + bytes(78)


def profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC version 2 display profile (ICC.1:2001-04, section 6)."""
    offset, table, content = 128 + 4 + 12 * len(tags), b"", b""
    for name, value in tags.items():
        table += name + struct.pack(">LL", offset + len(content), len(value))
        content += value + bytes(-len(value) % 4)
    size = offset + len(content)
    header = struct.pack(">L4sL4s4s4s", size, b"\0\0\0\0", 0x02100000, b"mntr", space, b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + xyz((0.9642, 1.0, 0.8249))[8:]
    return header.ljust(128, b"\0") + struct.pack(">L", len(tags)) + table + content


def test_photographs_of_one_camera_share_a_way_to_srgb_per_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    profile = wide_gamut_profile()
    built = []
    build = ImageCms.buildTransform

    def counted(*arguments: Any, **named: Any) -> Any:
        built.append(arguments)
        return build(*arguments, **named)

    monkeypatch.setattr(ImageCms, "buildTransform", counted)
    colours._to_srgb.cache_clear()
    seen = []
    for colour in ((100, 200, 100), (100, 200, 100), (90, 140, 128)):
        image = Image.new("RGB", (2, 2), colour)
        image.info["icc_profile"] = profile
        seen.append(pixel(to_rgb(image)))

    assert len(built) == 1
    with ThreadPoolExecutor(1) as other_thread:
        assert other_thread.submit(to_rgb, image).result().getpixel((0, 0)) == seen[-1]
    assert len(built) == 2
    assert seen[0] == seen[1] != (100, 200, 100)


def test_a_wide_gamut_profile_is_converted_to_srgb() -> None:
    image = Image.new("RGB", (2, 2), (100, 200, 100))
    image.info["icc_profile"] = wide_gamut_profile()
    # What colour science tells of Adobe RGB (100, 200, 100): outside sRGB in red, which ends at 0.
    red, green, blue = pixel(to_rgb(image))
    assert red < 60
    assert green == pytest.approx(201, abs=4)
    assert blue == pytest.approx(94, abs=6)


def test_white_stays_white_under_a_profile_with_transparency() -> None:
    image = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    image.info["icc_profile"] = wide_gamut_profile()
    assert pixel(to_rgb(image)) == pytest.approx((255, 255, 255), abs=1)


def test_an_srgb_profile_changes_nothing() -> None:
    image = Image.new("RGB", (2, 2), (100, 200, 100))
    image.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert pixel(to_rgb(image)) == (100, 200, 100)


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
@pytest.mark.parametrize("broken", [b"not a profile", wide_gamut_profile()[:200]], ids=["text", "cut short"])
def test_a_broken_profile_is_ignored(mode: str, broken: bytes) -> None:
    plain = Image.new("RGB", (2, 2), (100, 200, 100)).convert(mode)
    managed = plain.copy()
    managed.info["icc_profile"] = broken
    assert to_rgb(managed).tobytes() == to_rgb(plain).tobytes()


def test_a_profile_of_another_colour_space_is_ignored() -> None:
    plain = Image.new("CMYK", (2, 2), (0, 100, 200, 0))
    managed = plain.copy()
    managed.info["icc_profile"] = wide_gamut_profile()
    assert to_rgb(managed).tobytes() == to_rgb(plain).tobytes()


def cmyk_profile() -> bytes:
    """A CMYK printer profile whose table says: every ink mix is the same mid grey."""
    grid = struct.pack(">BBBB", 4, 3, 2, 0) + b"".join(map(fixed, (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    ramp = struct.pack(">HH", 0, 65535)
    tables = struct.pack(">HH", 2, 2) + ramp * 4 + struct.pack(">HHH", 0x8080, 0x8000, 0x8000) * 16 + ramp * 3
    lut = b"mft2\0\0\0\0" + grid + tables
    tags = {b"wtpt": xyz((0.9642, 1.0, 0.8249)), b"desc": description(b"Test inks"), b"cprt": text(b"none")}
    made = profile(b"CMYK", {**tags, b"A2B0": lut, b"A2B1": lut})
    return made[:12] + b"prtr" + made[16:20] + b"Lab " + made[24:]


def test_cmyk_is_converted_by_its_own_profile() -> None:
    image = Image.new("CMYK", (2, 2), (0, 255, 255, 0))
    image.info["icc_profile"] = cmyk_profile()
    red, green, blue = pixel(to_rgb(image))
    assert max(red, green, blue) - min(red, green, blue) <= 3
    assert pixel(to_rgb(Image.new("CMYK", (2, 2), (0, 255, 255, 0)))) == (255, 0, 0)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "CMYK"])
def test_the_result_is_a_new_image_without_metadata(mode: str) -> None:
    image = Image.new(mode, (2, 2))
    image.info["exif"] = b"Exif\0\0secret"
    result = to_rgb(image)
    assert result is not image
    assert result.info == {}
    assert image.info == {"exif": b"Exif\0\0secret"}
    result.putpixel((0, 0), (9, 9, 9))
    assert image.tobytes() == Image.new(mode, (2, 2)).tobytes()


def test_a_png_with_a_profile_is_managed_after_a_round_trip() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (2, 2), (100, 200, 100)).save(stream, "PNG", icc_profile=wide_gamut_profile())
    assert pixel(to_rgb(Image.open(stream)))[0] < 60
