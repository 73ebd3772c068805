"""Convert pixels of any mode to 8-bit RGB as a person sees them: on white, in sRGB, without clipping."""

from __future__ import annotations

import io
from functools import lru_cache
from threading import get_ident
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageCms

if TYPE_CHECKING:
    from numpy.typing import NDArray


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a new 8-bit RGB image without metadata.

    Transparent pixels are put on white. An embedded ICC profile is applied if it describes the image's colour
    space and is not sRGB; a damaged one is ignored. Grey deeper than 8 bits is scaled by ``eight_bits``.

    Raises:
        ValueError: Pillow cannot convert this mode to RGB.
    """
    profile = image.info.get("icc_profile")
    if image.mode == "CMYK":
        rgb = _managed(image, profile) or image.convert("RGB")
    else:
        flat = _flat(image)
        rgb = _managed(flat, profile) or flat
    rgb.info = {}
    return rgb


def eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale grey or colour values of any real dtype and shape to uint8, 0 to 255, without clipping.

    - Whole numbers from 0 to 65535 are shifted right until the largest has 8 bits: a 12-bit microscope image
      in a 16-bit file keeps its brightness.
    - Fractions within [0, 1] are multiplied by 255; within [0, 255] they are rounded.
    - Anything else (elevations, Hounsfield units, counts) is stretched from its smallest to its largest
      value. Not-a-number counts as the smallest.
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return np.zeros(values.shape, dtype=np.uint8)
    low, high = finite.min(), finite.max()
    if np.issubdtype(values.dtype, np.integer):
        if low >= 0 and high <= 65535:
            return np.asarray(values >> max(int(high).bit_length() - 8, 0), dtype=np.uint8)
    elif low >= 0 and high <= 255:
        return _rounded(values * 255.0 if high <= 1 else values)
    span = float(high) - float(low)
    return _rounded((values.astype(np.float64) - float(low)) * (255.0 / span if span else 0.0))


def _rounded(values: NDArray[Any]) -> NDArray[np.uint8]:
    known = np.nan_to_num(values, nan=0.0, posinf=255.0, neginf=0.0)
    return np.asarray(np.rint(np.clip(known, 0.0, 255.0)), dtype=np.uint8)


def _flat(image: Image.Image) -> Image.Image:
    """Convert to RGB in the image's own colour space, with transparency on white."""
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        return _deep_grey(image)
    if image.has_transparency_data:
        # Pillow writes the transparency into the palette of the image it converts, so convert a copy.
        with_alpha = (image.copy() if image.mode == "P" else image).convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(with_alpha, mask=with_alpha.getchannel("A"))
        return white
    return image.copy() if image.mode == "RGB" else image.convert("RGB")


def _deep_grey(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    grey = eight_bits(values)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def _managed(image: Image.Image, profile: object) -> Image.Image | None:
    """Convert the image to sRGB by its profile, or return None if that changes nothing or is not possible."""
    if not isinstance(profile, bytes) or not profile:
        return None
    try:
        transform = _to_srgb(profile, image.mode, get_ident())
        return None if transform is None else ImageCms.applyTransform(image, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None  # a broken profile is ignored


@lru_cache(maxsize=64)
def _to_srgb(profile: bytes, mode: str, _thread: int) -> ImageCms.ImageCmsTransform | None:
    """Return the transform from a mode to sRGB, or None if the profile is of another mode or is sRGB.

    Building the transform costs as much as applying it, so it is cached: a camera's photographs share one
    profile. The cache is per thread, because transforms are not documented as thread-safe.
    """
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if source.profile.xcolor_space.strip() != mode:
        return None
    if "sRGB" in (source.profile.profile_description or ""):
        return None
    return ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
