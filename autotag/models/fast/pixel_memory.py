"""The pixels of a Pillow image where they lie.

``numpy.asarray(image)`` copies, and puts 4 bytes per pixel into 3 on the way, which takes longer than much
that is done with the pixels afterwards. Pillow lends its memory by the Arrow C data interface
(https://arrow.apache.org/docs/format/CDataInterface.html), which needs nothing but two structures to read.
"""

from __future__ import annotations

import ctypes
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_BYTES_PER_PIXEL = 4  # of RGB: red, green, blue, and one that means nothing
_FORMAT = b"+w:4"  # a fixed-size list of 4


class _ArrowSchema(ctypes.Structure):
    """As far as it is read here."""

    _fields_ = (("format", ctypes.c_char_p),)


class _ArrowArray(ctypes.Structure):
    """As far as it is read here."""


_ArrowArray._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowArray))),
]

_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


@contextmanager
def lent_pixels(image: Image.Image) -> Iterator[NDArray[np.uint8]]:
    """The pixels of an RGB image, to be read and not kept: (H, W, 4) uint8, of which the last means nothing.

    Where Pillow's memory is in several pieces, as it is for large images, they are a copy: (H, W, 3).
    """
    lent = _lent(image) if _is_understood() else None
    yield np.array(image) if lent is None else lent[0]


def _lent(image: Image.Image) -> tuple[NDArray[np.uint8], object] | None:
    """The pixels, and what they are there as long as it is; None where Pillow lends none."""
    try:
        schema, array = image.__arrow_c_array__()
    except ValueError:
        return None
    found = _ArrowArray.from_address(_pointer(array, b"arrow_array"))
    if _ArrowSchema.from_address(_pointer(schema, b"arrow_schema")).format != _FORMAT or found.offset:
        return None
    values, size = found.children[0].contents, _BYTES_PER_PIXEL * image.width * image.height
    if values.offset or values.length != size:
        return None
    memory = (ctypes.c_ubyte * size).from_address(values.buffers[1])
    return np.ctypeslib.as_array(memory).reshape(image.height, image.width, _BYTES_PER_PIXEL), array


@lru_cache(maxsize=1)
def _is_understood() -> bool:
    """Whether the memory is what it is taken for: Pillow 11.3 lends aligned rows as if they were not."""
    expected = np.arange(3 * 2 * 3, dtype=np.uint8).reshape(2, 3, 3)
    lent = _lent(Image.fromarray(expected))
    return lent is not None and bool(np.array_equal(lent[0][..., :3], expected))
