"""The bytes of an image file to upright RGB, whatever is in them, without harm.

Decoders are called directly and not through ``Image.open``: that warns about large pictures through the
process-wide warnings machinery, which threads cannot silence safely, and tries every format it knows.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from PIL import (  # those unused here register their decoders in Image.OPEN
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    Image,
    ImageFile,
    PngImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from autotag.colours import to_rgb
from autotag.errors import ImageReadError
from autotag.orientation import orientation, upright, upright_size
from autotag.raw_files import decode_raw, is_raw
from autotag.tiff_directory import first_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_PIXELS = 178_956_970
"""Pictures of more pixels are refused: twice ``Image.MAX_IMAGE_PIXELS``, where Pillow itself gives up."""

MAX_ASPECT = 500
"""Longest side over shortest side. A model that scales the shortest side up would make millions of pixels
out of a thinner strip."""

_MAX_FRAMES = 500
_BLANK_RANGE = 8  # grey levels
_PILLOW_FORMATS = ("PNG", "GIF", "WEBP", "BMP", "AVIF", "HEIF")  # HEIF: there if the user registered one
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_OTHER_KINDS = {
    b"<svg": "an SVG drawing",
    b"<?xml": "an XML or SVG document",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
    b"%PDF": "a PDF document",
    b"8BPS": "a Photoshop document",
    b"PK\x03\x04": "a ZIP archive",
    b"\xff\x0a": "a JPEG XL image",
    b"\x00\x00\x00\x0cJXL ": "a JPEG XL image",
    b"\x00\x00\x00\x0cjP  ": "a JPEG 2000 image",
}

DECODER_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Warning,  # raised where the user turned warnings into errors
    Image.DecompressionBombError,
    struct.error,
    zlib.error,
)
"""What Pillow's decoders raise on hostile bytes (found by feeding them such bytes)."""


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """How far to go with one picture.

    Attributes:
        target_size: shortest side in pixels that is needed, or None for all there is. What is decoded has
            a shortest side of at least twice this, as far as the file goes.
        max_pixels: pictures of more pixels (width x height) are refused.
        allow_truncated: keep what can be read of a file that ends too early.
        reserve: called, with the number of pixels, before they are decoded; it may wait for room.
    """

    target_size: int | None = None
    max_pixels: int = MAX_PIXELS
    allow_truncated: bool = False
    reserve: Callable[[int], None] | None = None


def decode(encoded: bytes, source: str, limits: DecodeLimits) -> tuple[Image.Image, tuple[int, int]]:
    """Upright RGB pixels, and the width and height of the upright original.

    Of an animation one frame is taken: the middle one, or the next that is not blank.

    Raises:
        ImageReadError: with ``source`` and what is wrong.
    """
    if not encoded:
        raise ImageReadError(source, "the file is empty (0 bytes)")
    if is_raw(source):
        return _decode_raw(encoded, source, limits)
    try:
        file, turned = _open(encoded, limits)
        if file is None:
            raise ImageReadError(source, _not_an_image(encoded))
        with file:
            check_size(file.size, source, limits.max_pixels)
            size = file.size
            pixels = _pixels(file, encoded, limits)
            turned = turned or orientation(file.info)  # a PNG may keep its EXIF behind the pixels
            return upright(pixels, turned), upright_size(size, turned)
    except DECODER_ERRORS as error:
        raise ImageReadError(source, _damage(error, limits)) from error


def check_size(size: tuple[int, int], source: str, max_pixels: int) -> None:
    """Refuses what would take too much memory, before any pixel is decoded.

    Raises:
        ImageReadError: more than ``max_pixels``, or longer than ``MAX_ASPECT`` times its width.
    """
    width, height = size
    if min(size) < 1:
        raise ImageReadError(source, f"it has no pixels ({width} x {height})")
    if width * height > max_pixels:
        raise ImageReadError(
            source,
            f"{width} x {height} pixels are more than max_pixels={max_pixels}: possibly a decompression bomb",
        )
    if max(size) > MAX_ASPECT * min(size):
        raise ImageReadError(source, f"{width} x {height} pixels are a strip too thin to look at")


def shrink(image: Image.Image, target_size: int | None) -> Image.Image:
    """The image averaged down by a whole factor, its shortest side still at least twice ``target_size``."""
    factor = min(image.size) // (2 * target_size) if target_size else 1
    return image.reduce(factor) if factor > 1 else image


