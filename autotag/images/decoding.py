"""Decode the bytes of an image file to upright RGB, safely even for hostile bytes.

Decoders are called directly and not through ``Image.open``, because that tries every format it knows and
warns about large images through the process-wide ``warnings``, which threads cannot silence safely.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, cast

from PIL import (  # the unused ones register their decoders in Image.OPEN
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    Image,
    ImageChops,
    ImageFile,
    PngImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from autotag.errors import ImageReadError, ImageTooLargeError, install_hint
from autotag.images.colours import to_rgb
from autotag.images.decode_memory import (
    RAW_BYTES,
    MaxPixels,
    bytes_to_decode,
    check_size,
    most_pixels,
    peak_bytes,
)
from autotag.images.jpeg_scans import all_scans_begun
from autotag.images.orientation import orientation, upright, upright_size
from autotag.images.raw_files import decode_raw, is_raw
from autotag.images.tiff_directory import PixelsCutShortError, first_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MAX_FRAMES = 500
_BLANK_RANGE = 8  # grey levels
_JPEG_END = b"\xff\xd9"
_LEAST_ENDING = 64
_LONGEST_ENDING = 2**20
_PILLOW_FORMATS = ("PNG", "GIF", "WEBP", "BMP", "AVIF", "HEIF")  # HEIF: if the user registered a decoder
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
    Warning,  # raised if the user turned warnings into errors
    Image.DecompressionBombError,
    struct.error,
    zlib.error,
)
"""The errors that Pillow's decoders raise on hostile bytes (found by fuzzing)."""


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """The size and memory limits for decoding one image.

    Attributes:
        target_size: shortest side in pixels that is needed, or None for the full size. The decoded shortest
            side is at least twice this, or the file's own if that is smaller.
        max_pixels: refuse images with more pixels (width x height); see ``most_pixels``.
        allow_truncated: use the readable part of a file that ends too early.
        reserve: called before decoding, with the number of bytes that it takes; may wait for free memory.
    """

    target_size: int | None = None
    max_pixels: MaxPixels = "auto"
    allow_truncated: bool = False
    reserve: Callable[[int], None] | None = None


class Decoded(NamedTuple):
    """A decoded image.

    Attributes:
        image: upright RGB pixels.
        size: width and height of the upright original.
        truncated: whether the file ends too early, so that some pixels are filled in.
    """

    image: Image.Image
    size: tuple[int, int]
    truncated: bool


def decode(encoded: bytes, source: str, limits: DecodeLimits) -> Decoded:
    """Decode an image file to upright RGB pixels.

    One frame of an animation is used: the middle one, or the next that is not blank. A file without its last
    bytes is read like a whole one if its pixels do not need them.

    Raises:
        ImageReadError: names ``source`` and the reason.
    """
    if not encoded:
        raise ImageReadError(source, "the file is empty (0 bytes)")
    if is_raw(source):
        return _decode_raw(encoded, source, limits)
    try:
        return _decoded(encoded, source, replace(limits, allow_truncated=False))
    except DECODER_ERRORS as error:
        found = _decoded_without_end(encoded, source, limits, error)
        if found is None:
            too_large = isinstance(error, Image.DecompressionBombError)
            refusal = ImageTooLargeError if too_large else ImageReadError
            raise refusal(source, *_damage(error, encoded, limits)) from error
        return found


def _decoded(encoded: bytes, source: str, limits: DecodeLimits) -> Decoded:
    """Decode a file, which may end too early only if ``limits`` allow it."""
    file, turned = _open(encoded, limits)
    if file is None:
        raise ImageReadError(source, *_not_an_image(encoded))
    with file:
        check_size(file.size, source, limits.max_pixels, _peak_if_whole(file))
        size = file.size
        pixels = _pixels(file, encoded, limits)
        turned = turned or orientation(file.info)  # a PNG may have its EXIF after the pixels
        return Decoded(upright(pixels, turned), upright_size(size, turned), limits.allow_truncated)


def _peak_if_whole(file: ImageFile.ImageFile) -> int | None:
    """Return the peak bytes per pixel, or None for a JPEG, which can be decoded at a smaller size."""
    return None if isinstance(file, _Jpeg) else peak_bytes(file)


