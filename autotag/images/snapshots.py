"""Keep images as an iterator yields them, for threads that read them after it went on.

A generator may close its file, fill its array again or seek to the next frame as soon as it is asked for the
next image. So what can change is copied, or its bytes are read, in the thread that asks.
"""

from __future__ import annotations

import io
from collections.abc import Generator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image, ImageFile

from autotag.errors import ImageReadError
from autotag.images.decoding import DECODER_ERRORS
from autotag.images.reading import open_file_bytes, source_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from autotag.images.reading import ImageInput

Kept = TypeVar("Kept")


_LARGEST_COPY = 2**30
"""Bytes above which an array is not copied: it is refused when it is read, or its copy would not fit."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An image as it was when it was yielded.

    Attributes:
        source: its default name, see ``source_of``.
        image: its content; or why it could not be read then.
        size: bytes that it holds.
    """

    source: str
    image: ImageInput | ImageReadError
    size: int = 0


def snapshots(images: Iterable[Kept]) -> Iterable[Kept | Snapshot]:
    """Return the images, and snapshots of what may change; lists and tuples as they are."""
    return images if isinstance(images, list | tuple) else _one_by_one(images)


def snapshot(image: Kept) -> Kept | Snapshot:
    """Return a snapshot of an array, Pillow image, open file or buffer, and anything else as it is.

    Most Pillow images that were opened and not loaded are not decoded: their files are read. What cannot be
    read is a snapshot with the error.
    """
    try:
        return _taken(image)
    except ImageReadError as error:
        return Snapshot(error.source, error)
    except Exception as error:  # noqa: BLE001 - images and files of any class; it costs one image
        source = source_of(image)
        said = (
            "not enough memory for it" if isinstance(error, MemoryError) else f"it cannot be read ({error})"
        )
        return Snapshot(source, ImageReadError(source, said))


def _taken(image: Kept) -> Kept | Snapshot:
    source = source_of(image)
    if isinstance(image, np.ndarray):
        return image if image.nbytes > _LARGEST_COPY else Snapshot(source, image.copy(), image.nbytes)
    if isinstance(image, bytearray | memoryview):
        return _of_bytes(source, bytes(image))
    if isinstance(image, Image.Image):
        return _opened_again(image, source) or Snapshot(source, image.copy(), image.width * image.height * 4)
    if isinstance(image, io.IOBase) or isinstance(getattr(image, "file", None), io.IOBase):
        return _of_bytes(source, open_file_bytes(image, source))
    return image


def _of_bytes(source: str, content: bytes) -> Snapshot:
    return Snapshot(source, content, len(content))


def _one_by_one(images: Iterable[Kept]) -> Generator[Kept | Snapshot, None, None]:
    with closing(images) if isinstance(images, Generator) else nullcontext():
        for image in images:
            yield snapshot(image)


def _opened_again(image: Image.Image, source: str) -> Snapshot | None:
    """Return a snapshot of an image's file; None if it is loaded, drafted or at a later frame."""
    file: Any = getattr(image, "fp", None)
    if file is None or not isinstance(image, ImageFile.ImageFile) or getattr(image, "_im", None) is not None:
        return None
    if image.tell():
        return None
    try:
        place = file.tell()
        file.seek(0)
        content = file.read()
        file.seek(place)
        again = type(image)(io.BytesIO(content))
    except DECODER_ERRORS:
        return None
    again.info = dict(image.info)
    same = (again.size, again.mode) == (image.size, image.mode)
    return Snapshot(source, again, len(content)) if same else None
