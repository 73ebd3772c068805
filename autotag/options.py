"""Options as plain data: the fields of a dataclass, checked on the way in and written on the way out.

The fields of a stage are its config; nobody writes ``to_dict`` by hand. Fields that start with an
underscore, are no arguments of the constructor, or have ``metadata={"option": False}`` are no options.
TOML has no null, so where an option
may be None the word ``"none"`` stands for it.
"""

from __future__ import annotations

import builtins
import inspect
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, Field, fields, is_dataclass
from os import PathLike
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from autotag import registry
from autotag.errors import ConfigError, UnknownNameError
from autotag.function_stage import FunctionStage
from autotag.protocols import Stage

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
_SCALARS = frozenset({str, int, float, bool, NoneType})
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
    """A value is not of the type of its option."""


class _Dotted(type):
    """Lets ``np.float32`` be asked of the stand-in for ``np``."""

    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls


class _OnlyForTypeCheckers(metaclass=_Dotted):
    """Stands for a name that a module imports under ``TYPE_CHECKING`` only."""

    def __class_getitem__(cls, item: object) -> type:
        return cls


class _Names(dict[str, Any]):
    """The names an annotation may use; those unknown at run time stand for some class."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, _OnlyForTypeCheckers)


def option_fields(kind: type) -> dict[str, Field[Any]]:
    """The options of a dataclass by name; empty for any other class."""
    if not is_dataclass(kind):
        return {}
    return {field.name: field for field in fields(kind) if _is_option(field)}


def _is_option(field: Field[Any]) -> bool:
    return field.init and not field.name.startswith("_") and bool(field.metadata.get("option", True))


def checked(kind: type, options: Mapping[str, object], *, where: str) -> dict[str, Any]:
    """Options fit for the constructor of a dataclass: lists made tuples, ``"none"`` made None.

    Args:
        kind: the dataclass.
        options: by field name, as TOML or JSON gives them, or already in Python's own types.
        where: what the options are of, for messages: a stage's name, or ``"the pipeline"``.

    Raises:
        UnknownNameError: no such option; the near miss is suggested.
        ConfigError: a value is of the wrong type.
    """
    known = option_fields(kind)
    hints = _hints(kind)
    fit: dict[str, Any] = {}
    for name, value in options.items():
        if name not in known:
            raise UnknownNameError(f"option of {where}:", name, known)
        hint = hints.get(name, Any)
        try:
            fit[name] = _converted(value, hint)
        except _Mismatch:
            raise ConfigError(f"{where}: {name} = {value!r} does not fit; it takes {_words(hint)}.") from None
    return fit


def written(thing: object, *, where: str) -> dict[str, Any]:
    """The options of a dataclass instance that differ from their defaults, as plain data.

    Raises:
        ConfigError: a value is an object that plain data cannot hold.
    """
    hints = _hints(type(thing))
    rows: dict[str, Any] = {}
    for name, field in option_fields(type(thing)).items():
        value = _canonical(getattr(thing, name), hints.get(name, Any), f"{where}: {name}")
        if not _is_default(field, value):
            rows[name] = _plain(value, f"{where}: {name}")
    return rows


def stage_from_table(table: Mapping[str, object]) -> Stage:
    """The stage that a config table describes: ``stage`` names it, the rest are its options.

    ``stage`` is a registered name, or ``"package.module:attribute"`` of a stage class or of a function
    decorated with ``@stage``. Naming an attribute imports its module: a config is code to be trusted.

    Raises:
        ConfigError: the name, an option, or a value is wrong.
    """
    reference = stage_reference(table)
    found = _found(reference)
    options = {name: value for name, value in table.items() if name != "stage"}
    where = str(options.get("name", reference))
    if not isinstance(found, type):
        return _ready_made(found, options, reference)
    if options and not is_dataclass(found):
        raise ConfigError(
            f"stage {reference!r} is no dataclass, so a config cannot give it {', '.join(options)}."
        )
    made = _constructed(found, checked(found, options, where=where), where)
    if not isinstance(made, Stage):
        raise ConfigError(f"{reference!r} makes {made!r}, which is no stage.")
    return made


def stage_reference(table: Mapping[str, object]) -> str:
    """The ``stage`` entry of a config table.

    Raises:
        ConfigError: there is none, or it is no text.
    """
    reference = table.get("stage")
    if not isinstance(reference, str):
        raise ConfigError(f'a [[stages]] table needs stage = "<name>"; this one has {sorted(table)}.')
    return reference


def table_name(table: Mapping[str, object]) -> str:
    """What the stage of a config table will be called in its pipeline."""
    if "name" in table:
        return str(table["name"])
    reference = stage_reference(table)
    if ":" not in reference:
        return reference
    found = _found(reference)
    default = option_fields(found).get("name") if isinstance(found, type) else None
    return str(default.default if default else getattr(found, "name", reference))


def table_from_stage(stage: Stage) -> dict[str, Any]:
    """The inverse of ``stage_from_table``, with the options that differ from their defaults.

    Raises:
        ConfigError: the stage cannot be found again by name, or holds an object.
    """
    if isinstance(stage, FunctionStage):
        return {"stage": _reference(stage, stage.import_string, stage.name)}
    kind = type(stage)
    if not is_dataclass(kind) and inspect.signature(kind).parameters:
        raise ConfigError(
            f"stage {stage.name!r} cannot be written to a config: {kind.__name__} is no dataclass, "
            "so its options are not known. Make it one."
        )
    reference = _reference(kind, f"{kind.__module__}:{kind.__qualname__}", stage.name)
    return {"stage": reference, **written(stage, where=stage.name)}


def _found(reference: str) -> Any:
    """What a registered name or an import string stands for."""
    if ":" in reference:
        return registry.load(reference, what="a stage given")
    return registry.resolve("stage", reference)


def _ready_made(found: object, options: Mapping[str, object], reference: str) -> Stage:
    if not isinstance(found, Stage):
        raise ConfigError(
            f"{reference!r} is {found!r}, which is no stage. Functions need @autotag.stage(...)."
        )
    if options:
        raise ConfigError(
            f"stage {reference!r} is ready made and takes no options, not {', '.join(options)}."
        )
    return found


def _constructed(kind: type, options: Mapping[str, object], where: str) -> object:
    try:
        return kind(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error


def _reference(target: object, import_string: str, name: str) -> str:
    """The registered name of a stage's class or function, else its import string."""
    for registered in registry.names("stage"):
        if registry.import_string("stage", registered) == import_string:
            return registered
    module, _, attribute = import_string.partition(":")
    if module == "__main__" or getattr(sys.modules.get(module), attribute, None) is not target:
        raise ConfigError(
            f"stage {name!r} cannot be written to a config: {import_string} cannot be imported elsewhere. "
            "Put it at the top level of a module, where a config names it as "
            'stage = "package.module:attribute", or register it as an entry point in "autotag.stages".'
        )
    return import_string


