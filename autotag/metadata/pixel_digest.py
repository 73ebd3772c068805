"""A digest of an image file that stays the same when only metadata changes.

So a photograph stays the same photograph when tags are written into it. The EXIF orientation counts as part
of the image, because it changes what the models see.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from autotag.images.orientation import exif_orientation
from autotag.metadata import jpeg_file, png_file, webp_file
from autotag.metadata.kinds import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_JPEG_METADATA = frozenset((0xE1, 0xED, 0xFE))  # EXIF and XMP, IPTC, comments
_PNG_METADATA = frozenset((b"iTXt", b"tEXt", b"zTXt", b"eXIf", b"tIME"))
_WEBP_METADATA = frozenset((b"EXIF", b"XMP ", b"VP8X"))  # VP8X says which of the others are there


def pixel_digest(content: bytes) -> str:
    """Return the SHA-256 (hexadecimal) of a whole image file without its metadata.

    In formats other than JPEG, PNG and WebP, and in damaged files, every byte counts.
    """
    parts = {"jpeg": _jpeg, "png": _png, "webp": _webp}.get(kind_of(content))
    digest = hashlib.sha256()
    try:
        pieces = list(parts(content)) if parts else [content]
    except ValueError:
        pieces = [content]
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _jpeg(content: bytes) -> Iterator[bytes | memoryview]:
    found = jpeg_file.segments(content)
    yield _orientation(jpeg_file.exif_in(found))
    index = jpeg_file.multi_picture_index(found)  # holds the size of the whole picture, metadata included
    for part in found:
        if part.marker not in _JPEG_METADATA and part is not index:
            yield content[part.start : part.end]
    yield memoryview(content)[found[-1].end if found else 2 :]


def _png(content: bytes) -> Iterator[bytes | memoryview]:
    found = png_file.chunks(content)
    yield _orientation(next((part.payload for part in found if part.kind == b"eXIf"), b""))
    for part in found:
        if part.kind not in _PNG_METADATA:
            yield memoryview(content)[part.start : part.end]


def _webp(content: bytes) -> Iterator[bytes | memoryview]:
    found = webp_file.chunks(content)
    yield _orientation(webp_file.exif_in(found))
    for part in found:
        if part.kind not in _WEBP_METADATA:
            yield memoryview(content)[part.start : part.end]


def _orientation(exif: bytes) -> bytes:
    return bytes((exif_orientation(exif) or 1,))
