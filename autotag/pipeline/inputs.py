"""The inputs of a pipeline: told apart, one image or several, and read as the models want them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
from PIL import Image

from autotag.errors import ConfigError, ImageReadError
from autotag.images.decode_memory import KEPT_BYTES
from autotag.images.reading import ReadImage, source_of
from autotag.images.snapshots import Snapshot
from autotag.pipeline.stats import READ
from autotag.relevance.sample_views import make_views

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from autotag.images.reading import ImageInput
    from autotag.pipeline.stats import Meter
    from autotag.protocols import ViewsImages


def is_single(images: object) -> bool:
    """Return True for one image, even of an iterable type."""
    single = isinstance(images, str | bytes | bytearray | memoryview | os.PathLike | np.ndarray | Image.Image)
    return single or hasattr(images, "read")


def as_several(images: ImageInput | Iterable[ImageInput | ReadImage]) -> Iterable[ImageInput | ReadImage]:
    """Return the images to stream; a single image, even of an iterable type, becomes a list of one.

    Raises:
        ConfigError: it is neither.
    """
    if is_single(images):
        return [cast("ImageInput", images)]
    if not isinstance(images, Iterable):
        raise ConfigError(f"stream takes an image or an iterable of images, not {images!r}.")
    return cast("Iterable[ImageInput | ReadImage]", images)


def read_input(
    image: ImageInput | ReadImage | Snapshot,
    reserve: Callable[[int], None],
    *,
    read: Callable[..., ReadImage],
    makers: Mapping[str, ViewsImages],
    meter: Meter,
) -> ReadImage:
    """Read an image and make the views that the models need.

    Args:
        image: what ``pipeline(image)`` takes, or a snapshot of it; one that was read is not read again.
        reserve: called, with the bytes that decoding takes, before it begins, and with the bytes that stay.
        read: reads an image, as ``read_image`` does.
        makers: make the views.
        meter: is told how long it took, without the time in ``reserve``.

    Raises:
        ImageReadError: the image cannot be read, or does not fit in memory.
    """
    waited = 0.0

    def reserve_timed(size: int) -> None:
        nonlocal waited
        before = time.perf_counter()
        reserve(size)
        waited += time.perf_counter() - before

    started = time.perf_counter()
    try:
        if isinstance(image, Snapshot):
            if isinstance(image.image, ImageReadError):
                raise image.image
            found = read(image.image, source=image.source, reserve=reserve_timed)
        else:
            found = image if isinstance(image, ReadImage) else read(image, reserve=reserve_timed)
        views = make_views(found.image, makers, found.source)
    except MemoryError as error:
        source = image.source if isinstance(image, Snapshot) else source_of(image)
        raise ImageReadError(source, "not enough memory for it") from error
    finally:
        meter.add(READ, 1, time.perf_counter() - started - waited)
    reserve(found.image.width * found.image.height * KEPT_BYTES + sum(view.nbytes for view in views.values()))
    return replace(found, views=views) if views else found
