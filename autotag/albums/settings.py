"""Fingerprints of pipelines: a photograph tagged by a different pipeline is tagged again."""

from __future__ import annotations

import hashlib
import inspect
import secrets
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import is_dataclass
from os import PathLike, fspath
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from autotag.albums.state.ledger import fingerprint
from autotag.config import options
from autotag.errors import ConfigError
from autotag.files.bounded_files import is_file, named_path
from autotag.files.file_states import digest_of
from autotag.pipeline.function_stage import FunctionStage
from autotag.vocabularies.vocabulary import BUNDLED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from autotag.pipeline.pipeline import Pipeline
    from autotag.protocols import Stage

_SEEN_BY_NAME = (ModuleType, FunctionType, BuiltinFunctionType, type)


class _Unseen(Exception):  # noqa: N818 - raised and caught here only
    """Report a part of a pipeline whose changes cannot be detected."""


def settings_of(pipeline: Pipeline, *, aside: Collection[str] = ()) -> tuple[str, list[str]]:
    """Return a fingerprint of a pipeline, and the parts that it cannot cover.

    The options of every stage are in it, the ids of models that were given as objects, and, of stages that
    are not autotag's own, the text of the file that they are in. Where something cannot be seen, the
    fingerprint is another one each time.

    Args:
        pipeline: the pipeline.
        aside: names of stages to leave out.
    """
    unseen: list[str] = []
    parts: list[object] = []
    for name, look, thing in _parts(pipeline, aside):
        try:
            parts.append([name, look(thing)])
        except _Unseen as error:
            unseen.append(f"{name}: {error}")
    return fingerprint(parts, secrets.token_hex() if unseen else ""), unseen


def _parts(
    pipeline: Pipeline, aside: Collection[str]
) -> Iterator[tuple[str, Callable[[Any], object], object]]:
    """Yield each part of a pipeline: its name, a function to plain data, the object."""
    for stage in pipeline.stages:
        if stage.name not in aside:
            yield stage.name, _stage, stage
    kind = type(pipeline)
    how = options.how_only(kind)
    for name in options.option_fields(kind):
        if name not in how:
            yield name, _plain, getattr(pipeline, name)


def _stage(stage: Stage) -> list[object]:
    """Return a stage as plain data."""
    if isinstance(stage, FunctionStage):
        return [stage.import_string, _text(stage.function), _seen_by(stage.function)]
    kind = type(stage)
    if not is_dataclass(kind) and inspect.signature(kind).parameters:
        raise _Unseen(f"{kind.__name__} is not a dataclass, so its options are not known")
    own = kind.__module__.partition(".")[0] == "autotag"
    return [f"{kind.__module__}:{kind.__qualname__}", "" if own else _text(kind), _options(stage)]


def _options(thing: object) -> dict[str, object]:
    """Return a dataclass's options as plain data, with 1 as 1.0 in fields of type float."""
    given = {name: getattr(thing, name) for name in options.option_fields(type(thing))}
    with suppress(ConfigError):  # what does not fit is compared as it is
        given = options.checked(type(thing), given, where=type(thing).__name__)
    return {name: _plain(value) for name, value in options.with_files(type(thing), given, _as_file).items()}


def _as_file(name: str) -> object:
    """Return the path of an existing file, and any other text as it is."""
    return named_path(name) if name not in BUNDLED and is_file(named_path(name)) else name


def _text(code: Any) -> str:
    """Return the digest of the file that defines a class or function."""
    try:
        return hashlib.sha256(Path(inspect.getfile(code)).read_bytes()).hexdigest()
    except (TypeError, OSError) as error:
        raise _Unseen(f"its source file cannot be read: {error}") from error


def _seen_by(function: Any, known: frozenset[object] = frozenset()) -> list[object]:
    """Return the values that a function uses: its defaults, closure and named globals.

    Args:
        function: its code and file are covered elsewhere.
        known: functions that call it.
    """
    if not isinstance(function, FunctionType):
        raise _Unseen(f"{function!r} is not a plain function")
    known |= {function}
    names = sorted(set(_names(function.__code__)) & function.__globals__.keys())
    around = {name: function.__globals__[name] for name in names}
    closure = [cell.cell_contents for cell in function.__closure__ or ()]
    return [
        _plain(function.__defaults__),
        _plain(function.__kwdefaults__),
        [_value(value, function.__module__, known) for value in closure],
        {name: _value(value, function.__module__, known) for name, value in around.items()},
    ]


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _value(value: object, module: str, known: frozenset[object]) -> object:
    """Return a function's value as plain data; code by name, in the same module by its values too."""
    if isinstance(value, FunctionType) and value.__module__ == module and value not in known:
        return [value.__qualname__, _seen_by(value, known)]
    if isinstance(value, _SEEN_BY_NAME):
        return getattr(value, "__qualname__", value.__name__)
    return _plain(value)


def _plain(value: object) -> object:
    """Return a value as plain data; a model as its id, a file with the digest of its content.

    Raises:
        _Unseen: it is an object without an id.
    """
    if isinstance(value, str) and value.endswith(".tags"):  # a classifier: keywords, which are learned again
        file = named_path(value.removeprefix("learned:"))
        value = file if is_file(file) else value
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, PathLike):
        path = Path(fspath(value))
        return [str(path), digest_of(path)] if path.is_file() else str(path)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, AbstractSet):
        return sorted((_plain(entry) for entry in value), key=repr)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_plain(entry) for entry in value]
    found = getattr(value, "id", None)  # as encoders have it; other models may
    if isinstance(found, str):
        return {"model": found, "kind": f"{type(value).__module__}:{type(value).__qualname__}"}
    raise _Unseen(f"{type(value).__name__} was given as an object that has no id")
