"""Options that mean the same in every command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

Command = TypeVar("Command", bound="Callable[..., Any]")

SOME_FAILED = 1
"""The exit code of a run in which some images failed."""


def set_option(help: str) -> Callable[[Command], Command]:  # noqa: A002 - click's own word
    """``--set STAGE.OPTION=VALUE``, as ``settings``."""
    return click.option("--set", "settings", metavar="STAGE.OPTION=VALUE", multiple=True, help=help)


def device_option(command: Command) -> Command:
    """``--device``."""
    words = "auto, cpu, cuda, cuda:1, mps; by default the preset's own."
    return click.option("--device", metavar="DEVICE", help=words)(command)


def weights_option(help: str) -> Callable[[Command], Command]:  # noqa: A002 - click's own word
    """``--weights W,W,...``, as a tuple of numbers or None."""
    return click.option("--weights", metavar="W,W,...", callback=_numbers, help=help)


def _numbers(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    if value is None:
        return None
    try:
        return tuple(float(number) for number in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: write numbers with commas, such as 0.6,0.4.") from error


def quiet_option(command: Command) -> Command:
    """``--quiet``."""
    words = "Neither progress nor information on stderr; errors stay."
    return click.option("--quiet", "-q", is_flag=True, help=words)(command)
