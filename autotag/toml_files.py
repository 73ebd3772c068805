"""TOML files: reading those of anyone with bounds, and writing configs so that comments survive."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomlkit
from tomlkit.items import AoT, Table

from autotag.bounded_files import read_bounded
from autotag.errors import ConfigError

if TYPE_CHECKING:
    from os import PathLike

    from tomlkit.items import Item

_MOST_BYTES = 8 * 2**20
_DEEPEST = 16


def read_toml(path: str | PathLike[str], *, what: str) -> dict[str, Any]:
    """Return the table in a TOML file.

    Args:
        path: the file.
        what: what it is, for messages: ``"preset"``.

    Raises:
        ConfigError: it cannot be read, is too large or nested too deeply, or is not TOML; says where.
    """
    try:
        return parse_toml(toml_file_text(path, what=what))
    except ValueError as error:
        raise ConfigError(f"{str(Path(path))!r} is not a TOML file: {error}.") from error


def toml_file_text(path: str | PathLike[str], *, what: str) -> str:
    """Return the text of a TOML file, which is not parsed yet.

    Args:
        path: the file.
        what: what it is, for messages: ``"preset"``.

    Raises:
        ConfigError: it cannot be read, is too large, or is not UTF-8.
    """
    named = str(Path(path))
    try:
        return read_bounded(path, most=_MOST_BYTES).decode("utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the {what} {named!r}: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"{named!r} is not a TOML file: {error}.") from error


def parse_toml(text: str) -> dict[str, Any]:
    """Return the table that a TOML text holds.

    Raises:
        ValueError: it is not TOML, or is nested too deeply.
    """
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise ValueError(_too_deep()) from None
    check_depth(table)
    return table


def toml_text(config: Mapping[str, Any], *, over: str = "") -> str:
    """Return a config as the text of a TOML file that ``autotag.config.read_preset`` reads back as the same.

    Args:
        config: settings and ``stages``, as ``autotag.config.to_config`` gives them. None is written as
            ``"none"``, which a config takes for None.
        over: a TOML text that is changed to say this: comments, order and layout stay, also of the stages
            where these are the same stages in the same order.

    Raises:
        ConfigError: it holds an object that no TOML file can hold.
    """
    document = tomlkit.parse(over)
    settings = {name: value for name, value in config.items() if name != "stages"}
    stages = [dict(table) for table in config.get("stages", ())]
    there = document.get("stages")
    if isinstance(there, AoT) and [_kind(table) for table in there] == [_kind(table) for table in stages]:
        for table, wanted in zip(there.body, stages, strict=True):
            _change(table, wanted)
    elif there is not None:
        document.remove("stages")
        there = None
    _change(document, settings)
    if there is None and stages:
        document.append("stages", _stage_array(stages))
    return tomlkit.dumps(document)


def _kind(table: Mapping[str, Any]) -> tuple[object, object]:
    return table.get("stage"), table.get("name")


def _stage_array(stages: list[dict[str, Any]]) -> AoT:
    array = tomlkit.aot()
    for stage in stages:
        table = tomlkit.table()
        _change(table, stage)
        array.append(table)
    return array


def _change(table: Table | tomlkit.TOMLDocument, wanted: Mapping[str, Any]) -> None:
    """Make a table hold what is wanted, arrays of tables aside; what says it already is not touched."""
    for name in [name for name, value in table.items() if name not in wanted and not isinstance(value, AoT)]:
        table.remove(name)
    there = table.unwrap()
    for name, value in wanted.items():
        plain = "none" if value is None else value
        if name not in there or repr(there[name]) != repr(plain):
            table[name] = _item(plain)


def _item(value: object) -> Item:
    if isinstance(value, Mapping):
        inline = tomlkit.inline_table()
        for name, one in value.items():
            inline[str(name)] = _item(one)
        return inline
    if isinstance(value, list | tuple):
        array = tomlkit.array()
        array.extend(_item(one) for one in value)
        return array
    try:
        return tomlkit.item("none" if value is None else value)
    except ValueError as error:
        raise ConfigError(f"{value!r} cannot be written to a TOML file.") from error


def check_depth(value: object) -> None:
    """Refuse plain data that is nested so deeply that whoever walks through it would run out of stack.

    Raises:
        ValueError: it is nested deeper than any option needs.
    """
    level = [value]
    for _ in range(_DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise ValueError(_too_deep())


def _inside(value: object) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []


def _too_deep() -> str:
    return f"it is nested deeper than {_DEEPEST} levels"
