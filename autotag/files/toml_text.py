"""Configs as TOML, which the standard library reads but does not write."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from autotag.errors import ConfigError

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def toml_text(config: Mapping[str, Any]) -> str:
    """Return a config as the text of a TOML file, which ``read_preset`` reads back as the same config.

    Args:
        config: settings and ``stages``, as ``to_config`` gives them. None is written as ``"none"``, which a
            config takes for None.

    Raises:
        ConfigError: it holds an object that no TOML file can hold.
    """
    lines = [f"{_key(name)} = {_value(value)}" for name, value in config.items() if name != "stages"]
    for table in config.get("stages", ()):
        lines += ["", "[[stages]]", *(f"{_key(name)} = {_value(value)}" for name, value in table.items())]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _value(name)


def _value(value: object) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_key(str(name))} = {_value(one)}' for name, one in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    raise ConfigError(f"{value!r} cannot be written to a TOML file.")
