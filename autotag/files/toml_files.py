"""Reads untrusted TOML: size and depth are bounded, and every refusal gives a reason."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotag.errors import ConfigError
from autotag.files.bounded_files import read_bounded

if TYPE_CHECKING:
    from os import PathLike

_MOST_BYTES = 8 * 2**20
_DEEPEST = 16


def read_toml(path: str | PathLike[str], *, what: str) -> dict[str, Any]:
    """Return the table in a TOML file.

    Args:
        path: the file.
        what: what it is, for messages: ``"preset"``.

    Raises:
        ConfigError: it cannot be read, is too large or nested too deeply, or is not TOML; names the line.
    """
    try:
        return parse_toml(toml_file_text(path, what=what))
    except ValueError as error:
        raise ConfigError(f"{str(Path(path))!r} is not a TOML file: {error}.") from error


def toml_file_text(path: str | PathLike[str], *, what: str) -> str:
    """Return the text of a TOML file without parsing it.

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
    """Return the top-level table of a TOML text.

    Raises:
        ValueError: it is not TOML, or is nested too deeply.
    """
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise ValueError(_too_deep()) from None
    check_depth(table)
    return table


def check_depth(value: object) -> None:
    """Refuse plain data that is nested so deeply that recursive code would overflow the stack.

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
