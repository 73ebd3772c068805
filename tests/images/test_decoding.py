"""Whatever bytes come in: pixels or a reason, never a warning, a crash, a hang or a full memory."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from autotag.errors import ImageReadError, ImageTooLargeError
from autotag.images.decode_memory import MAX_PIXELS
from autotag.images.decoding import DecodeLimits, decode, without_broken_animation

NO_LIMITS = DecodeLimits()
RED, GREEN, BLUE, WHITE = (200, 0, 0), (0, 200, 0), (0, 0, 200), (255, 255, 255)


def photograph(width: int = 160, height: int = 120) -> Image.Image:
    """Smooth shapes with some detail, like a photograph and unlike noise."""
    rows, columns = np.mgrid[0:height, 0:width] / min(width, height)
    bands = [np.sin(5 * columns + 2 * rows), np.cos(7 * rows - columns), np.sin(9 * columns * rows)]
    return Image.fromarray((127 + 120 * np.stack(bands, axis=-1)).astype(np.uint8))


def two_colours(left: tuple[int, int, int], right: tuple[int, int, int], size: int = 16) -> Image.Image:
    image = Image.new("RGB", (size, size), left)
    image.paste(right, (size // 2, 0, size, size))
    return image


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def reason(content: bytes, limits: DecodeLimits = NO_LIMITS) -> str:
    with pytest.raises(ImageReadError) as caught:
        decode(content, "photo.jpg", limits)
    assert caught.value.source == "photo.jpg"
    assert "photo.jpg" in str(caught.value)
    return caught.value.reason


def difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "MPO"])
def test_every_promised_format_is_read(kind: str) -> None:
    image, size, _ = decode(encoded(photograph(), kind), "photo", NO_LIMITS)
    assert image.mode == "RGB"
    assert image.size == size == (160, 120)
    assert difference(image, photograph()) < 10  # a GIF has 256 colours


@pytest.mark.parametrize("kind", ["PPM", "PCX", "TGA", "JPEG2000", "ICO", "SGI"])
def test_formats_that_are_not_promised_are_refused_even_if_pillow_knows_them(kind: str) -> None:
    assert "not" in reason(encoded(photograph(), kind)) or "supported" in reason(encoded(photograph(), kind))


# --- the right way up, in the right size


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("turned", range(1, 9))
def test_orientation_is_undone_in_pixels_and_size(kind: str, turned: int) -> None:
    upright = photograph(96, 64)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # orientation -> the transposition that makes it
    stored = upright.transpose(Image.Transpose(undo[turned])) if turned > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = turned
    options: dict[str, Any] = {"tiffinfo": {274: turned}} if kind == "TIFF" else {"exif": exif}
    image, size, _ = decode(encoded(stored, kind, **options), "photo", NO_LIMITS)
    assert image.size == size == (96, 64)
    assert difference(image, upright) < 6


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("target", [1, 100, 224, 384, 5000])
def test_the_shortest_side_stays_at_least_twice_the_target_and_size_is_the_originals(
    kind: str, target: int
) -> None:
    image, size, _ = decode(encoded(photograph(1203, 801), kind), "photo", DecodeLimits(target_size=target))
    assert size == (1203, 801)
    assert min(image.size) >= min(2 * target, 801)
    assert image.size == size or min(image.size) <= 4 * target + 8


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_resampling_after_a_reduced_decode_differs_by_less_than_a_grey_level(kind: str) -> None:
    content = encoded(photograph(1600, 1200), kind, quality=90)
    whole, *_ = decode(content, "photo", NO_LIMITS)
    reduced, *_ = decode(content, "photo", DecodeLimits(target_size=96))
    assert reduced.width < whole.width / 2
    side = (128, 96)
    assert difference(whole.resize(side, 3), reduced.resize(side, 3)) < 1


def test_a_turned_jpeg_is_decoded_small_and_its_size_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(photograph(800, 400), "JPEG", exif=exif)
    image, size, _ = decode(content, "photo", DecodeLimits(target_size=50))
    assert size == (400, 800)
    assert image.size == (100, 200)


def test_a_large_jpeg_is_decoded_within_little_memory() -> None:
    """In a process of its own, because only there the peak of memory outside Python's heap is known.

    On Linux ``ru_maxrss`` would also count what this process, which starts that one, had at once.
    """
    script = (
        "import io, re, resource, sys; from pathlib import Path\n"
        "from PIL import Image; from autotag.images.decoding import *\n"
        "def most():\n"
        "    status = Path('/proc/self/status')\n"
        "    if status.exists(): return int(re.search(r'VmHWM:\\s+(\\d+)', status.read_text())[1]) * 1024\n"
        "    unit = 1 if sys.platform == 'darwin' else 1024\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit\n"
        "content = sys.stdin.buffer.read()\n"
        "before = most()\n"
        "decode(content, 'photo', DecodeLimits(target_size=224))\n"
        "print(most() - before)\n"
    )
    content = encoded(Image.new("RGB", (6000, 6000), RED), "JPEG")
    ran = subprocess.run([sys.executable, "-c", script], input=content, capture_output=True, check=True)
    assert 0 < int(ran.stdout) < 6000 * 6000 * 4 / 2


# --- animations


def animated(frames: list[Image.Image], kind: str) -> bytes:
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **options)


def near(image: Image.Image, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(np.subtract(image.getpixel((2, 2)), colour)).max() < 30)


ANIMATED = pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])


@ANIMATED
def test_the_middle_frame_stands_for_an_animation(kind: str) -> None:
    frames = [two_colours(RED, BLUE), two_colours(GREEN, BLUE), two_colours(BLUE, RED)]
    image, size, _ = decode(animated(frames, kind), "loop", NO_LIMITS)
    assert size == (16, 16)
    assert near(image, GREEN)


@ANIMATED
def test_a_blank_first_frame_does_not_stand_for_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), WHITE), two_colours(GREEN, BLUE)]
    assert near(decode(animated(frames, kind), "loop", NO_LIMITS)[0], GREEN)


@ANIMATED
def test_a_blank_middle_gives_way_to_the_next_frame_that_is_not(kind: str) -> None:
    blank = [Image.new("RGB", (16, 16), (shade,) * 3) for shade in (250, 225, 200)]
    later = [two_colours(RED, BLUE), *blank[:2], blank[2], two_colours(GREEN, BLUE)]
    assert near(decode(animated(later, kind), "loop", NO_LIMITS)[0], GREEN)
    earlier = [two_colours(RED, BLUE), *blank]
    assert near(decode(animated(earlier, kind), "loop", NO_LIMITS)[0], RED)


@ANIMATED
def test_an_animation_of_nothing_but_blank_frames_gives_the_middle_one(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, BLUE)]
    assert near(decode(animated(frames, kind), "loop", NO_LIMITS)[0], GREEN)


def test_of_pages_and_stereo_pictures_the_first_is_taken() -> None:
    pages = [two_colours(RED, BLUE), two_colours(GREEN, BLUE), two_colours(BLUE, RED)]
    for kind in ("TIFF", "MPO"):
        content = encoded(pages[0], kind, save_all=True, append_images=pages[1:])
        assert near(decode(content, "pages", NO_LIMITS)[0], RED), kind


def gif_of(frame_count: int, canvas: tuple[int, int] = (1, 1), offset: int = 0) -> bytes:
    """A GIF of one-pixel frames, 20 bytes each."""
    frame = b"," + struct.pack("<4HB", offset, offset, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    palette = b"\xff\0\0\0\0\xff"
    return b"GIF89a" + struct.pack("<HHBBB", *canvas, 0x80, 0, 0) + palette + frame * frame_count + b";"


def test_a_gif_of_endless_frames_is_read_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []

    class Counting(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            reads.append(1)
            return super().read(size)

    content = gif_of(200_000, (2, 2))
    monkeypatch.setattr(io, "BytesIO", Counting)
    assert decode(content, "bomb", NO_LIMITS)[1] == (2, 2)
    assert 0 < len(reads) < 50_000  # at some 10 reads a frame, 200,000 frames would take 2 million


def test_an_animation_is_only_followed_as_far_as_its_pixels_are_affordable() -> None:
    frames = [two_colours(RED, BLUE, 64), two_colours(GREEN, BLUE, 64), two_colours(BLUE, RED, 64)]
    content = animated(frames, "GIF")
    assert near(decode(content, "loop", DecodeLimits(max_pixels=64 * 64))[0], RED)


def test_a_gif_whose_frames_outgrow_its_canvas_is_refused_before_it_is_decoded() -> None:
    assert "bomb" in reason(gif_of(1, offset=65000))


def test_an_animation_that_promises_more_frames_than_it_has_is_read() -> None:
    png = animated([two_colours(RED, BLUE), two_colours(GREEN, BLUE)], "PNG")
    start = png.index(b"acTL")
    header = b"acTL" + struct.pack(">LL", 400, 0)
    lying = png[:start] + header + struct.pack(">L", zlib.crc32(header)) + png[start + 16 :]
    assert near(decode(lying, "loop", NO_LIMITS)[0], RED)


@pytest.mark.parametrize("headers", [[0], [2**31 + 1], [2, 2]], ids=["none", "too many", "twice"])
def test_a_broken_animation_header_leaves_the_still_picture(headers: list[int]) -> None:
    png = encoded(two_colours(RED, BLUE), "PNG")
    chunks = b""
    for frames in headers:
        header = b"acTL" + struct.pack(">LL", frames, 0)
        chunks += struct.pack(">L", 8) + header + struct.pack(">L", zlib.crc32(header))
    broken = png[:33] + chunks + png[33:]
    with pytest.warns(UserWarning, match="Invalid APNG"):
        Image.open(io.BytesIO(broken))
    assert near(decode(broken, "still", NO_LIMITS)[0], RED)


def test_a_sound_png_is_not_copied() -> None:
    png = encoded(two_colours(RED, BLUE), "PNG")
    assert without_broken_animation(png) is png


# --- files that are not images, or not whole ones


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"just some words\n", "text"),
        (b"\0" * 100, "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"%PDF-1.7", "PDF"),
        (b"8BPS\0\1", "Photoshop"),
        (b"PK\x03\x04", "ZIP"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "video"),
        (b"\xff\x0a\x00", "JPEG XL"),
        (b"\xff\xd8\xff", "damaged"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (b"GIF89a", "damaged"),
        (b"BM", "damaged"),
        (b"II*\0", "cut short"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "damaged"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_the_reason_says_what_it_is_instead(content: bytes, words: str) -> None:
    assert words in reason(content)


KINDS = ["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP", "AVIF"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_ends_too_early_is_an_error(kind: str) -> None:
    content = encoded(photograph(), kind)
    for part in (0.2, 0.5, 0.8):
        assert reason(content[: int(len(content) * part)])


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF"])
def test_what_is_there_of_a_file_that_ends_too_early_is_kept_on_request(
    kind: str, options: dict[str, Any]
) -> None:
    original = photograph(320, 240)
    content = encoded(original, kind, **(options if kind == "JPEG" else {}))
    cut = content[: int(len(content) * 0.7)]
    with pytest.raises(ImageReadError, match=r"cut short.*; to use its readable part, set allow_truncated="):
        decode(cut, "photo", NO_LIMITS)
    image, size, truncated = decode(cut, "photo", DecodeLimits(allow_truncated=True))
    assert size == (320, 240)
    assert truncated
    box = (0, 180, 320, 240) if kind == "BMP" else (0, 0, 320, 60)  # a BMP begins with its last row
    assert difference(image.crop(box), original.crop(box)) < 20
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize("target", [None, 40])
@pytest.mark.parametrize("lost", [1, 2])
@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"subsampling": 0, "restart_marker_blocks": 1}],
    ids=["baseline", "progressive", "with restarts"],
)
def test_a_jpeg_that_lacks_only_its_end_mark_is_read_like_a_whole_one(
    options: dict[str, Any], lost: int, target: int | None
) -> None:
    content = encoded(photograph(323, 241), "JPEG", **options)
    limits = DecodeLimits(target_size=target)
    whole, cut = decode(content, "photo", limits), decode(content[:-lost], "photo", limits)
    assert cut.image == whole.image
    assert not cut.truncated


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9, 0.99])
def test_a_jpeg_that_lacks_pixels_is_refused_unless_that_is_allowed(part: float, progressive: bool) -> None:
    content = encoded(photograph(320, 240), "JPEG", progressive=progressive)
    cut = content[: int(part * len(content))]
    assert "cut short" in reason(cut)
    assert decode(cut, "photo", DecodeLimits(allow_truncated=True)).truncated


def test_a_progressive_jpeg_that_ends_between_two_passes_is_cut_short() -> None:
    content = encoded(photograph(320, 240), "JPEG", progressive=True)
    last_pass = content.rfind(b"\xff\xda")
    tables = content.rfind(b"\xff\xc4", 0, last_pass)
    assert "cut short" in reason(content[:tables])


@pytest.mark.parametrize(("kind", "lost"), [("PNG", 12), ("GIF", 1), ("JPEG", 2), ("WEBP", 1)])
def test_other_kinds_that_lack_bytes_without_pixels_are_read(kind: str, lost: int) -> None:
    content = encoded(photograph(), kind, **({"lossless": True} if kind == "WEBP" else {}))
    if kind == "WEBP":  # a RIFF chunk of odd length is filled up with one byte
        content = next(
            found
            for width in range(160, 260)
            if int.from_bytes((found := encoded(photograph(width), kind, lossless=True))[16:20], "little") % 2
        )
    found = decode(content[:-lost], "photo", NO_LIMITS)
    assert found.image == decode(content, "photo", NO_LIMITS).image
    assert not found.truncated


@pytest.mark.parametrize("lost", [1, 30, 5000])
def test_a_tiff_whose_pixels_end_behind_it_is_cut_short(lost: int) -> None:
    """What is put behind the file to read it must not come out as pixels."""
    original = photograph()
    content = encoded(original, "TIFF")
    assert decode(content, "scan", NO_LIMITS).image == original
    assert "cut short" in reason(content[:-lost])
    found = decode(content[:-lost], "scan", DecodeLimits(allow_truncated=True))
    assert found.truncated
    pixels = np.asarray(found.image).reshape(-1)
    assert np.array_equal(pixels[:-lost], np.asarray(original).reshape(-1)[:-lost])
    assert not pixels[-lost:].any()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF"])
def test_a_file_without_any_pixels_is_an_error_even_if_it_may_end_too_early(kind: str) -> None:
    content = encoded(photograph(), kind)
    start = {"PNG": content.find(b"IDAT") + 4, "BMP": 54, "GIF": content.find(b",\0\0\0\0") + 11}[kind]
    assert reason(content[:start], DecodeLimits(allow_truncated=True))


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_bytes_give_pixels_or_a_reason_and_nothing_else(kind: str) -> None:
    content = encoded(photograph(40, 30), kind)
    rng = np.random.default_rng(7)
    for _ in range(150):
        damaged = bytearray(content)
        for position in rng.integers(0, min(len(content), 400), size=3):
            damaged[position] = rng.integers(0, 256)
        with suppress(ImageReadError):
            assert decode(bytes(damaged), "photo", DecodeLimits(max_pixels=10**6))[0].mode == "RGB"


def test_corrupt_exif_costs_neither_the_picture_nor_a_warning() -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + struct.pack("<HHLL", 0x010F, 2, 5000, 90)
    exif += struct.pack("<HHLHH", 0x0112, 3, 1, 6, 0)
    plain = encoded(photograph(96, 64), "JPEG")
    start = 2 + 2 + struct.unpack_from(">H", plain, 4)[0]
    jpeg = b"\xff\xd8\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[start:]
    with pytest.warns(UserWarning, match="Tag data larger|[Cc]orrupt EXIF"):
        Image.open(io.BytesIO(jpeg))
    assert decode(jpeg, "photo", NO_LIMITS)[1] == (64, 96)


def test_a_malformed_second_picture_costs_neither_the_first_nor_a_warning() -> None:
    frames = [two_colours(RED, BLUE), two_colours(GREEN, BLUE)]
    content = bytearray(encoded(frames[0], "MPO", save_all=True, append_images=frames[1:]))
    start = content.index(b"MPF\0") + 4
    content[start : start + 4] = b"ZZ*\0"
    with pytest.warns(UserWarning, match="malformed MPO"):
        Image.open(io.BytesIO(content))
    assert near(decode(bytes(content), "photo", NO_LIMITS)[0], RED)


# --- bombs


def bomb(kind: str, width: int, height: int) -> bytes:
    """A small file whose header claims a large picture."""
    if kind == "JPEG":
        content = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG"))
        struct.pack_into(">HH", content, content.index(b"\xff\xc0") + 5, height, width)
        return bytes(content)
    if kind == "PNG":
        header = b"IHDR" + struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0)
        png = encoded(Image.new("RGB", (8, 8)), "PNG")
        return png[:12] + header + struct.pack(">L", zlib.crc32(header)) + png[33:]
    if kind == "GIF":
        return gif_of(1, (width, height))
    if kind == "BMP":
        content = bytearray(encoded(Image.new("RGB", (8, 8)), "BMP"))
        struct.pack_into("<ll", content, 18, width, height)
        return bytes(content)
    if kind == "WEBP":
        sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        chunk = b"VP8X" + struct.pack("<LL", 10, 2) + sizes
        return b"RIFF" + struct.pack("<L", 4 + len(chunk)) + b"WEBP" + chunk
    tiff = bytearray(encoded(Image.new("RGB", (8, 8)), "TIFF"))
    (start,) = struct.unpack_from("<L", tiff, 4)
    for place in range(start + 2, start + 2 + 12 * 8, 12):
        tag, _, _ = struct.unpack_from("<HHL", tiff, place)
        if tag in {256, 257}:
            struct.pack_into("<HHLL", tiff, place, tag, 4, 1, width if tag == 256 else height)
    return bytes(tiff)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_bomb_is_refused_by_its_header_before_memory_is_taken(kind: str) -> None:
    tracemalloc.start()
    try:
        said = reason(bomb(kind, 16_000, 16_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "bomb" in said
    assert peak < 10_000_000


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_what_would_take_more_than_a_gigabyte_is_refused_unless_max_pixels_says_otherwise(kind: str) -> None:
    """A solid picture of 144 million pixels is a WebP of 38 bytes or a PNG of 150 KB."""
    mode = {"WEBP": "RGB", "PNG": "RGBA"}[kind]
    content = _solid(kind, 12_001, mode)
    with pytest.raises(ImageTooLargeError) as refused:
        decode(content, "photo.jpg", DecodeLimits(target_size=224))
    assert "12001 x 12001 pixels" in refused.value.reason
    assert "bytes a pixel" in refused.value.reason
    assert "--max-pixels" in refused.value.way_out


def test_a_jpeg_may_be_larger_because_it_is_decoded_smaller() -> None:
    assert decode(_solid("JPEG", 9_500, "L"), "photo", DecodeLimits(target_size=224)).size == (9_500, 9_500)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is asked of Linux")
@pytest.mark.parametrize("kind", ["WEBP", "PNG", "JPEG", "AVIF", "BMP", "GIF", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_decoding_takes_no_more_memory_than_is_reserved(kind: str, mode: str) -> None:
    """In a process of its own, because only there the peak of memory outside Python's heap is known."""
    script = (
        "import re, sys; from autotag.images.decoding import *\n"
        "def kilobytes(name):\n"
        "    return int(re.search(name + r':\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "content = sys.stdin.buffer.read()\n"
        "reserved = []\n"
        "before = kilobytes('VmRSS'); open('/proc/self/clear_refs', 'w').write('5')\n"
        "decode(content, 'photo', DecodeLimits(reserve=reserved.append))\n"
        "print(1024 * (kilobytes('VmHWM') - before), max(reserved))\n"
    )
    modes = {"JPEG": "RGB", "BMP": "RGB", "GIF": "P"}
    content = _solid(kind, 2_500, modes.get(kind, mode))
    ran = subprocess.run([sys.executable, "-c", script], input=content, capture_output=True, check=True)
    taken, reserved = map(int, ran.stdout.split())
    assert taken < 1.1 * reserved + 3_000_000
    assert reserved < 3 * taken + 3_000_000


