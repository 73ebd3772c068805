"""Limits on the size of an image, and the memory that decoding it takes.

Figures are peak bytes per pixel, measured with Pillow 13 as the growth of a process: the codec's memory,
Pillow's image in the file's mode, and the copies on the way to RGB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from autotag.errors import ImageReadError, ImageTooLargeError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

MaxPixels: TypeAlias = int | Literal["auto"]
"""Most pixels of an image that is read, or ``"auto"``: see ``most_pixels``."""

MAX_PIXELS = 178_956_970
"""Twice ``Image.MAX_IMAGE_PIXELS``: Pillow's own limit."""

MAX_ASPECT = 500
"""Largest ratio of longest to shortest side. A model that scales the shortest side up would make millions of
pixels from a thinner strip."""

KEPT_BYTES = 4
"""Bytes that Pillow keeps for each pixel of an RGB image."""

RAW_BYTES = 16
"""Bytes for each pixel of a camera's RAW file: LibRaw's image and the developed one."""

_MOST_BYTES = 2**30
_CODEC_BYTES = {"AVIF": 6, "GIF": 8, "HEIF": 6, "TIFF": 3, "WEBP": 8}
_MODE_BYTES = {"1": 1, "L": 1, "P": 1}
_ALPHA_BYTES = 5  # RGBA, and its alpha as a mask
_PROFILE_BYTES = 4
_DEEP_BYTES = 20  # grey of more than eight bits is scaled as an array
_COEFFICIENT_BYTES = 6  # of a progressive JPEG, for each pixel in the file


def peak_bytes(file: ImageFile) -> int:
    """Return the peak memory of decoding an opened file, in bytes per decoded pixel."""
    has_alpha = "transparency" in file.info or file.mode in {"LA", "La", "PA", "RGBA", "RGBa"}
    is_deep = file.mode in {"I", "F"} or file.mode.startswith("I;16")
    return (
        _CODEC_BYTES.get(file.format or "", 0)
        + _MODE_BYTES.get(file.mode, KEPT_BYTES)
        + KEPT_BYTES
        + has_alpha * _ALPHA_BYTES
        + ("icc_profile" in file.info) * _PROFILE_BYTES
        + is_deep * _DEEP_BYTES
    )


def bytes_to_decode(file: ImageFile, full_size: tuple[int, int]) -> int:
    """Return the peak memory of decoding, in bytes.

    Args:
        file: the opened file; its ``size`` is the size at which it is decoded.
        full_size: width and height in the file.
    """
    coefficients = _COEFFICIENT_BYTES if "progressive" in file.info else 0
    return file.width * file.height * peak_bytes(file) + full_size[0] * full_size[1] * coefficients


def most_pixels(max_pixels: MaxPixels, peak: int | None) -> int:
    """Return the largest accepted number of pixels.

    Args:
        max_pixels: the user's setting. ``"auto"`` is ``MAX_PIXELS``, or fewer for a file that cannot be
            decoded at a smaller size: as many as take 1 GiB at the peak.
        peak: peak bytes per pixel of such a file; None for any other image.
    """
    if max_pixels != "auto":
        return max_pixels
    return MAX_PIXELS if peak is None else min(MAX_PIXELS, _MOST_BYTES // peak)


def check_size(size: tuple[int, int], source: str, max_pixels: MaxPixels, peak: int | None = None) -> None:
    """Refuse an image that would take too much memory, before it is decoded.

    Args:
        size: width and height.
        source: the image's name, for the error.
        max_pixels: see ``most_pixels``.
        peak: see ``most_pixels``.

    Raises:
        ImageTooLargeError: the image has more pixels than ``most_pixels`` allows.
        ImageReadError: its longest side is more than ``MAX_ASPECT`` times its shortest, or it has no pixels.
    """
    width, height = size
    if min(size) < 1:
        raise ImageReadError(source, f"it has no pixels ({width} x {height})")
    most = most_pixels(max_pixels, peak)
    if width * height > most:
        whole = f" (decoding takes {peak} bytes a pixel)" if most < MAX_PIXELS and peak else ""
        raise ImageTooLargeError(
            source,
            f"{width} x {height} pixels are more than max_pixels={most}: possibly a decompression bomb"
            f"{whole}",
            "to read it, set a larger max_pixels (--max-pixels)",
        )
    if max(size) > MAX_ASPECT * min(size):
        raise ImageReadError(source, f"{width} x {height} pixels: too long and thin to look at")
