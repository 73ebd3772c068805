"""When, with what and where a photograph was taken, as its EXIF says.

Source: Exif 3.0 (CIPA DC-008-2023), sections 4.6.4 to 4.6.6.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from datetime import datetime

from autotag.metadata import jpeg_file, png_file, webp_file
from autotag.metadata.keywords import clean
from autotag.metadata.kinds import kind_of

_MAKE, _MODEL, _DATE, _EXIF, _GPS = 0x010F, 0x0110, 0x0132, 0x8769, 0x8825
_TAKEN, _FRACTION = 0x9003, 0x9291
_LATITUDE_SIDE, _LATITUDE, _LONGITUDE_SIDE, _LONGITUDE = 1, 2, 3, 4
_SIZES = {2: 1, 3: 2, 4: 4, 5: 8}
_MOST_ENTRIES = 1000
_MOST_BYTES = 1000
_BLOCK = re.compile(rb"(?:Exif\0\0|\0\0\0\0)(?=II\*\0|MM\0\*)")


@dataclass(frozen=True, slots=True)
class Shot:
    """When, where and with which camera a photograph was taken; each is None if the file does not say.

    Attributes:
        taken: local time as the camera's clock had it, ``"2020-05-17T14:03:59"``, with the fraction of the
            second where the file has it: ``"2020-05-17T14:03:59.25"``.
        camera: make and model.
        latitude: degrees in [-90, 90], north is positive.
        longitude: degrees in [-180, 180], east is positive.
    """

    taken: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None


def read_shot(content: bytes) -> Shot:
    """Return what the EXIF of an image file says; damaged parts count as missing."""
    try:
        tiff = _exif_of(content)
    except ValueError:
        return Shot()
    first = _directory(tiff, _first_offset(tiff))
    inner = _directory(tiff, _pointer(tiff, first.get(_EXIF)))
    place = _directory(tiff, _pointer(tiff, first.get(_GPS)))
    latitude = _degrees(tiff, place.get(_LATITUDE), place.get(_LATITUDE_SIDE), most=90)
    longitude = _degrees(tiff, place.get(_LONGITUDE), place.get(_LONGITUDE_SIDE), most=180)
    is_place = latitude is not None and longitude is not None
    return Shot(
        taken=_time(inner.get(_TAKEN), inner.get(_FRACTION)) or _time(first.get(_DATE)),
        camera=_camera(_text(first.get(_MAKE)), _text(first.get(_MODEL))),
        latitude=latitude if is_place else None,
        longitude=longitude if is_place else None,
    )


def _exif_of(content: bytes) -> bytes:
    kind = kind_of(content)
    if kind == "jpeg":
        return jpeg_file.exif_in(jpeg_file.segments(content))
    if kind == "png":
        return next((part.payload for part in png_file.chunks(content) if part.kind == b"eXIf"), b"")
    if kind == "webp":
        return webp_file.exif_in(webp_file.chunks(content))
    if kind == "tiff":
        return content
    block = _BLOCK.search(content)
    return content[block.end() :] if block else b""


_Value = tuple[int, bytes]


def _order(tiff: bytes) -> str:
    return "<" if tiff[:2] == b"II" else ">"


def _first_offset(tiff: bytes) -> int:
    return int(struct.unpack_from(_order(tiff) + "L", tiff, 4)[0]) if len(tiff) >= 8 else 0


def _pointer(tiff: bytes, value: _Value | None) -> int:
    if value is None or value[0] != 4 or len(value[1]) != 4:
        return 0
    return int(struct.unpack(_order(tiff) + "L", value[1])[0])


def _directory(tiff: bytes, start: int) -> dict[int, _Value]:
    """Return tag -> type and raw value of the directory at an offset; skip values outside the file."""
    found: dict[int, _Value] = {}
    order = _order(tiff)
    if not 8 <= start <= len(tiff) - 2:
        return found
    (count,) = struct.unpack_from(order + "H", tiff, start)
    for number in range(min(count, _MOST_ENTRIES, (len(tiff) - start - 2) // 12)):
        tag, kind, values, field = struct.unpack_from(order + "HHL4s", tiff, start + 2 + 12 * number)
        size = values * _SIZES.get(kind, 0)
        if 0 < size <= _MOST_BYTES:
            (offset,) = struct.unpack(order + "L", field)
            raw = field[:size] if size <= 4 else tiff[offset : offset + size]
            if len(raw) == size:
                found.setdefault(tag, (kind, raw))
    return found


def _text(value: _Value | None) -> str:
    return clean(value[1].partition(b"\0")[0].decode("utf-8", "replace")) if value else ""


def _camera(make: str, model: str) -> str | None:
    whole = model if model.lower().startswith(make.lower()) else f"{make} {model}"
    return whole.strip() or None


def _time(value: _Value | None, fraction: _Value | None = None) -> str | None:
    try:
        second = datetime.strptime(_text(value)[:19], "%Y:%m:%d %H:%M:%S").isoformat()
    except ValueError:
        return None
    digits = _text(fraction)[:6]
    return f"{second}.{digits}" if digits.isascii() and digits.isdigit() else second


def _degrees(tiff: bytes, value: _Value | None, side: _Value | None, *, most: float) -> float | None:
    if value is None or value[0] != 5 or len(value[1]) != 24:
        return None
    numbers = struct.unpack(_order(tiff) + "6L", value[1])
    if 0 in numbers[1::2]:
        return None
    degrees, minutes, seconds = (
        above / below for above, below in zip(numbers[::2], numbers[1::2], strict=True)
    )
    total: float = degrees + minutes / 60 + seconds / 3600
    if total > most:
        return None
    return -total if _text(side).upper() in {"S", "W"} else total
