"""Read JSON that can be written again: without NaN, infinity and lone surrogates, which Python allows."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn


def read_json(text: str) -> Any:
    """Return the JSON value that a text is.

    Raises:
        ValueError: it is not JSON, or holds NaN, an infinite number or a lone surrogate.
        RecursionError: it is nested too deeply.
    """
    text = text.strip()
    found, end = read_json_at(text, 0)
    if end < len(text):
        raise ValueError("there is more after the value")
    return found


def read_json_at(text: str, start: int) -> tuple[Any, int]:
    """Return the JSON value at a position of a text, and the position after it; see ``read_json``."""
    found, end = _DECODER.raw_decode(text, start)
    if "\\u" in text:
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("a text in it has half of a character, a lone surrogate") from error
    return found, end


def _refused(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:80]} is too large a number")
    return number


_DECODER = json.JSONDecoder(parse_constant=_refused, parse_float=_finite)
