"""Options as plain data: the fields of a dataclass, checked when read and converted when written.

The fields of a stage are its config, so no stage needs its own ``to_dict``. A field is not an option if it
starts with an underscore, is not a constructor argument, or has ``metadata={"option": False}``. TOML has no
null, so the word ``"none"`` stands for None where an option may be None.
"""

from __future__ import annotations

import builtins
import inspect
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from autotag.config.checks import shown
from autotag.errors import ConfigError, UnknownNameError, suggestion

NONE = "none"

_MAPPINGS = frozenset({dict, Mapping})
_MAKERS: dict[Any, Any] = {
    list: list,
    set: set,
    frozenset: frozenset,
    AbstractSet: frozenset,
    Sequence: tuple,
    Collection: tuple,
    Iterable: tuple,
}
_NUMBERS: dict[Any, Any] = {int: Integral, float: Real}
_SCALARS = frozenset({str, bool, NoneType})
_TEXTS = (str, bytes, bytearray, memoryview)
_WORDS: dict[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    NoneType: '"none"',
    dict: "a table",
    Mapping: "a table",
    Path: "a path",
    PathLike: "a path",
}


class _Mismatch(Exception):  # noqa: N818 - raised and caught here only
    """A value does not have its option's type."""


class _Dotted(type):
    """Resolve ``np.float32`` on the placeholder for ``np``."""

    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls


class _OnlyForTypeCheckers(metaclass=_Dotted):
    """Replace a name that a module imports under ``TYPE_CHECKING`` only."""

    def __class_getitem__(cls, item: object) -> type:
        return cls


class _Names(dict[str, Any]):
    """Look up the names of an annotation; a name unknown at run time becomes a placeholder class."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, _OnlyForTypeCheckers)


def option_fields(kind: type) -> dict[str, Field[Any]]:
    """Return the options of a dataclass by name; empty for any other class."""
    if not is_dataclass(kind):
        return {}
    return {field.name: field for field in fields(kind) if _is_option(field)}


def model_fields(kind: type) -> dict[str, str]:
    """Return the options of a dataclass that name models, each with its kind: ``metadata={"model": ...}``."""
    return {
        name: option.metadata["model"]
        for name, option in option_fields(kind).items()
        if "model" in option.metadata
    }


def with_files(kind: type, given: Mapping[str, Any], change: Callable[[str], Any]) -> dict[str, Any]:
    """Return options with every text that may name a file changed; all else as it is.

    ``metadata={"file": "one"}`` marks an option that may name a file, ``{"file": "each"}`` one whose entries
    may. A list in an option of the first kind holds no files, but labels.

    Args:
        kind: the dataclass.
        given: name -> value, of some or all of its options.
        change: the text -> what replaces it.
    """
    changed = dict(given)
    for name, option in option_fields(kind).items():
        value, files = given.get(name), option.metadata.get("file")
        if files and isinstance(value, str):
            changed[name] = change(value)
        elif files == "each" and isinstance(value, list | tuple):
            changed[name] = [change(entry) if isinstance(entry, str) else entry for entry in value]
    return changed


def with_defaults(kind: type, before: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, Any]:
    """Return changes of options, with the defaults of options that belong to a changed one and do not change.

    ``metadata={"of": "vocabulary"}`` marks an option that makes sense for one value of ``vocabulary`` only.

    Args:
        kind: the dataclass.
        before: the options as they are.
        changes: name -> new value.
    """
    unfit = {
        name: field.default
        for name, field in option_fields(kind).items()
        if name not in changes
        and (owner := str(field.metadata.get("of"))) in changes
        and _differ(changes[owner], before.get(owner))
    }
    return {**unfit, **changes}


def _differ(new: object, old: object) -> bool:
    """Return whether two values of an option differ; a list and a tuple of the same do not."""
    if _is_many(new) and _is_many(old):
        return _entries(new) != _entries(old)
    return _is_many(new) or _is_many(old) or bool(new != old)


def how_only(kind: type) -> frozenset[str]:
    """Return the options that change how results are made, and no result.

    They are marked ``metadata={"affects_results": False}``. Albums do not look at a photograph again because
    one of them changed, and shards of one run may differ in them.
    """
    fields_of = option_fields(kind)
    return frozenset(
        name for name, field in fields_of.items() if not field.metadata.get("affects_results", True)
    )


def _is_option(field: Field[Any]) -> bool:
    return field.init and not field.name.startswith("_") and bool(field.metadata.get("option", True))


def checked(kind: type, options: Mapping[str, object], *, where: str) -> dict[str, Any]:
    """Convert options for the constructor of a dataclass: lists to tuples, ``"none"`` to None.

    Args:
        kind: the dataclass.
        options: by field name, in the types of TOML, JSON or Python.
        where: what the options belong to, for messages: a stage's name, or ``"the pipeline"``.

    Returns:
        The converted values by field name.

    Raises:
        UnknownNameError: an option is unknown; the message suggests a near miss.
        ConfigError: a value has the wrong type.
    """
    known = option_fields(kind)
    for name in options:
        if name not in known:
            raise UnknownNameError(f"option of {where}:", name, known)
    hints = _hints(kind)
    return {name: _fitting(value, hints[name], f"{where}: {name}") for name, value in options.items()}


def convert_options(thing: object, *, where: str) -> None:
    """Convert the options of a dataclass instance in place to the annotated types.

    Callers may then pass any sequence for a tuple, and NumPy numbers. Call it first in ``__post_init__``.
    The text ``"none"`` stays a text, because Python has None.

    Args:
        thing: the instance; it may be frozen.
        where: what the options belong to, for messages.

    Raises:
        ConfigError: a value has the wrong type.
    """
    kind: type = type(thing)
    hints = _hints(kind)
    for name in option_fields(kind):
        value = getattr(thing, name)
        if not (isinstance(value, str) and value == NONE):
            object.__setattr__(thing, name, _fitting(value, hints[name], f"{where}: {name}"))


def written(thing: object, *, where: str) -> dict[str, Any]:
    """Return the options of a dataclass instance that differ from their defaults, as plain data.

    Raises:
        ConfigError: a value is an object that cannot be written as plain data.
    """
    kind: type = type(thing)
    hints = _hints(kind)
    rows: dict[str, Any] = {}
    for name, field in option_fields(kind).items():
        value = _canonical(getattr(thing, name), hints.get(name, Any), f"{where}: {name}")
        if not _is_default(field, value):
            way = "as a file" if "file" in field.metadata else "by name or as a folder"
            rows[name] = _plain(value, f"{where}: {name}", way)
    return rows


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Return the annotations of a dataclass and its bases, each evaluated with the names of its own module.

    Names that exist for type checkers only become a placeholder class.
    """
    hints: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        annotations = {"__annotations__": inspect.get_annotations(base), "__module__": base.__module__}
        names = _Names(vars(sys.modules[base.__module__]) if base.__module__ in sys.modules else {})
        hints |= get_type_hints(type(base.__name__, (), annotations), localns=names)
    return hints


