"""Detect the kind of a file by its first bytes; its extension may be wrong."""

from __future__ import annotations

from typing import Literal

FileKind = Literal["jpeg", "png", "webp", "tiff", "gif", "bmp", "heif", "avif", "other"]

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def kind_of(content: bytes) -> FileKind:
    """Return the kind of a file; ``"tiff"`` also for RAW files that are TIFF inside."""
    kinds: tuple[tuple[FileKind, bool], ...] = (
        ("jpeg", content.startswith(b"\xff\xd8\xff")),
        ("png", content.startswith(b"\x89PNG\r\n\x1a\n")),
        ("webp", content[:4] == b"RIFF" and content[8:12] == b"WEBP"),
        ("tiff", content.startswith(_TIFF_STARTS)),
        ("gif", content[:6] in (b"GIF87a", b"GIF89a")),
        ("bmp", content.startswith(b"BM")),
        ("avif", _has_brand(content, (b"avif", b"avis"))),
        ("heif", _has_brand(content, (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"))),
    )
    return next((kind for kind, fits in kinds if fits), "other")


def _has_brand(content: bytes, brands: tuple[bytes, ...]) -> bool:
    """Return whether an ISO base media file names one of the brands (ISO/IEC 14496-12, ``ftyp``)."""
    if content[4:8] != b"ftyp":
        return False
    size = min(int.from_bytes(content[:4]), 256)
    return any(content[start : start + 4] in brands for start in (8, *range(16, size, 4)))