def _decoded_without_end(
    encoded: bytes, source: str, limits: DecodeLimits, error: Exception
) -> Decoded | None:
    """Decode a file that ends too early: all pixels or, if allowed, the readable ones; else return None.

    All pixels are in the file if they come out the same with different bytes appended to it. None means that
    they do not, or that the file has another defect.
    """
    if _is_jpeg(encoded):
        encoded = encoded.rstrip(b"\xff")  # half a marker would form a marker with the appended bytes
    if _is_cut_short(error, encoded):
        whole = replace(limits, allow_truncated=False)
        missing = error.missing if isinstance(error, PixelsCutShortError) else 0
        try:
            endings = _endings(min(max(missing, _LEAST_ENDING), _LONGEST_ENDING))
            first, *others = (_decoded(encoded + ending, source, whole) for ending in endings)
            if all(_are_same(first.image, other.image) for other in others) and _announces_all(encoded):
                return first
        except DECODER_ERRORS:
            pass  # then pixels are missing
    if not limits.allow_truncated:
        return None
    try:
        return _decoded(encoded + _JPEG_END if _is_jpeg(encoded) else encoded, source, limits)
    except DECODER_ERRORS:
        return None


def _endings(size: int) -> Iterator[bytes]:
    """Yield bytes to append to a file that ends too early; the first are end marks only."""
    for filling in (_JPEG_END, b"\x55\xaa", b"\xaa\x55"):
        yield filling * ((size + 1) // 2) + _JPEG_END


def _are_same(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and ImageChops.difference(one, other).getbbox() is None


def _announces_all(encoded: bytes) -> bool:
    """Return False if a file lacks scans: a progressive JPEG may end after a scan that is not the last."""
    return not _is_jpeg(encoded) or all_scans_begun(encoded)


def _is_jpeg(encoded: bytes) -> bool:
    return encoded.startswith(b"\xff\xd8\xff")


def _is_cut_short(error: Exception, encoded: bytes) -> bool:
    """Return True if the decoder's error says that the file ends too early."""
    webp = encoded[:4] == b"RIFF" and int.from_bytes(encoded[4:8], "little") + 8 > len(encoded)
    return webp or isinstance(error, PixelsCutShortError) or "truncated" in str(error).lower()


def shrink(image: Image.Image, target_size: int | None) -> Image.Image:
    """Average the image down by a whole factor; its shortest side stays at least twice ``target_size``."""
    factor = min(image.size) // (2 * target_size) if target_size else 1
    return image.reduce(factor) if factor > 1 else image


class _Jpeg(JpegImageFile):
    """Open the first image of a JPEG, an MPO or a motion photo."""

    def _open(self) -> None:
        self.info["dpi"] = (72, 72)  # so that Pillow does not parse EXIF to find it
        super()._open()


class _Tiff(TiffImageFile):
    """Open one page whose size is already checked; ignore its orientation."""

    def load_prepare(self) -> None:
        """Allocate the pixels without a second size check, which would warn."""
        ImageFile.ImageFile.load_prepare(self)


def _open(encoded: bytes, limits: DecodeLimits) -> tuple[ImageFile.ImageFile | None, int]:
    """Open a file without decoding it; return it and its orientation (0: see ``info``).

    The file is None if no decoder accepts the bytes. The content decides, never a file's name.
    """
    if _is_jpeg(encoded):
        return _Jpeg(io.BytesIO(encoded)), 0
    if encoded[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        page, turned = first_page(encoded, allow_truncated=limits.allow_truncated)
        return _Tiff(io.BytesIO(page)), turned
    for name in _PILLOW_FORMATS:
        opener, accepts = Image.OPEN.get(name, (None, None))
        if opener and accepts and accepts(encoded[:16]) is True:
            if name == "PNG":
                encoded = without_broken_animation(encoded)
            return opener(io.BytesIO(encoded), ""), 0
    return _open_heif(encoded), 0


def _open_heif(encoded: bytes) -> ImageFile.ImageFile | None:
    """Open a HEIC file with pi-heif, without changing Pillow; None for others or without the extra."""
    if encoded[4:8] != b"ftyp" or encoded[8:12] not in _HEIF_BRANDS:
        return None
    try:
        from pi_heif import HeifImageFile
    except ImportError:
        return None
    file: ImageFile.ImageFile = HeifImageFile(io.BytesIO(encoded), "")
    return file


def _decode_raw(encoded: bytes, source: str, limits: DecodeLimits) -> Decoded:
    truncated = False

    def check(size: tuple[int, int]) -> None:
        check_size(size, source, limits.max_pixels)
        if limits.reserve:
            limits.reserve(size[0] * size[1] * RAW_BYTES)

    def decode_preview(jpeg: bytes) -> Image.Image:
        nonlocal truncated
        found = decode(jpeg, f"{source} (preview)", replace(limits, reserve=None))
        truncated = found.truncated
        return found.image

    pixels, size = decode_raw(encoded, source, decode_jpeg=decode_preview, check_size=check)
    return Decoded(shrink(pixels, limits.target_size), size, truncated)


def _pixels(file: ImageFile.ImageFile, encoded: bytes, limits: DecodeLimits) -> Image.Image:
    """Decode one frame to RGB, not yet turned upright, averaged down as far as ``limits`` allow."""
    full_size = file.size
    if isinstance(file, _Jpeg) and limits.target_size:
        file.draft(None, (2 * limits.target_size, 2 * limits.target_size))
    if limits.reserve:
        limits.reserve(bytes_to_decode(file, full_size))
    if isinstance(file, GifImageFile):
        count = _gif_frames(encoded, file, limits)
    elif isinstance(file, (_Jpeg, _Tiff)) or file.format == "HEIF":
        count = 1  # further pages and depth maps are other images, not frames of this one
    else:
        count = getattr(file, "n_frames", 1)
    # Frames build on each other, so all frames up to the chosen one are decoded.
    affordable = most_pixels(limits.max_pixels, _peak_if_whole(file)) // (file.size[0] * file.size[1])
    return _representative(file, max(1, min(count, affordable, _MAX_FRAMES)), limits)


def _representative(file: ImageFile.ImageFile, count: int, limits: DecodeLimits) -> Image.Image:
    """Return the middle one of ``count`` frames, or the next that is not blank; search on from the first.

    If all are blank, return the middle one.
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
    """Yield frames from ``start`` up to ``stop`` or to the first that cannot be decoded."""
    for index in range(start, stop):
        try:
            if file.tell() != index:
                file.seek(index)
            load_pixels(file, limits)
            frame = shrink(to_rgb(file), limits.target_size)
        except DECODER_ERRORS:
            if index == 0:
                raise
            return
        yield frame


def load_pixels(image: Image.Image, limits: DecodeLimits) -> bool:
    """Decode the pixels, or, if allowed, the readable ones of a file that ends too early.

    Returns:
        True if pixels are missing.
    """
    try:
        image.load()
    except DECODER_ERRORS:
        if not (limits.allow_truncated and isinstance(image, ImageFile.ImageFile)):
            raise
        image.tile = []  # stop decoding and keep the pixels so far
        image.load()
        if image.getbbox(alpha_only=False) is None:
            raise
        return True
    return False


def _is_blank(image: Image.Image) -> bool:
    """Return True if all pixels of an RGB image have the same colour, except for compression noise."""
    bands = cast("tuple[tuple[int, int], ...]", image.getextrema())
    return all(high - low <= _BLANK_RANGE for low, high in bands)


def _gif_frames(encoded: bytes, file: GifImageFile, limits: DecodeLimits) -> int:
    """Return the number of frames of a GIF, at most ``_MAX_FRAMES``.

    Pillow's own count takes a second for 50,000 frames, which fit in a megabyte.

    Raises:
        ValueError: canvas and frames are so large that Pillow would warn.
    """
    width, height = file.size
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
        pass  # it ends too early: count the frames so far; decoding them shows if they are whole
    most = most_pixels(limits.max_pixels, peak_bytes(file))
    if width * height > min(most, Image.MAX_IMAGE_PIXELS or most):
        raise ValueError(f"a GIF of {width} x {height} pixels, possibly a decompression bomb")
    return count


def _gif_palette_size(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_gif_blocks(encoded: bytes, position: int) -> int:
    while encoded[position]:
        position += encoded[position] + 1
    return position + 1


def without_broken_animation(png: bytes) -> bytes:
    """Remove the animation headers that Pillow would warn about; the PNG then shows its still image."""
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


def _damage(error: Exception, encoded: bytes, limits: DecodeLimits) -> tuple[str, str]:
    """Return what is wrong with a file whose decoder failed, and what helps."""
    said = str(error) or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):
        return f"possibly a decompression bomb: {said}", ""
    if not _is_cut_short(error, encoded):
        return f"the file is damaged or of an unsupported kind ({said})", ""
    way_out = "to use its readable part, set allow_truncated=True (--allow-truncated on the command line)"
    return f"the file is cut short ({said})", "" if limits.allow_truncated else way_out


def _not_an_image(encoded: bytes) -> tuple[str, str]:
    """Return what the bytes are instead of an image, as far as their beginning shows, and what helps."""
    start = encoded[:512].lstrip()
    brand = encoded[8:12] if encoded[4:8] == b"ftyp" else b""
    if brand in _HEIF_BRANDS:
        return "HEIC is not supported here", f"install: {install_hint('heic')}"
    if brand:
        return "it is a video, not an image", ""
    for magic, kind in _OTHER_KINDS.items():
        if start.startswith(magic):
            return f"it is {kind}; supported are JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF and MPO", ""
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in start):
        return "it is text, not an image", ""
    return "it is not an image in a supported format (JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF, MPO)", ""