def _is_default(field: Field[Any], value: object) -> bool:
    if field.default is not MISSING:
        default = field.default
    elif field.default_factory is not MISSING:
        default = field.default_factory()
    else:
        return False
    return type(default) is type(value) and bool(default == value)


def _fitting(value: object, hint: Any, where: str) -> Any:
    """Return the value as the hinted type.

    Raises:
        ConfigError: the value does not fit the hint.
    """
    try:
        return _converted(value, hint)
    except _Mismatch:
        near = _near_miss(value, hint)
        raise ConfigError(f"{where} = {shown(value)} does not fit; it takes {_words(hint)}.{near}") from None


def _near_miss(value: object, hint: Any) -> str:
    """Suggest the closest choice for a wrong text, or for the first wrong one of several."""
    choices = [choice for choice in _choices(hint) if isinstance(choice, str)]
    given = _entries(value) if _is_many(value) else [value]
    wrong = [entry for entry in given if isinstance(entry, str) and entry not in choices]
    near = suggestion(wrong[0], choices) if wrong and choices else ""
    return f" {near}" if near.startswith("Did") else ""


def _choices(hint: Any) -> list[Any]:
    """Return the values of an annotation's ``Literal`` parts."""
    arguments = get_args(hint)
    if get_origin(hint) is Literal:
        return list(arguments)
    return [choice for argument in arguments for choice in _choices(argument)]


def _converted(value: object, hint: Any) -> Any:
    """Return the value as the hinted type, or raise ``_Mismatch``."""
    arguments = get_args(hint)
    kind = get_origin(hint) or hint
    if kind in {Union, UnionType}:
        return _one_of(value, arguments)
    if kind is tuple:
        return _tuple(value, arguments)
    if kind in _MAPPINGS:
        return _mapping(value, arguments)
    if kind in _MAKERS:
        return _collection(value, kind, arguments)
    return _single(value, kind, arguments)


