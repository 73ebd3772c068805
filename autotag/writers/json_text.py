"""One result as one line of JSON."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

from autotag.errors import ConfigError

if TYPE_CHECKING:
    from autotag.records import Result

_ESCAPED = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Lone surrogates, which cannot be encoded, and what would colour a terminal, or break or turn its lines."""


def json_text(result: Result) -> str:
    r"""``result.to_dict()`` as JSON on one line, without a line break at its end.

    Text stays readable (``"é"``, not ``"\u00e9"``), but for controls and marks that turn the direction of
    text. A file name that is no UTF-8 holds lone surrogates; they become ``\udcxx`` escapes, which Python's
    ``json`` reads back to the same name. Numbers that JSON lacks (NaN, infinity) become null.

    Raises:
        ConfigError: ``extras`` hold an object that is no plain data; names the image.
    """
    return _with_extras(result.to_dict(), result)


def extras_text(result: Result) -> str:
    """``result.extras`` as JSON, on the same terms.

    Raises:
        ConfigError: they hold an object that is no plain data; names the image.
    """
    return _with_extras(dict(result.extras), result)


def _with_extras(row: dict[str, Any], result: Result) -> str:
    """The row, which holds the result's extras, as JSON."""
    try:
        return plain_json(row)
    except TypeError as error:
        raise ConfigError(
            f"the extras of {result.source!r} cannot be written as JSON: {error}. "
            f"A stage that writes one of {', '.join(map(repr, result.extras))} must put plain data there."
        ) from error


def plain_json(row: Any, *, indent: int | None = None) -> str:
    """Plain data as JSON that any terminal and any file takes, on one line unless it is indented.

    Raises:
        TypeError: it holds an object that is no plain data.
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
