"""Read the orientation that cameras write, and turn images upright.

``Image.getexif`` is not used, because it warns about damaged EXIF through the process-wide ``warnings``,
which threads cannot silence safely.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any

from PIL.Image import Transpose

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL import Image

_ORIENTATION_TAG = 0x0112
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


def orientation(info: Mapping[Any, Any]) -> int:
    """Return the orientation in ``Image.info``, 1 to 8 (1 is upright); 1 if it is missing.

    EXIF has priority over XMP. Damaged metadata is ignored.
    """
    found = exif_orientation(_exif_bytes(info))
    if found is not None:
        return found
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    match = _XMP_ORIENTATION.search(xmp.encode() if isinstance(xmp, str) else xmp)
    return int(match[1]) if match else 1


def exif_orientation(exif: bytes) -> int | None:
    """Return the orientation, 1 to 8, in an EXIF block (a TIFF directory), or None."""
    start = 0
    while exif.startswith(b"Exif\0\0", start):
        start += 6
    exif = exif[start:]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(order + "L", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, value = struct.unpack_from(order + "H6xH", exif, entry)
            if tag == _ORIENTATION_TAG:
                return int(value) if 1 <= value <= 8 else None
    except struct.error:
        return None
    return None


def upright(image: Image.Image, turned: int) -> Image.Image:
    """Return the image turned upright from the orientation ``turned`` (1 to 8)."""
    return image.transpose(_TURNS[turned]) if turned in _TURNS else image


def upright_size(size: tuple[int, int], turned: int) -> tuple[int, int]:
    """Return width and height after turning upright from the orientation ``turned`` (1 to 8)."""
    return (size[1], size[0]) if turned >= 5 else size


def _exif_bytes(info: Mapping[Any, Any]) -> bytes:
    exif = info.get("exif", b"")
    if not exif and "Raw profile type exif" in info:  # ImageMagick's way to put EXIF into a PNG
        try:
            return bytes.fromhex("".join(str(info["Raw profile type exif"]).split("\n")[3:]))
        except ValueError:
            return b""
    return exif if isinstance(exif, bytes) else b""
