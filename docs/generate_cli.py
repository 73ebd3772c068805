"""Writes docs/cli.md from the help of the commands. Run: python docs/generate_cli.py"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from autotag.cli.main import main

PAGE = Path(__file__).resolve().with_name("cli.md")
WIDTH = 100
TOP = """# Command line

The help of each command, written by `docs/generate_cli.py`. [Quickstart](quickstart.md) shows them at work.
"""


def cli_page() -> str:
    """The whole page, as it should stand in docs/cli.md."""
    return "\n".join([TOP, *_sections(main, "autotag", None)])


def _sections(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    settings = {**command.context_settings, "terminal_width": WIDTH}
    context = click.Context(command, info_name=name, parent=parent, **settings)
    yield f"## {context.command_path}\n\n```text\n{_help(command, context)}\n```\n"
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            if found is not None:
                yield from _sections(found, child, context)


def _help(command: click.Command, context: click.Context) -> str:
    """The help without trailing spaces."""
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


if __name__ == "__main__":
    PAGE.write_text(cli_page(), encoding="utf-8")
