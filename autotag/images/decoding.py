"""The bytes of an image file to upright RGB, whatever is in them, without harm.

Decoders are called directly and not through ``Image.open``: that warns about large pictures through the
process-wide warnings machinery, which threads cannot silence safely, and tries every format it knows.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, cast

from PIL import (  # those unused here register their decoders in Image.OPEN
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

from autotag.errors import ImageReadError, install_hint
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
        max_pixels: pictures of more pixels (width x height) are refused; see ``most_pixels``.
        allow_truncated: keep what can be read of a file that ends too early.
        reserve: called, with the bytes that decoding takes, before it begins; it may wait for room.
    """

    target_size: int | None = None
    max_pixels: MaxPixels = "auto"
    allow_truncated: bool = False
    reserve: Callable[[int], None] | None = None


class Decoded(NamedTuple):
    """A picture.

    Attributes:
        image: upright RGB pixels.
        size: width and height of the upright original.
        truncated: whether the file ends too early, so that some of the pixels are not its own.
    """

    image: Image.Image
    size: tuple[int, int]
    truncated: bool


def decode(encoded: bytes, source: str, limits: DecodeLimits) -> Decoded:
    """Return upright RGB pixels, and what else there is to say about them.

    Of an animation one frame is taken: the middle one, or the next that is not blank. A file that lacks its
    last bytes, but none that its pixels need, is read like a whole one.

    Raises:
        ImageReadError: with ``source`` and what is wrong.
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
            raise ImageReadError(source, _damage(error, encoded, limits)) from error
        return found


def _decoded(encoded: bytes, source: str, limits: DecodeLimits) -> Decoded:
    """Return the picture in a file, which may end too early only if ``limits`` allow it."""
    file, turned = _open(encoded, limits)
    if file is None:
        raise ImageReadError(source, _not_an_image(encoded))
    with file:
        check_size(file.size, source, limits.max_pixels, _peak_if_whole(file))
        size = file.size
        pixels = _pixels(file, encoded, limits)
        turned = turned or orientation(file.info)  # a PNG may keep its EXIF behind the pixels
        return Decoded(upright(pixels, turned), upright_size(size, turned), limits.allow_truncated)


def _peak_if_whole(file: ImageFile.ImageFile) -> int | None:
    """Return the bytes per pixel of a file that cannot be decoded smaller; None of a JPEG, which can."""
    return None if isinstance(file, _Jpeg) else peak_bytes(file)


def _decoded_without_end(
    encoded: bytes, source: str, limits: DecodeLimits, error: Exception
) -> Decoded | None:
    """Return what is in a file that ends too early: all pixels, or, if that will do, those that are there.

    All are there if they come out the same whatever stands behind the end of the file. None: they do not, or
    something else is wrong with the file.
    """
    if _is_jpeg(encoded):
        encoded = encoded.rstrip(b"\xff")  # half an end mark would make a mark of what is put behind it
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
    """Yield things that might stand behind the end of a file: the first says that there is nothing more."""
    for filling in (_JPEG_END, b"\x55\xaa", b"\xaa\x55"):
        yield filling * ((size + 1) // 2) + _JPEG_END


def _are_same(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and ImageChops.difference(one, other).getbbox() is None


def _announces_all(encoded: bytes) -> bool:
    """Whether a file names all its pixels; a progressive JPEG may end behind a pass that is not the last."""
    return not _is_jpeg(encoded) or all_scans_begun(encoded)


def _is_jpeg(encoded: bytes) -> bool:
    return encoded.startswith(b"\xff\xd8\xff")


def _is_cut_short(error: Exception, encoded: bytes) -> bool:
    """Whether a decoder gave up because the file ends too early, as far as it says so."""
    webp = encoded[:4] == b"RIFF" and int.from_bytes(encoded[4:8], "little") + 8 > len(encoded)
    return webp or isinstance(error, PixelsCutShortError) or "truncated" in str(error).lower()


def shrink(image: Image.Image, target_size: int | None) -> Image.Image:
    """The image averaged down by a whole factor, its shortest side still at least twice ``target_size``."""
    factor = min(image.size) // (2 * target_size) if target_size else 1
    return image.reduce(factor) if factor > 1 else image


class _Jpeg(JpegImageFile):
    """The first picture of a JPEG, an MPO or a motion photo."""

    def _open(self) -> None:
        self.info["dpi"] = (72, 72)  # so that no EXIF is parsed to find it
        super()._open()


class _Tiff(TiffImageFile):
    """One page, its size checked already and its orientation left alone."""

    def load_prepare(self) -> None:
        """Makes room for the pixels without a second check, which would warn."""
        ImageFile.ImageFile.load_prepare(self)


def _open(encoded: bytes, limits: DecodeLimits) -> tuple[ImageFile.ImageFile | None, int]:
    """The opened file, none of its pixels decoded, and its orientation (0: look into ``info``).

    None in place of the file: no decoder knows these bytes. The content decides, never a file's name.
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
    """A HEIC file by pi-heif, which Pillow does not learn; None for others, or without the extra."""
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
    """One frame in RGB, not turned upright yet, decoded and averaged down as far as ``limits`` allow."""
    full_size = file.size
    if isinstance(file, _Jpeg) and limits.target_size:
        file.draft(None, (2 * limits.target_size, 2 * limits.target_size))
    if limits.reserve:
        limits.reserve(bytes_to_decode(file, full_size))
    if isinstance(file, GifImageFile):
        count = _gif_frames(encoded, file, limits)
    elif isinstance(file, (_Jpeg, _Tiff)) or file.format == "HEIF":
        count = 1  # further pages and depth maps are other pictures, not moments of this one
    else:
        count = getattr(file, "n_frames", 1)
    # Frames build on each other: all up to the chosen one are decoded.
    affordable = most_pixels(limits.max_pixels, _peak_if_whole(file)) // (file.size[0] * file.size[1])
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
            load_pixels(file, limits)
            frame = shrink(to_rgb(file), limits.target_size)
        except DECODER_ERRORS:
            if index == 0:
                raise
            return
        yield frame


