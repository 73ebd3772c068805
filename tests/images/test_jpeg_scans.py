"""Whether a JPEG names all that it should hold."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autotag.images.jpeg_scans import all_scans_begun

SCAN = b"\xff\xda"


def jpeg(**options: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(options.pop("mode", "RGB")).save(stream, "JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "L"},
        {"mode": "CMYK"},
        {"progressive": True},
        {"mode": "L", "progressive": True},
        {"restart_marker_blocks": 2},
        {"comment": b"\xff\xda in a comment is not a scan"},
    ],
)
def test_a_whole_file_names_everything_also_without_its_end(options: dict[str, Any]) -> None:
    content = jpeg(**options)
    assert all_scans_begun(content)
    assert all_scans_begun(content[:-2])


def test_a_progressive_file_lacks_something_until_its_last_pass_begins() -> None:
    content = jpeg(progressive=True)
    starts = [at for at in range(len(content)) if content[at : at + 2] == SCAN]
    assert len(starts) > 3
    for start in starts:
        assert not all_scans_begun(content[:start])
    assert all_scans_begun(content[: starts[-1] + 20])


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\x00", b"\xff\xd8" + b"\xff\xda\x00\x00" * 9]
)
def test_what_has_no_frame_names_nothing(content: bytes) -> None:
    assert not all_scans_begun(content)


def test_damaged_bytes_give_an_answer() -> None:
    content, random = jpeg(progressive=True), np.random.default_rng(1)
    for _ in range(500):
        damaged = bytearray(content)
        for at in random.integers(2, len(content), 8):
            damaged[at] = random.integers(256)
        assert all_scans_begun(bytes(damaged)) in {True, False}