def _hints(kind: type) -> dict[str, Any]:
    """The annotations of a dataclass; what exists for type checkers only stands for some class."""
    names = _Names(vars(sys.modules[kind.__module__]) if kind.__module__ in sys.modules else {})
    return get_type_hints(kind, localns=names)


def _is_default(field: Field[Any], value: object) -> bool:
    if field.default is not MISSING:
        default = field.default
    elif field.default_factory is not MISSING:
        default = field.default_factory()
    else:
        return False
    return type(default) is type(value) and bool(default == value)


def _converted(value: object, hint: Any) -> Any:
    """The value as the hinted type; raises ``_Mismatch``."""
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
    """One value that is neither a union nor a container."""
    if kind in {Path, PathLike}:
        return Path(_required(value, isinstance(value, str | PathLike)))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind in _SCALARS:
        return _required(value, isinstance(value, kind) and (kind is bool or not isinstance(value, bool)))
    if kind is Literal:
        return _required(value, value in [choice for choice in arguments if type(choice) is type(value)])
    return _required(value, kind in {Any, object} or not _is_plain(value))


def _required(value: object, fits: bool) -> Any:
    if not fits:
        raise _Mismatch
    return value


def _one_of(value: object, hints: Sequence[Any]) -> Any:
    if NoneType in hints and (value is None or value == NONE):
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
    if not isinstance(value, list | tuple):
        raise _Mismatch
    if not arguments or arguments[-1] is Ellipsis:
        hints: Sequence[Any] = [arguments[0] if arguments else Any] * len(value)
    else:
        hints = arguments
    if len(hints) != len(value):
        raise _Mismatch
    return tuple(_converted(entry, hint) for entry, hint in zip(value, hints, strict=True))


def _collection(value: object, kind: type, arguments: Sequence[Any]) -> Any:
    if not isinstance(value, list | tuple | set | frozenset):
        raise _Mismatch
    return _MAKERS[kind](_converted(entry, arguments[0] if arguments else Any) for entry in value)


def _is_plain(value: object) -> bool:
    """Whether it is of a type that TOML or JSON has, so that it cannot stand for an object."""
    return value is None or isinstance(value, str | int | float | list | tuple | Mapping)


def _canonical(value: object, hint: Any, where: str) -> Any:
    """The value as reading it back would make it: 1.0 for the 1 of a float, a tuple for a list."""
    if isinstance(value, str) and value == NONE and NoneType in get_args(hint):
        raise ConfigError(f'{where} is the text "none", which in a config stands for None.')
    try:
        return _converted(value, hint)
    except _Mismatch:
        return value


def _plain(value: object, where: str) -> Any:
    """The value in types that TOML has."""
    if value is None:
        return NONE
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, PathLike):
        return str(Path(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(entry, where) for key, entry in value.items()}
    if isinstance(value, AbstractSet):
        return sorted(_plain(entry, where) for entry in value)
    if isinstance(value, list | tuple):
        return [_plain(entry, where) for entry in value]
    raise ConfigError(
        f"{where} is an object ({type(value).__name__}) and cannot be written to a config. "
        "Give it by name or as a folder instead."
    )


def _words(hint: Any) -> str:
    """A type in the words of someone who writes a config."""
    arguments = get_args(hint)
    kind = get_origin(hint) or hint
    if kind in {Union, UnionType}:
        return " or ".join(dict.fromkeys(map(_words, arguments)))
    if kind is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if kind is tuple or kind in _MAKERS:
        return f"an array of ({', '.join(_words(entry) for entry in arguments if entry is not Ellipsis)})"
    return _WORDS.get(kind, "an object")