def _single(value: object, kind: Any, arguments: Sequence[Any]) -> Any:
    """Convert to a type that is neither a union nor a container."""
    if kind in {Path, PathLike}:
        return Path(_required(value, isinstance(value, str | PathLike)))
    if kind in _NUMBERS:
        return _number(value, kind)
    if kind in _SCALARS:
        return _required(value, isinstance(value, kind))
    if kind is Literal:
        return _required(value, value in [choice for choice in arguments if type(choice) is type(value)])
    return _required(value, kind in {Any, object} or not _is_plain(value))


def _number(value: object, kind: Any) -> Any:
    try:
        return kind(_required(value, isinstance(value, _NUMBERS[kind]) and not isinstance(value, bool)))
    except OverflowError:  # a whole number too large for a float
        raise _Mismatch from None


def _required(value: object, fits: bool) -> Any:
    if not fits:
        raise _Mismatch
    return value


def _one_of(value: object, hints: Sequence[Any]) -> Any:
    if NoneType in hints and (value is None or (isinstance(value, str) and value == NONE)):
        return None
    for hint in hints:
        try:
            return _converted(value, hint)
        except _Mismatch:
            continue
    raise _Mismatch


def _mapping(value: object, arguments: Sequence[Any]) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise _Mismatch
    key_hint, value_hint = arguments or (Any, Any)
    return {_converted(key, key_hint): _converted(entry, value_hint) for key, entry in value.items()}


def _tuple(value: object, arguments: Sequence[Any]) -> tuple[Any, ...]:
    entries = _entries(value)
    if not arguments or arguments[-1] is Ellipsis:
        hints: Sequence[Any] = [arguments[0] if arguments else Any] * len(entries)
    else:
        hints = arguments
    if len(hints) != len(entries) or (hints is arguments and isinstance(value, AbstractSet)):
        raise _Mismatch  # each position has a meaning, and a set has no positions
    return tuple(_converted(entry, hint) for entry, hint in zip(entries, hints, strict=True))


def _collection(value: object, kind: type, arguments: Sequence[Any]) -> Any:
    entry_hint = arguments[0] if arguments else Any
    return _MAKERS[kind](_converted(entry, entry_hint) for entry in _entries(value))


def _entries(value: object) -> list[Any]:
    """Return the entries of a sequence in order, or those of a set sorted, so that the order is fixed."""
    if not _is_many(value):
        raise _Mismatch
    listed: list[Any] = value.tolist() if hasattr(value, "tolist") else list(cast("Iterable[Any]", value))
    return sorted(listed, key=str) if isinstance(value, set | frozenset) else listed


def _is_many(value: object) -> bool:
    """Return True for a Python sequence or set, a NumPy array or a pandas column."""
    of_python = isinstance(value, Sequence | AbstractSet) and not isinstance(value, _TEXTS)
    is_array = hasattr(value, "tolist") and not isinstance(value, type)
    return of_python or (is_array and len(getattr(value, "shape", ())) == 1)


def _is_plain(value: object) -> bool:
    """Return True for plain data, which is never accepted where an object is expected."""
    return value is None or isinstance(value, (*_TEXTS, Real, Mapping)) or _is_many(value)


def _canonical(value: object, hint: Any, where: str) -> Any:
    """Return the value as it would be read back: 1.0 for the 1 of a float, a tuple for a list."""
    if isinstance(value, str) and value == NONE and NoneType in get_args(hint):
        raise ConfigError(f'{where} is the text "none", which means None in a config; use another text.')
    try:
        return _converted(value, hint)
    except _Mismatch:
        return value


def _plain(value: object, where: str, way: str) -> Any:
    """Return the value in types that TOML has; an error says the way to give an object instead."""
    if value is None:
        return NONE
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, PathLike):
        return str(Path(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(entry, where, way) for key, entry in value.items()}
    if isinstance(value, AbstractSet):
        return sorted(_plain(entry, where, way) for entry in value)
    if isinstance(value, list | tuple):
        return [_plain(entry, where, way) for entry in value]
    raise ConfigError(
        f"{where} is an object ({type(value).__name__}) and cannot be written to a config. "
        f"Give it {way} instead."
    )


def _words(hint: Any) -> str:
    """Describe a type for someone who writes a config."""
    arguments = get_args(hint)
    kind = get_origin(hint) or hint
    if kind in {Union, UnionType}:
        return " or ".join(dict.fromkeys(map(_words, arguments)))
    if kind is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if kind is tuple or kind in _MAKERS:
        return f"an array of ({', '.join(_words(entry) for entry in arguments if entry is not Ellipsis)})"
    return _WORDS.get(kind, "an object")
