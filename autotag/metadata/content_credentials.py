"""Detect Content Credentials: a signature in a photograph over all of its other bytes.

Any change of such a file breaks the signature.

Source: C2PA Technical Specification 2.x, appendix "Embedding manifests into various file formats".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from autotag.metadata import exif, jpeg_file, png_file, webp_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from autotag.metadata.kinds import FileKind

_APP11 = 0xEB
_TIFF_TAG = 0xCD41
_ISO_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_GIF_EXTENSION = b"\x21\xff\x0bC2PA_GIF"


def has_content_credentials(content: bytes, kind: FileKind) -> bool:
    """Return whether a file contains a manifest of Content Credentials; False for a damaged file.

    In a JPEG, any JUMBF box in APP11 counts, because its contents may depend on byte positions.
    """
    look = _LOOKS.get(kind)
    try:
        return look is not None and look(content)
    except ValueError:
        return False


def _in_jpeg(content: bytes) -> bool:
    return any(part.holds(_APP11, b"JP") for part in jpeg_file.segments(content))


def _in_png(content: bytes) -> bool:
    return any(part.kind == b"caBX" for part in png_file.chunks(content))


def _in_webp(content: bytes) -> bool:
    return any(part.kind == b"C2PA" for part in webp_file.chunks(content))


def _in_tiff(content: bytes) -> bool:
    return exif.has_tag(content, _TIFF_TAG)


def _in_gif(content: bytes) -> bool:
    return _GIF_EXTENSION in content


def _in_iso_media(content: bytes) -> bool:
    return b"uuid" + _ISO_BOX in content


_LOOKS: Mapping[FileKind, Callable[[bytes], bool]] = {
    "jpeg": _in_jpeg,
    "png": _in_png,
    "webp": _in_webp,
    "tiff": _in_tiff,
    "gif": _in_gif,
    "heif": _in_iso_media,
    "avif": _in_iso_media,
}
