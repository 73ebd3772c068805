"""Cameras' RAW files: the preview that the camera put in, or the developed sensor data.

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
"""What is taken for a RAW file, in lower case."""

_LEAST_PREVIEW = 448  # pixels of the shortest side; smaller ones are made for a camera's own screen
_TURNED = {3: 3, 5: 8, 6: 6}  # LibRaw's way to say how a camera was held -> that of EXIF


def is_raw(name: str) -> bool:
    """Whether a file's extension is that of a RAW format."""
    return os.path.splitext(name)[1].lower() in RAW_SUFFIXES  # noqa: PTH122 - also no path at all


def can_read_raw() -> bool:
    """Whether the extra is installed."""
    return importlib.util.find_spec("rawpy") is not None


def decode_raw(
    encoded: bytes,
    source: str,
    *,
    decode_jpeg: Callable[[bytes], Image.Image],
    check_size: Callable[[tuple[int, int]], None],
) -> tuple[Image.Image, tuple[int, int]]:
    """Upright RGB pixels, and the width and height of the upright photograph.

    The embedded JPEG preview is taken if it is large enough, for it is what the camera made of the scene;
    else the sensor data are developed at half size with the camera's white balance.

    Args:
        encoded: the file.
        source: what to call it.
        decode_jpeg: decodes a preview.
        check_size: refuses photographs that are too large, before anything is developed.

    Raises:
        ImageReadError: rawpy is missing, or cannot read the file.
    """
    try:
        import rawpy
    except ImportError as error:
        raise ImageReadError(source, f"RAW files need: {install_hint('raw')}") from error
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
    """The embedded JPEG, if there is one that is large enough."""
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
    """A preview turned as the camera was held, unless its own EXIF had that done already.

    Only a preview whose shape does not fit is turned by a quarter; half turns are in the preview's EXIF.
    """
    lies = pixels.width > pixels.height
    return upright(pixels, turned) if lies != (size[0] > size[1]) else pixels
