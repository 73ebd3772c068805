"""Configs as TOML, written so that the comments of who wrote it survive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import tomlkit
from tomlkit.items import AoT, Table

from autotag.errors import ConfigError

if TYPE_CHECKING:
    from tomlkit.items import Item


def toml_text(config: Mapping[str, Any], *, over: str = "") -> str:
    """Return a config as the text of a TOML file, which ``presets.read_preset`` reads back as the same.

    Args:
        config: settings and ``stages``, as ``presets.to_config`` gives them. None is written as
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
