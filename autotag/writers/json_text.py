"""One result as one line of JSON."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

from autotag.errors import ConfigError

if TYPE_CHECKING:
    from autotag.records import Result

_SURROGATE = re.compile("[\ud800-\udfff]")


def json_text(result: Result) -> str:
    r"""``result.to_dict()`` as JSON on one line, without a line break at its end.

    Text stays readable (``"é"``, not ``"\u00e9"``). A file name that is no UTF-8 holds lone surrogates;
    they become ``\udcxx`` escapes, which Python's ``json`` reads back to the same name. Numbers that
    JSON lacks (NaN, infinity) become null.

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
        text = _dumped(row)
    except TypeError as error:
        raise ConfigError(
            f"the extras of {result.source!r} cannot be written as JSON: {error}. "
            f"A stage that writes one of {', '.join(map(repr, result.extras))} must put plain data there."
        ) from error
    return _SURROGATE.sub(_escaped, text)


def _dumped(row: dict[str, Any]) -> str:
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(row), ensure_ascii=False, allow_nan=False)


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