def load_pixels(image: Image.Image, limits: DecodeLimits) -> bool:
    """Decode the pixels; of a file that ends too early those that are there, if that is allowed.

    Returns:
        Whether pixels are missing.
    """
    try:
        image.load()
    except DECODER_ERRORS:
        if not (limits.allow_truncated and isinstance(image, ImageFile.ImageFile)):
            raise
        image.tile = []  # nothing more to decode: what the decoder has written so far stays
        image.load()
        if image.getbbox(alpha_only=False) is None:
            raise
        return True
    return False


def _is_blank(image: Image.Image) -> bool:
    """Whether every pixel of an RGB image is the same colour, but for the noise of compression."""
    bands = cast("tuple[tuple[int, int], ...]", image.getextrema())
    return all(high - low <= _BLANK_RANGE for low, high in bands)


def _gif_frames(encoded: bytes, file: GifImageFile, limits: DecodeLimits) -> int:
    """How many frames a GIF has, at most ``_MAX_FRAMES``.

    Pillow's own count takes a second for every 50,000 frames, which fit into a megabyte.

    Raises:
        ValueError: canvas and frames together are so large that Pillow would warn.
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
        pass  # it ends too early: the frames so far count, and decoding them shows whether they are whole
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


def _damage(error: Exception, encoded: bytes, limits: DecodeLimits) -> str:
    """What is wrong with a file whose decoder gave up, in words."""
    said = str(error) or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):
        return f"possibly a decompression bomb: {said}"
    if not _is_cut_short(error, encoded):
        return f"the file is damaged or of an unsupported kind ({said})"
    way_out = "allow_truncated=True (--allow-truncated on the command line) keeps what can be read"
    hint = "" if limits.allow_truncated else f"; {way_out}"
    return f"the file is cut short ({said}){hint}"


def _not_an_image(encoded: bytes) -> str:
    """What these bytes are instead, as far as their beginning tells."""
    start = encoded[:512].lstrip()
    brand = encoded[8:12] if encoded[4:8] == b"ftyp" else b""
    if brand in _HEIF_BRANDS:
        return f"HEIC needs: {install_hint('heic')}"
    if brand:
        return "it is a video, not an image"
    for magic, kind in _OTHER_KINDS.items():
        if start.startswith(magic):
            return f"it is {kind}; supported are JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF and MPO"
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in start):
        return "it is text, not an image"
    return "it is not an image in a supported format (JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF, MPO)"
