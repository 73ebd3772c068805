"""Writes configs as TOML and keeps the comments of an existing file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import tomlkit
from tomlkit.items import AoT, Table

from autotag.errors import ConfigError

if TYPE_CHECKING:
    from tomlkit.items import Item


def toml_text(config: Mapping[str, Any], *, over: str = "") -> str:
    """Return a config as TOML text; ``presets.read_preset`` reads the same config back.

    Args:
        config: settings and ``stages``, as ``presets.to_config`` returns them. None is written as
            ``"none"``, which a config reads as None.
        over: an existing TOML text to update: its comments, order and layout are kept. Those inside
            ``stages`` are kept only if the stages are the same ones in the same order.

    Raises:
        ConfigError: it holds a value that TOML cannot represent.
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
    """Update a table to the wanted values; equal values and arrays of tables are left as they are."""
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
