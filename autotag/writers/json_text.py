"""Write one result as one line of JSON."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

from autotag.errors import ConfigError

if TYPE_CHECKING:
    from autotag.records import Result

_ESCAPED = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Lone surrogates, which cannot be encoded; control characters; marks that break lines or turn text."""


def json_text(result: Result) -> str:
    r"""Return ``result.to_dict()`` as JSON on one line, without a line break at its end.

    Text stays readable (``"é"``, not ``"\u00e9"``), except control characters and marks that change the
    direction of text. A file name that is not UTF-8 contains lone surrogates; they become ``\udcxx`` escapes,
    which Python's ``json`` reads back to the same name. NaN and infinity become null.

    Raises:
        ConfigError: ``extras`` contain an object that is not plain data; names the image.
    """
    return _with_extras(result.to_dict(), result)


def extras_text(result: Result) -> str:
    """Return ``result.extras`` as JSON, in the format of ``json_text``.

    Raises:
        ConfigError: ``extras`` contain an object that is not plain data; names the image.
    """
    return _with_extras(dict(result.extras), result)


def _with_extras(row: dict[str, Any], result: Result) -> str:
    """Return a row that contains the result's extras as JSON."""
    try:
        return plain_json(row)
    except TypeError as error:
        raise ConfigError(
            f"the extras of {result.source!r} cannot be written as JSON: {error}. "
            f"The stages that write {', '.join(map(repr, result.extras))} must write plain data."
        ) from error


def plain_json(row: Any, *, indent: int | None = None) -> str:
    """Return plain data as JSON that is safe for any terminal and file, on one line unless indented.

    Raises:
        TypeError: it contains an object that is not plain data.
    """
    try:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False, indent=indent)
    except ValueError:
        text = json.dumps(_finite(row), ensure_ascii=False, allow_nan=False, indent=indent)
    return _ESCAPED.sub(_escaped, text)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
