"""The one-line interface ``tag(image)``; it keeps its pipelines between calls."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence, Set
from os import PathLike, fspath
from threading import Lock
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from autotag.config.options import option_fields
from autotag.errors import ModelError
from autotag.files.forked_process import check_not_forked
from autotag.pipeline.presets import check_preset, load

if TYPE_CHECKING:
    from collections.abc import Hashable

    from autotag.images.reading import ImageInput
    from autotag.pipeline.pipeline import Pipeline
    from autotag.records import Result

_pipelines: dict[Hashable, Pipeline] = {}
_lock = Lock()
_MOST_FILES = 64  # entries of a list that may name files; a longer one holds labels


@overload
def tag(image: ImageInput, /, *, preset: str | PathLike[str] = "base", **changes: Any) -> Result: ...


@overload
def tag(
    image: Iterable[ImageInput], /, *, preset: str | PathLike[str] = "base", **changes: Any
) -> list[Result]: ...


def tag(
    image: ImageInput | Iterable[ImageInput],
    /,
    *,
    preset: str | PathLike[str] = "base",
    **changes: Any,
) -> Result | list[Result]:
    """Tag one image, or several: caption, tags (best first) and prompt.

    ::

        autotag.tag("beach.jpg", preset="mini", device="cpu", filter_tags={"top_k": 5})

    The first call loads the models; later calls use them again, also with other options of the stages. A
    file that ``preset`` or an option names is read again after it has changed. The models stay in memory
    until the program ends. Use ``load`` for a stream of images, or to free the models. May be called from
    several threads.

    Args:
        image: a path, a ``PIL.Image``, an array, bytes, an open file, or a URL if allowed; or a list or
            another iterable of these.
        preset: a preset's name, or the path of a TOML file.
        **changes: settings of the pipeline and options of its stages, as ``load`` takes them.

    Returns:
        The result of the image; for several images the list of results, in their order. Scores have six
        decimals.

    Raises:
        ImageReadError: an image cannot be read.
        ModelUnavailableError: weights are not on this machine and cannot be downloaded.
        ConfigError: the preset, a setting, a stage or an option is unknown or wrong.
        StageError: a stage failed on an image.
        ForkedProcessError: models were used before this process was forked.
    """
    check_preset(preset)
    return _kept(fspath(preset), changes)(image)


def _kept(preset: str, changes: Mapping[str, Any]) -> Pipeline:
    key = (
        _by_value(preset),
        _by_value({name: value for name, value in changes.items() if value is not None}),
    )
    check_not_forked()  # in a fork, the lock may be held by a thread that exists only in the parent
    with _lock:
        if key not in _pipelines:
            _pipelines[key] = _made(load(preset, **changes))
        return _pipelines[key]


def _made(new: Pipeline) -> Pipeline:
    """Return a pipeline like the new one; it uses the models of one with the same settings."""
    settings = option_fields(type(new)).keys() - {"stages"}
    for key, kept in list(_pipelines.items()):
        if all(getattr(kept, name) == getattr(new, name) for name in settings):
            try:
                return kept.sharing_models(new.stages)
            except ModelError:  # of its models; the new stages may need others
                del _pipelines[key]
    return new


def _by_value(value: object, *, may_be_file: bool = True) -> Hashable:
    """Return a key that is equal for equal plain data, for the same files, and for equal hashable objects.

    A text that names a file or folder is a key for what is there now.
    """
    if isinstance(value, Mapping):
        return frozenset((name, _by_value(entry)) for name, entry in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        few = len(value) <= _MOST_FILES
        return tuple(_by_value(entry, may_be_file=few) for entry in value)
    if isinstance(value, Set):
        return set, frozenset(map(_by_value, value))
    if isinstance(value, np.ndarray | np.generic):
        return np.ndarray, _by_value(value.tolist())
    if isinstance(value, str | PathLike):
        return type(value), fspath(value), _moment(value) if may_be_file else None
    # with the type, because True, 1 and 1.0 are equal, but an option may refuse one of them
    return type(value), value if _has_hash(value) else _Same(value)


def _has_hash(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _moment(name: str | PathLike[str]) -> Hashable:
    """Return which file or folder a name stands for, and when the file was last written; None for neither."""
    try:
        facts = os.stat(name)  # noqa: PTH116 - Path raises for texts that no path can have
    except (OSError, ValueError):
        return None
    is_file = stat.S_ISREG(facts.st_mode)
    return facts.st_dev, facts.st_ino, (facts.st_mtime_ns, facts.st_size) if is_file else None


class _Same:
    """Compare an object by identity, and keep it, so that no later object has its identity."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other._value is self._value

    def __hash__(self) -> int:
        return id(self._value)
