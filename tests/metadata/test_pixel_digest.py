"""The digest of a photograph without its metadata."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from autotag.metadata import MachineTag, apply_change, plan_tags
from autotag.metadata.pixel_digest import pixel_digest
from autotag.testing import make_image


def encoded(kind: str, colour: str = "red", **more: object) -> bytes:
    stream = io.BytesIO()
    make_image(colour).save(stream, kind, **more)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_tags_that_are_embedded_do_not_change_it(tmp_path, kind):
    path = tmp_path / "a"
    path.write_bytes(encoded(kind))
    before = path.read_bytes()
    apply_change(plan_tags(path, [MachineTag("dog", 0.5)], "a dog", embed=True))
    assert path.read_bytes() != before
    assert pixel_digest(path.read_bytes()) == pixel_digest(before)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_other_pixels_change_it(kind):
    assert pixel_digest(encoded(kind, "red")) != pixel_digest(encoded(kind, "blue"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_another_way_up_changes_it_and_other_exif_does_not(kind):
    turned, named = Image.Exif(), Image.Exif()
    turned[0x0112] = 6
    named[0x010F] = "A maker"
    plain = pixel_digest(encoded(kind))
    assert pixel_digest(encoded(kind, exif=turned)) != plain
    assert pixel_digest(encoded(kind, exif=named)) == plain


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\0", b"RIFF\xff\xff\0\0WEBP", b"text"]
)
def test_of_damaged_files_every_byte_counts(content):
    assert pixel_digest(content) != pixel_digest(content + b"x")
