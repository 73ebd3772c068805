"""How coarsely an image file is compressed, read from its head: a measure of its quality."""

from __future__ import annotations

import struct

from autotag.metadata.jpeg_file import segments
from autotag.metadata.kinds import kind_of

LOSSLESS = 1.0
"""The coarseness of files whose pixels are as they were."""

UNKNOWN = 16.0
"""The coarseness of files that do not tell: that of a JPEG of quality 85 or so."""

_FEW_COLOURS = 100.0
_QUANTISATION = 0xDB


def coarseness(content: bytes) -> float:
    """Return the mean step in which a JPEG's brightness is kept, 1 or more; the less, the better.

    PNG, TIFF, BMP and lossless WebP count as 1, GIF as 100, and other formats as 16. Source: ITU-T T.81,
    B.2.4.1 (quantisation tables); the first table is that of the brightness.
    """
    kind = kind_of(content)
    if kind == "jpeg":
        return _step(content)
    if kind in {"png", "tiff", "bmp"} or (kind == "webp" and content[12:16] == b"VP8L"):
        return LOSSLESS
    return _FEW_COLOURS if kind == "gif" else UNKNOWN


def _step(content: bytes) -> float:
    try:
        tables = next(part.payload for part in segments(content) if part.marker == _QUANTISATION)
        steps = struct.unpack_from(">64H" if tables[0] >> 4 else "64B", tables, 1)
    except (ValueError, StopIteration, IndexError, struct.error):
        return UNKNOWN
    mean: float = round(sum(steps) / len(steps), 2)
    return mean
