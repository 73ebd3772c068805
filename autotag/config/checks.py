"""Checks of option values, made when an object is built, and the display of such values in messages."""

from __future__ import annotations

import operator
from contextlib import suppress
from typing import TYPE_CHECKING, SupportsIndex, cast

from autotag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


_MOST_SHOWN = 200  # characters


def shown(value: object) -> str:
    """Return the ``repr`` of the value, cut to 200 characters."""
    try:
        written = repr(value)
    except ValueError:  # Python refuses to print whole numbers of more than 4300 digits
        return f"a number of about {cast('int', value).bit_length() * 3 // 10:,} digits"
    return written if len(written) <= _MOST_SHOWN else f"{written[:_MOST_SHOWN]}..."


def check_count(option: str, value: object, *, least: int = 1, most: int | None = None) -> None:
    """Refuse anything but a whole number in ``[least, most]``.

    Raises:
        ConfigError: naming the option, the value and what is allowed.
    """
    allowed = f"a whole number of at least {least}" + ("" if most is None else f" and at most {most}")
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):  # type: ignore[operator]
        raise ConfigError(f"{option} is {shown(value)}; allowed: {allowed}")


def whole_number(option: str, value: object) -> int:
    """Return a whole number, Python's or NumPy's, as an ``int``.

    Raises:
        ConfigError: it is something else; naming the option and the value.
    """
    if isinstance(value, SupportsIndex) and not isinstance(value, bool):
        with suppress(TypeError):  # NumPy's bool
            return operator.index(value)
    raise ConfigError(f"{option} is {shown(value)}; allowed: a whole number")


def check_text(option: str, value: object) -> None:
    """Refuse anything but a text.

    Raises:
        ConfigError: naming the option and the value.
    """
    if not isinstance(value, str):
        raise ConfigError(f"{option} is {shown(value)}; allowed: a text")


def check_number(
    option: str, value: object, *, least: float, most: float | None = None, above: bool = False
) -> None:
    """Refuse anything but a number in ``[least, most]``, or above ``least`` if ``above`` is True.

    Raises:
        ConfigError: naming the option, the value and what is allowed.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = number and (value > least if above else value >= least)  # type: ignore[operator]
    if not fits or (most is not None and not value <= most):  # type: ignore[operator]
        bound = f"a number {'above' if above else 'from'} {least:g}" + (
            "" if most is None else f" to {most:g}"
        )
        raise ConfigError(f"{option} is {shown(value)}; allowed: {bound}")


def check_row(what: str, row: object, **kinds: str) -> None:
    """Refuse a row of JSON from a file that anybody may have written, unless it has exactly these fields.

    Args:
        what: what the row is, for messages.
        row: as JSON gives it.
        **kinds: by field ``"text"``, ``"whole"`` (a whole number), ``"number"``, ``"flag"``, ``"texts"``,
            ``"list"`` or ``"row"``; ``"text?"`` may be null, too.

    Raises:
        ConfigError: naming the field that is unknown, missing or of another type.
    """
    if not isinstance(row, dict):
        raise ConfigError(f"{what} is {shown(row)}, not a row of fields")
    for name in row.keys() ^ kinds.keys():
        wrong = "is unknown" if name in row else "is missing"
        raise ConfigError(f"{what}: the field {shown(name)} {wrong}")
    for name, kind in kinds.items():
        if not _is_of_kind(row[name], kind):
            raise ConfigError(
                f"{what}: the field {name!r} is {shown(row[name])}, not {_KINDS[kind.rstrip('?')][1]}"
            )


_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "text": ((str,), "a text"),
    "whole": ((int,), "a whole number"),
    "number": ((int, float), "a number"),
    "flag": ((bool,), "true or false"),
    "texts": ((list,), "a list of texts"),
    "list": ((list,), "a list"),
    "row": ((dict,), "a row of fields"),
}


def _is_of_kind(value: object, kind: str) -> bool:
    if value is None:
        return kind.endswith("?")
    kind = kind.rstrip("?")
    if isinstance(value, bool) and kind != "flag":
        return False
    fits = isinstance(value, _KINDS[kind][0])
    return fits and (kind != "texts" or all(isinstance(one, str) for one in cast("list[object]", value)))


def check_list(option: str, given: object) -> None:
    """Refuse one text where a list of them is meant: each of its letters would be an entry.

    Raises:
        ConfigError: naming the option and the list to write.
    """
    if isinstance(given, str | bytes):
        raise ConfigError(f"{option} is the text {shown(given)}; write a list: [{shown(given)}].")


def check_choice(option: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a value that is not one of the choices.

    Raises:
        ConfigError: naming the option, the value and the choices.
    """
    if value not in choices:
        raise ConfigError(f"{option} is {shown(value)}; allowed: {', '.join(map(repr, choices))}")
