"""Read cameras' RAW files: the embedded preview, or the developed sensor data.

Needs the extra ``autotag-images[raw]`` (rawpy).
"""

from __future__ import annotations

import importlib.util
import io
import os
from typing import TYPE_CHECKING, Any

from PIL import Image

from autotag.errors import ImageReadError, install_hint
from autotag.images.orientation import upright, upright_size

if TYPE_CHECKING:
    from collections.abc import Callable

RAW_SUFFIXES = frozenset(
    (
        ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".k25", ".kdc",
        ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2",
        ".srf", ".srw", ".x3f",
    )
)  # fmt: skip
"""Extensions of RAW files, in lower case."""

_LEAST_PREVIEW = 448  # pixels of the shortest side; smaller previews are for the camera's screen
_TURNED = {3: 3, 5: 8, 6: 6}  # LibRaw's orientation -> EXIF's


def is_raw(name: str) -> bool:
    """Return True if the file's extension is that of a RAW format."""
    return os.path.splitext(name)[1].lower() in RAW_SUFFIXES  # noqa: PTH122 - may not be a path


def can_read_raw() -> bool:
    """Return True if the extra is installed."""
    return importlib.util.find_spec("rawpy") is not None


def decode_raw(
    encoded: bytes,
    source: str,
    *,
    decode_jpeg: Callable[[bytes], Image.Image],
    check_size: Callable[[tuple[int, int]], None],
) -> tuple[Image.Image, tuple[int, int]]:
    """Return upright RGB pixels, and the width and height of the upright photograph.

    The embedded JPEG preview is used if it is large enough, because the camera developed it; otherwise the
    sensor data are developed at half size with the camera's white balance.

    Args:
        encoded: the file's bytes.
        source: the file's name, for errors.
        decode_jpeg: decodes a preview.
        check_size: refuses photographs that are too large; called before decoding.

    Raises:
        ImageReadError: rawpy is not installed, or cannot read the file.
    """
    try:
        import rawpy
    except ImportError as error:
        raise ImageReadError(
            source, "RAW files are not supported here", f"install: {install_hint('raw')}"
        ) from error
    try:
        with rawpy.imread(io.BytesIO(encoded)) as raw:
            turned = _TURNED.get(raw.sizes.flip, 1)
            size = upright_size((raw.sizes.width, raw.sizes.height), turned)
            check_size(size)
            preview = _preview(raw)
            if preview is not None:
                return _as_held(decode_jpeg(preview), size, turned), size
            developed = raw.postprocess(half_size=True, use_camera_wb=True, output_bps=8)
            return Image.fromarray(developed), size
    except rawpy.LibRawError as error:
        said = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise ImageReadError(
            source, f"the RAW file is damaged or of an unsupported camera ({said})"
        ) from error


def _preview(raw: Any) -> bytes | None:
    """Return the embedded JPEG if it is large enough, else None."""
    import rawpy

    try:
        thumb = raw.extract_thumb()
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError):
        return None
    if thumb.format != rawpy.ThumbFormat.JPEG:
        return None
    with Image.open(io.BytesIO(thumb.data), formats=("JPEG",)) as shown:
        least = min(_LEAST_PREVIEW, min(raw.sizes.width, raw.sizes.height) // 2)
        return thumb.data if min(shown.size) >= least else None


def _as_held(pixels: Image.Image, size: tuple[int, int], turned: int) -> Image.Image:
    """Turn a preview upright, unless its own EXIF did so already.

    Only a preview with the wrong shape is turned, by a quarter; half turns are in the preview's EXIF.
    """
    lies = pixels.width > pixels.height
    return upright(pixels, turned) if lies != (size[0] > size[1]) else pixels