class _Jpeg(JpegImageFile):
    """The first picture of a JPEG, an MPO or a motion photo."""

    allow_truncated = False

    def _open(self) -> None:
        self.info["dpi"] = (72, 72)  # so that no EXIF is parsed to find it
        super()._open()

    def load_read(self, read_bytes: int) -> bytes:
        """The next bytes; an end-of-image marker after the last, so that what came before is shown."""
        return super().load_read(read_bytes) or (b"\xff\xd9" if self.allow_truncated else b"")


class _Tiff(TiffImageFile):
    """One page, its size checked already and its orientation left alone."""

    def load_prepare(self) -> None:
        """Makes room for the pixels without a second check, which would warn."""
        ImageFile.ImageFile.load_prepare(self)


def _open(encoded: bytes, limits: DecodeLimits) -> tuple[ImageFile.ImageFile | None, int]:
    """The opened file, none of its pixels decoded, and its orientation (0: look into ``info``).

    None in place of the file: no decoder knows these bytes. The content decides, never a file's name.
    """
    if encoded.startswith(b"\xff\xd8\xff"):
        jpeg = _Jpeg(io.BytesIO(encoded))
        jpeg.allow_truncated = limits.allow_truncated
        return jpeg, 0
    if encoded[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        page, turned = first_page(encoded)
        return _Tiff(io.BytesIO(page)), turned
    for name in _PILLOW_FORMATS:
        opener, accepts = Image.OPEN.get(name, (None, None))
        if opener and accepts and accepts(encoded[:16]) is True:
            if name == "PNG":
                encoded = without_broken_animation(encoded)
            return opener(io.BytesIO(encoded), ""), 0
    return _open_heif(encoded), 0


def _open_heif(encoded: bytes) -> ImageFile.ImageFile | None:
    """A HEIC file by pi-heif, which Pillow does not learn; None for others, or without the extra."""
    if encoded[4:8] != b"ftyp" or encoded[8:12] not in _HEIF_BRANDS:
        return None
    try:
        from pi_heif import HeifImageFile
    except ImportError:
        return None
    file: ImageFile.ImageFile = HeifImageFile(io.BytesIO(encoded), "")
    return file


def _decode_raw(encoded: bytes, source: str, limits: DecodeLimits) -> tuple[Image.Image, tuple[int, int]]:
    def check(size: tuple[int, int]) -> None:
        check_size(size, source, limits.max_pixels)
        if limits.reserve:
            limits.reserve(size[0] * size[1])

    preview = replace(limits, reserve=None)
    pixels, size = decode_raw(
        encoded,
        source,
        decode_jpeg=lambda jpeg: decode(jpeg, f"{source} (preview)", preview),
        check_size=check,
    )
    return shrink(pixels, limits.target_size), size


def _pixels(file: ImageFile.ImageFile, encoded: bytes, limits: DecodeLimits) -> Image.Image:
    """One frame in RGB, not turned upright yet, decoded and averaged down as far as ``limits`` allow."""
    if isinstance(file, _Jpeg) and limits.target_size:
        file.draft(None, (2 * limits.target_size, 2 * limits.target_size))
    if limits.reserve:
        limits.reserve(file.size[0] * file.size[1])
    if isinstance(file, GifImageFile):
        count = _gif_frames(encoded, file.size, limits)
    elif isinstance(file, (_Jpeg, _Tiff)) or file.format == "HEIF":
        count = 1  # further pages and depth maps are other pictures, not moments of this one
    else:
        count = getattr(file, "n_frames", 1)
    # Frames build on each other: all up to the chosen one are decoded.
    affordable = min(limits.max_pixels, MAX_PIXELS) // (file.size[0] * file.size[1])
    return _representative(file, max(1, min(count, affordable, _MAX_FRAMES)), limits)


def _representative(file: ImageFile.ImageFile, count: int, limits: DecodeLimits) -> Image.Image:
    """The middle one of ``count`` frames, or the next that is not blank, after the last the first one.

    If all are blank, the middle one.
    """
    first_found: Image.Image | None = None
    for start, stop in ((count // 2, count), (0, count // 2)):
        for frame in _frames(file, start, stop, limits):
            if count == 1 or not _is_blank(frame):
                return frame
            first_found = first_found or frame
    if first_found is None:
        raise EOFError("no frame can be decoded")
    return first_found


def _frames(file: ImageFile.ImageFile, start: int, stop: int, limits: DecodeLimits) -> Iterator[Image.Image]:
    """Frames from ``start`` on, up to ``stop`` or to the first that cannot be decoded."""
    for index in range(start, stop):
        try:
            if file.tell() != index:
                file.seek(index)
            _load(file, limits)
            frame = shrink(to_rgb(file), limits.target_size)
        except DECODER_ERRORS:
            if index == 0:
                raise
            return
        yield frame


def _load(file: ImageFile.ImageFile, limits: DecodeLimits) -> None:
    """Decodes the pixels; of a file that ends too early those that are there, if that is allowed."""
    try:
        file.load()
    except DECODER_ERRORS:
        if not limits.allow_truncated:
            raise
        file.tile = []  # nothing more to decode: what the decoder has written so far stays
        file.load()
        if file.getbbox(alpha_only=False) is None:
            raise


def _is_blank(image: Image.Image) -> bool:
    """Whether every pixel of an RGB image is the same colour, but for the noise of compression."""
    bands = cast("tuple[tuple[int, int], ...]", image.getextrema())
    return all(high - low <= _BLANK_RANGE for low, high in bands)


def _gif_frames(encoded: bytes, canvas: tuple[int, int], limits: DecodeLimits) -> int:
    """How many frames a GIF has, at most ``_MAX_FRAMES``.

    Pillow's own count takes a second for every 50,000 frames, which fit into a megabyte.

    Raises:
        ValueError: canvas and frames together are so large that Pillow would warn.
    """
    width, height = canvas
    count, position = 0, 13 + _gif_palette_size(encoded[10])
    try:
        while count < _MAX_FRAMES and encoded[position] in b"!,":
            if encoded[position] == ord("!"):
                position = _after_gif_blocks(encoded, position + 2)
                continue
            left, top, across, down, flags = struct.unpack_from("<4HB", encoded, position + 1)
            width, height = max(width, left + across), max(height, top + down)
            position = _after_gif_blocks(encoded, position + 11 + _gif_palette_size(flags))
            count += 1
    except (IndexError, struct.error):
        pass  # it ends too early: the frames so far count, and decoding them shows whether they are whole
    if width * height > min(limits.max_pixels, Image.MAX_IMAGE_PIXELS or MAX_PIXELS):
        raise ValueError(f"a GIF of {width} x {height} pixels, possibly a decompression bomb")
    return count


def _gif_palette_size(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_gif_blocks(encoded: bytes, position: int) -> int:
    while encoded[position]:
        position += encoded[position] + 1
    return position + 1


def without_broken_animation(png: bytes) -> bytes:
    """The PNG without animation headers that Pillow would warn about: it shows the still picture then."""
    position, kept, headers = 8, [png[:8]], 0
    while position + 8 <= len(png):
        length, name = struct.unpack_from(">L4s", png, position)
        if name == b"IDAT":
            break
        chunk = png[position : position + length + 12]
        if name == b"acTL":
            headers += 1
            frames = int.from_bytes(chunk[8:12], "big")
            chunk = chunk if headers == 1 and 0 < frames <= 0x80000000 else b""
        kept.append(chunk)
        position += length + 12
    return b"".join((*kept, png[position:])) if headers else png


def _damage(error: Exception, limits: DecodeLimits) -> str:
    """What is wrong with a file whose decoder gave up, in words."""
    said = str(error) or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):
        return f"possibly a decompression bomb: {said}"
    if "truncated" not in said.lower():
        return f"the file is damaged or of an unsupported kind ({said})"
    hint = "" if limits.allow_truncated else "; allow_truncated=True keeps what can be read"
    return f"the file is cut short ({said}){hint}"


def _not_an_image(encoded: bytes) -> str:
    """What these bytes are instead, as far as their beginning tells."""
    start = encoded[:512].lstrip()
    brand = encoded[8:12] if encoded[4:8] == b"ftyp" else b""
    if brand in _HEIF_BRANDS:
        return "HEIC needs: pip install 'autotag[heic]'"
    if brand:
        return "it is a video, not an image"
    for magic, kind in _OTHER_KINDS.items():
        if start.startswith(magic):
            return f"it is {kind}; supported are JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF and MPO"
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in start):
        return "it is text, not an image"
    return "it is not an image in a supported format (JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF, MPO)"
