"""RAW and HEIC files, which need extras."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path

import pytest
from PIL import Image

from autotag.albums.sources import find_album
from autotag.errors import ImageReadError
from autotag.images.reading import find_images, read_image
from autotag.testing import make_image

HEIC = Path(__file__).resolve().parents[1] / "data" / "red_and_blue.heic"


def dng(*, preview: bytes = b"", turned: int = 1) -> bytes:
    """A small DNG of a red scene, 96 x 64, with a preview if one is given; turned as EXIF says."""
    width, height = 96, 64
    row = struct.pack("<2H", 60000, 2000) * (width // 2) + struct.pack("<2H", 2000, 2000) * (width // 2)
    pixels = row * (height // 2)
    matrix = struct.pack("<18i", *(value for entry in (1, 0, 0, 0, 1, 0, 0, 0, 1) for value in (entry, 1)))
    raw_tags = [
        (254, 4, [0]), (256, 4, [width]), (257, 4, [height]), (258, 3, [16]), (259, 3, [1]),
        (262, 3, [32803]), (277, 3, [1]), (278, 4, [height]), (33421, 3, [2, 2]),
        (33422, 1, bytes((0, 1, 1, 2))),
        (50717, 4, [65535]),
    ]  # fmt: skip
    main_tags = [
        (271, 2, b"Maker\0"), (272, 2, b"Model\0"), (274, 3, [turned]), (50706, 1, bytes((1, 4, 0, 0))),
        (50708, 2, b"Maker Model\0"), (50721, 10, matrix), (50728, 5, struct.pack("<6I", 1, 1, 1, 1, 1, 1)),
        (50778, 3, [21]),
    ]  # fmt: skip
    if not preview:
        strip = [(273, 4, pixels), (279, 4, [len(pixels)])]
        return _tiff([sorted([*raw_tags, *main_tags, *strip], key=lambda tag: tag[0])])
    size = Image.open(io.BytesIO(preview)).size
    shown = [
        (254, 4, [1]), (256, 4, [size[0]]), (257, 4, [size[1]]), (258, 3, [8, 8, 8]), (259, 3, [7]),
        (262, 3, [6]),
        (273, 4, preview), (277, 3, [3]), (278, 4, [size[1]]), (279, 4, [len(preview)]),
    ]  # fmt: skip
    inner = sorted([*raw_tags, (273, 4, pixels), (279, 4, [len(pixels)])], key=lambda tag: tag[0])
    return _tiff([sorted([*shown, *main_tags, (330, 4, b"")], key=lambda tag: tag[0]), inner])


def _tiff(directories: list[list[tuple[int, int, object]]]) -> bytes:
    """Directories one after the other; the first points to the second by tag 330, strips are put behind."""
    formats = {1: "B", 2: "s", 3: "H", 4: "I", 5: "I", 10: "i"}
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 10: 8}
    starts, position = [], 8
    for tags in directories:
        starts.append(position)
        position += 2 + 12 * len(tags) + 4
    behind = b""
    found = b"II*\0" + struct.pack("<I", 8)
    for tags in directories:
        found += struct.pack("<H", len(tags))
        for tag, kind, value in tags:
            if tag in (273, 330):
                offset = starts[1] if tag == 330 else position + len(behind)
                behind += value if tag == 273 else b""  # type: ignore[operator]
                found += struct.pack("<HHII", tag, kind, 1, offset)
                continue
            packed = (
                value if isinstance(value, bytes) else struct.pack(f"<{len(value)}{formats[kind]}", *value)
            )  # type: ignore[arg-type,misc]
            entry = struct.pack("<HHI", tag, kind, len(packed) // sizes[kind])
            if len(packed) > 4:
                found += entry + struct.pack("<I", position + len(behind))
                behind += packed + b"\0" * (len(packed) % 2)
            else:
                found += entry + packed.ljust(4, b"\0")
        found += struct.pack("<I", 0)
    return found + behind


def jpeg(size: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    make_image("blue", size).save(stream, "JPEG")
    return stream.getvalue()


def colour(image: Image.Image) -> tuple[int, ...]:
    return image.resize((1, 1)).getpixel((0, 0))  # type: ignore[return-value]


def test_sensor_data_are_developed_where_there_is_no_preview(tmp_path):
    (tmp_path / "a.dng").write_bytes(dng())
    found = read_image(tmp_path / "a.dng")
    assert found.size == (96, 64)
    red, _, blue = colour(found.image)
    assert red > 2 * blue


def test_a_large_preview_is_taken_before_sensor_data(tmp_path):
    (tmp_path / "a.dng").write_bytes(dng(preview=jpeg((96, 64))))
    found = read_image(tmp_path / "a.dng")
    assert found.size == (96, 64)
    red, _, blue = colour(found.image)
    assert blue > 2 * red


def test_a_tiny_preview_is_not_what_the_models_see(tmp_path):
    (tmp_path / "a.dng").write_bytes(dng(preview=jpeg((16, 12))))
    red, _, blue = colour(read_image(tmp_path / "a.dng").image)
    assert red > 2 * blue


@pytest.mark.parametrize("preview", [b"", jpeg((96, 64))], ids=["sensor", "preview"])
def test_a_camera_that_was_held_upright_gives_an_upright_picture(tmp_path, preview):
    (tmp_path / "a.dng").write_bytes(dng(preview=preview, turned=6))
    found = read_image(tmp_path / "a.dng")
    assert found.size == (64, 96)
    assert found.image.width < found.image.height


def test_a_damaged_raw_file_is_an_error_of_its_own(tmp_path):
    (tmp_path / "a.nef").write_bytes(b"no raw file")
    with pytest.raises(ImageReadError, match="RAW file is damaged"):
        read_image(tmp_path / "a.nef")


def test_without_the_extra_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rawpy", None)
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    (tmp_path / "a.nef").write_bytes(b"raw")
    with pytest.raises(ImageReadError, match=r"pip install 'autotag-images\[raw\]'"):
        read_image(tmp_path / "a.nef")
    with pytest.raises(ImageReadError, match=r"pip install 'autotag-images\[heic\]'"):
        read_image(HEIC)


def test_heic_is_read_and_pillow_itself_does_not_learn_it():
    found = read_image(HEIC)
    assert found.size == (64, 48)
    left, right = found.image.getpixel((8, 24)), found.image.getpixel((56, 24))
    assert left[0] > 200 > 100 > left[2]  # type: ignore[index]
    assert right[2] > 200 > 100 > right[0]  # type: ignore[index]
    assert "HEIF" not in Image.OPEN


def test_albums_have_raw_files_in_them_and_plain_searches_do_not(tmp_path, monkeypatch, caplog):
    for name in ("a.jpg", "a.cr2", "b.NEF"):
        (tmp_path / name).touch()
    assert [path.name for path in find_images(tmp_path)] == ["a.jpg"]
    assert [photo.name for photo in find_album([tmp_path]).photos()] == ["a.cr2", "a.jpg", "b.NEF"]
    monkeypatch.setattr("autotag.albums.sources.can_read_raw", lambda: False)
    assert [photo.name for photo in find_album([tmp_path]).photos()] == ["a.jpg"]
    assert caplog.text.count("autotag-images[raw]") == 1
