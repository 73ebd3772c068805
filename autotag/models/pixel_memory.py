"""The pixels of a Pillow image where they lie.

``numpy.asarray(image)`` copies, and puts 4 bytes per pixel into 3 on the way, which takes longer than much
that is done with the pixels afterwards. Pillow lends its memory by the Arrow C data interface
(https://arrow.apache.org/docs/format/CDataInterface.html), which needs nothing but two structures to read.
"""

from __future__ import annotations

import ctypes
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from PIL import Image

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

_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype = ctypes.c_void_p
_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


@contextmanager
def lent_pixels(image: Image.Image) -> Iterator[NDArray[np.uint8]]:
    """The pixels of an RGB image, to be read and not kept: (H, W, 4) uint8, of which the last means nothing.

    Where Pillow's memory is in several pieces, as it is for large images, they are a copy: (H, W, 3).
    """
    try:
        schema, array = image.__arrow_c_array__()
    except ValueError:
        yield np.array(image)
        return
    found = _ArrowArray.from_address(_pointer(array, b"arrow_array"))
    kind = _ArrowSchema.from_address(_pointer(schema, b"arrow_schema")).format
    values, size = found.children[0].contents, _BYTES_PER_PIXEL * image.width * image.height
    if kind != _FORMAT or found.offset or values.offset or values.length != size:
        yield np.array(image)
        return
    memory = (ctypes.c_ubyte * size).from_address(values.buffers[1])
    pixels = np.ctypeslib.as_array(memory).reshape(image.height, image.width, _BYTES_PER_PIXEL)
    yield pixels