def test_max_pixels_is_obeyed_and_named() -> None:
    content = encoded(Image.new("RGB", (101, 100)), "PNG")
    assert "max_pixels=10000" in reason(content, DecodeLimits(max_pixels=10_000))
    assert decode(content, "photo", DecodeLimits(max_pixels=10_100))[1] == (101, 100)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_pictures_between_pillows_warning_and_max_pixels_are_read_without_a_warning(kind: str) -> None:
    image = Image.new("1", (10_000, 9_000))
    assert Image.MAX_IMAGE_PIXELS is not None
    assert Image.MAX_IMAGE_PIXELS < 10_000 * 9_000 < MAX_PIXELS
    content = encoded(image, kind)
    limits = Image.MAX_IMAGE_PIXELS
    assert decode(content, "scan", DecodeLimits(target_size=100))[1] == (10_000, 9_000)
    assert limits == Image.MAX_IMAGE_PIXELS


def test_a_strip_too_thin_for_any_model_is_refused() -> None:
    assert "too long and thin" in reason(encoded(Image.new("RGB", (1, 501)), "PNG"))
    assert decode(encoded(Image.new("RGB", (1, 500)), "PNG"), "strip", NO_LIMITS)[1] == (1, 500)


def test_compressed_text_that_blows_up_is_refused() -> None:
    png = encoded(Image.new("RGB", (8, 8)), "PNG")
    text = b"zTXtbomb\0\0" + zlib.compress(bytes(80_000_000))
    chunk = struct.pack(">L", len(text) - 4) + text + struct.pack(">L", zlib.crc32(text))
    assert reason(png[:33] + chunk + png[33:])


def _solid(kind: str, side: int, mode: str) -> bytes:
    """A square of one colour, encoded fast."""
    options: dict[str, dict[str, Any]] = {
        "WEBP": {"lossless": True, "method": 0},
        "PNG": {"compress_level": 1},
        "AVIF": {"speed": 10},
    }
    return encoded(Image.new(mode, (side, side)), kind, **options.get(kind, {}))


# --- many at once


def test_a_pool_of_threads_reads_the_same_pixels() -> None:
    contents = [encoded(photograph(200 + 8 * index, 150), kind) for index, kind in enumerate(KINDS)]
    contents.append(contents[0][: len(contents[0]) // 2])
    limits = DecodeLimits(target_size=40)

    def outcome(content: bytes) -> tuple[bytes, tuple[int, int]] | str:
        try:
            image, size, _ = decode(content, "photo", limits)
        except ImageReadError as error:
            return error.reason
        return image.tobytes(), size

    alone = [outcome(content) for content in contents]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(outcome, contents * 8)) == alone * 8
