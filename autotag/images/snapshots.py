"""Keep images as an iterator yields them, for threads that read them after it went on.

A generator may close its file, fill its array again or seek to the next frame as soon as it is asked for the
next image. So what can change is copied, or its bytes are read, in the thread that asks.
"""

from __future__ import annotations

import io
from collections.abc import Generator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from PIL import Image, ImageFile

from autotag.errors import ImageReadError
from autotag.images.decoding import DECODER_ERRORS
from autotag.images.reading import open_file_bytes, source_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from autotag.images.reading import ImageInput

Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An image as it was when it was yielded.

    Attributes:
        source: its default name, see ``source_of``.
        image: its content; or why it could not be read then.
    """

    source: str
    image: ImageInput | ImageReadError


def snapshots(images: Iterable[Kept]) -> Iterable[Kept | Snapshot]:
    """Return the images, with snapshots in place of those that may change; lists and tuples as they are."""
    return images if isinstance(images, list | tuple) else _one_by_one(images)


def snapshot(image: Kept) -> Kept | Snapshot:
    """Return a snapshot of an array, Pillow image, open file or buffer, and anything else as it is.

    Most Pillow images that were opened and not loaded are not decoded: their files are read.
    """
    if isinstance(image, np.ndarray):
        return Snapshot(source_of(image), image.copy())
    if isinstance(image, bytearray | memoryview):
        return Snapshot(source_of(image), bytes(image))
    if isinstance(image, Image.Image):
        return _of_pillow(image)
    if isinstance(image, io.IOBase) or isinstance(getattr(image, "file", None), io.IOBase):
        return _of_file(image)
    return image


def _one_by_one(images: Iterable[Kept]) -> Generator[Kept | Snapshot, None, None]:
    with closing(images) if isinstance(images, Generator) else nullcontext():
        for image in images:
            yield snapshot(image)


def _of_file(file: object) -> Snapshot:
    source = source_of(file)
    try:
        return Snapshot(source, open_file_bytes(file, source))
    except ImageReadError as error:
        return Snapshot(source, error)


def _of_pillow(image: Image.Image) -> Snapshot:
    source = source_of(image)
    try:
        return Snapshot(source, _opened_again(image) or image.copy())
    except DECODER_ERRORS as error:
        return Snapshot(source, ImageReadError(source, f"the Pillow image cannot be read ({error})"))


def _opened_again(image: Image.Image) -> Image.Image | None:
    """Return an image of the same file in memory; None if the image is loaded, drafted or has frames."""
    file: Any = getattr(image, "fp", None)
    if file is None or not isinstance(image, ImageFile.ImageFile) or getattr(image, "is_animated", False):
        return None
    place = file.tell()
    try:
        file.seek(0)
        again = Image.open(io.BytesIO(file.read()))
    finally:
        file.seek(place)
    again.info = dict(image.info)
    same = type(again) is type(image) and (again.size, again.mode) == (image.size, image.mode)
    return cast("Image.Image", again) if same else None
