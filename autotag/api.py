"""The one-line interface ``tag(image)``; it keeps its pipeline between calls."""

from __future__ import annotations

from os import fspath
from threading import Lock
from typing import TYPE_CHECKING

from autotag.files.forked_process import check_not_forked
from autotag.pipeline.presets import load

if TYPE_CHECKING:
    from os import PathLike

    from autotag.images.reading import ImageInput
    from autotag.pipeline.pipeline import Pipeline
    from autotag.records import Result

_pipelines: dict[tuple[str, str | None, bool, bool], Pipeline] = {}
_lock = Lock()


def tag(
    image: ImageInput,
    *,
    preset: str | PathLike[str] = "base",
    device: str | None = None,
    allow_urls: bool = False,
    allow_truncated: bool = False,
) -> Result:
    """Tag one image: caption, tags (best first) and prompt.

    The first call loads the models; later calls with the same options use them again. The models stay in
    memory until the program ends. Use ``load`` for many images, for other options, or to free the models.
    May be called from several threads.

    Args:
        image: a path, a ``PIL.Image``, an array, bytes, an open file, or a URL if allowed.
        preset: a preset's name, or the path of a TOML file.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:<n>"`` or ``"mps"``; None for the preset's own.
        allow_urls: fetch inputs that start with ``http://`` or ``https://``.
        allow_truncated: use the readable part of an image file that ends too early.

    Returns:
        The result of this image. Scores have six decimals.

    Raises:
        ImageReadError: the image cannot be read.
        ModelUnavailableError: weights are not on this machine and cannot be downloaded.
        ConfigError: the preset or device is unknown.
        StageError: a stage failed on the image.
        ForkedProcessError: models were used before this process was forked.
    """
    return _kept(fspath(preset), device, allow_urls, allow_truncated)(image)


def _kept(preset: str, device: str | None, allow_urls: bool, allow_truncated: bool) -> Pipeline:
    key = (preset, device, allow_urls, allow_truncated)
    check_not_forked()  # in a fork, the lock may be held by a thread that exists only in the parent
    with _lock:
        if key not in _pipelines:
            _pipelines[key] = load(
                preset, device=device, allow_urls=allow_urls, allow_truncated=allow_truncated
            )
        return _pipelines[key]
