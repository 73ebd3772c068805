"""Options that mean the same in every command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

Command = TypeVar("Command", bound="Callable[..., Any]")

SOME_FAILED = 1
"""The exit code of a run in which some images failed."""

INTERRUPTED = 130
"""The exit code of a run that Ctrl-C ended."""


def _all_of(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Return a decorator that adds options, listed in this order."""

    def added(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return added


def preset_option(
    help: str = "The preset.",  # noqa: A002 - click's own word
    *,
    default: str = "base",
) -> Callable[[Command], Command]:
    """Add ``--preset``; see ``served_presets_option`` for several."""
    return click.option("--preset", metavar="NAME|FILE.toml", default=default, show_default=True, help=help)


def state_option(help: str) -> Callable[[Command], Command]:  # noqa: A002 - click's own word
    """Add ``--state``, the folder of an album's runs."""
    return click.option("--state", metavar="FOLDER", type=click.Path(path_type=Path), help=help)


def table_or_json_option(command: Command) -> Command:
    """Add ``--format``, as ``format_name``."""
    return click.option(
        "--format",
        "format_name",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="table for people, json for programs.",
    )(command)


def set_option(help: str) -> Callable[[Command], Command]:  # noqa: A002 - click's own word
    """Add ``--set STAGE.OPTION=VALUE``, as ``settings``."""
    return click.option("--set", "settings", metavar="STAGE.OPTION=VALUE", multiple=True, help=help)


def device_option(command: Command) -> Command:
    """``--device``."""
    words = "auto, cpu, cuda, cuda:1, mps; by default the preset's own."
    return click.option("--device", metavar="DEVICE", help=words)(command)


def auto_device_option(command: Command) -> Command:
    """Add ``--device`` to a command without a preset, None unless given."""
    words = "auto, cpu, cuda, cuda:1, mps.  [default: auto]"
    return click.option("--device", metavar="DEVICE", help=words)(command)


def served_presets_option(command: Command) -> Command:
    """Add ``--preset``, which may be repeated, as ``presets``."""
    return click.option(
        "--preset",
        "presets",
        metavar="NAME|FILE.toml",
        multiple=True,
        default=("base",),
        show_default=True,
        help="Preset to serve: mini comes with autotag. May be repeated; the first is the default.",
    )(command)


def listening_options(*, port: int, tokens: str) -> Callable[[Command], Command]:
    """Add ``--host``, ``--port`` (by default ``port``) and ``--token-file`` (help text: ``tokens``)."""
    at = "At which port; 0 takes one that is free."
    return _all_of(
        click.option(
            "--host", metavar="HOST", default="127.0.0.1", show_default=True, help="Where to listen."
        ),
        click.option(
            "--port", metavar="N", type=click.IntRange(0, 65535), default=port, show_default=True, help=at
        ),
        click.option(
            "--token-file",
            metavar="FILE",
            type=click.Path(path_type=Path, dir_okay=False),
            help=f"File of tokens, one per line; {tokens}",
        ),
    )


insecure_option = click.option(
    "--insecure", is_flag=True, help="Accept requests from other machines without a token."
)
open_option = click.option(
    "--open/--no-open", "open_browser", default=True, help="Show the page in the browser. [default: open]"
)


def dataset_options(*, fewest: int) -> Callable[[Command], Command]:
    """Add ``--images``, ``--skip-missing``, ``--limit`` (at least ``fewest``) and ``--seed``."""
    return _all_of(
        click.option(
            "--images",
            metavar="FOLDER",
            type=click.Path(path_type=Path, file_okay=False),
            help="The folder of the images; by default beside the data set or in images/.",
        ),
        click.option("--skip-missing", is_flag=True, help="Leave out entries whose image is missing."),
        click.option(
            "--limit", metavar="N", type=click.IntRange(min=fewest), help="At most N images, drawn at random."
        ),
        click.option("--seed", metavar="N", type=int, default=0, show_default=True, help="Random seed."),
    )


def weights_option(help: str) -> Callable[[Command], Command]:  # noqa: A002 - click's own word
    """Add ``--weights W,W,...``, as a tuple of numbers or None."""
    return click.option("--weights", metavar="W,W,...", callback=_numbers, help=help)


def _numbers(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    if value is None:
        return None
    try:
        return tuple(float(number) for number in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: write numbers with commas, such as 0.6,0.4.") from error


def reading_options(command: Command) -> Command:
    """Add ``--allow-truncated`` and ``--max-pixels``, each None unless given."""
    truncated = "Accept truncated image files; read what is there, and mark the results."
    largest = (
        "Refuse larger images; by default 178956970, or fewer for formats without decoding at reduced size."
    )
    command = click.option("--max-pixels", metavar="N", type=click.IntRange(min=1), help=largest)(command)
    return click.option("--allow-truncated", is_flag=True, default=None, help=truncated)(command)


def follow_symlinks_option(command: Command) -> Command:
    """``--follow-symlinks``."""
    words = "Follow links to folders; by default they are reported and skipped."
    return click.option("--follow-symlinks", is_flag=True, help=words)(command)


def overwrite_option(command: Command) -> Command:
    """``--overwrite``."""
    words = "Replace the --output file even if another program changed it."
    return click.option("--overwrite", is_flag=True, help=words)(command)


def deterministic_option(command: Command) -> Command:
    """Add ``--deterministic``, None unless given."""
    words = "Stop when memory runs out; smaller batches could change a last digit."
    return click.option("--deterministic", is_flag=True, default=None, help=words)(command)


def moderate_option(command: Command) -> Command:
    """``--moderate``."""
    words = (
        "Judge whether each image is safe to show, with the stage moderate_images; by default by the model "
        "opennsfw, or --set moderate_images.model=NAME."
    )
    return click.option("--moderate", is_flag=True, help=words)(command)


def language_option(command: Command) -> Command:
    """Add ``--language``, as a tuple of codes, empty unless given."""
    words = (
        "Name tags in this language: de, es, fr, it, nl, pt, or one of your vocabulary. Several with commas, "
        "such as de,en, give each tag once in every language."
    )
    return click.option("--language", "languages", metavar="CODE,...", callback=_codes, help=words)(command)


def _codes(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...]:
    return () if value is None else tuple(code.strip() for code in value.split(","))


def quiet_option(command: Command) -> Command:
    """``--quiet``."""
    words = "Print only errors and warnings on stderr."
    return click.option("--quiet", "-q", is_flag=True, help=words)(command)


adopt_option = click.option(
    "--adopt",
    is_flag=True,
    help="Accept a state of another folder, or one that another machine or user wrote.",
)
