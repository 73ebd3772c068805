"""``autotag export`` and ``autotag import``: a plan to an annotation tool, and people's answers back."""

from __future__ import annotations

from pathlib import Path

import click

FILE = click.Path(path_type=Path)


@click.command()
@click.argument("plan", metavar="PLAN", type=FILE)
@click.option(
    "--label-studio",
    "tasks",
    metavar="TASKS.json",
    type=FILE,
    required=True,
    help="Write tasks of Label Studio.",
)
@click.option(
    "--prefix",
    metavar="URL",
    default="/data/local-files/?d=",
    show_default=True,
    help="What comes before each photograph's path in the album, in the addresses of the tasks.",
)
@click.option(
    "--interface", metavar="FILE.xml", type=FILE, help="Write the project's labelling interface too."
)
def export(plan: Path, *, tasks: Path, prefix: str, interface: Path | None) -> None:
    """Write the photographs of a plan as pre-annotated tasks.

    PLAN is what `autotag album --plan` wrote. `autotag import` brings the answers back into a plan.
    """
    from autotag.albums.label_studio import INTERFACE, write_new, write_tasks

    if interface:
        write_new(interface, INTERFACE)
    count = write_tasks(plan, tasks, prefix=prefix)
    click.echo(f"autotag: {count} tasks written to {tasks}", err=True)


@click.command("import")
@click.argument("plan", metavar="PLAN", type=FILE)
@click.option(
    "--label-studio",
    "annotated",
    metavar="EXPORT.json",
    type=FILE,
    required=True,
    help="What Label Studio exported in the format JSON.",
)
@click.option("--output", metavar="NEW-PLAN", type=FILE, required=True, help="The corrected plan.")
def import_(plan: Path, *, annotated: Path, output: Path) -> None:
    """Write a plan with the tags and captions that people chose, for `autotag apply`.

    Photographs that nobody annotated are not in the new plan.
    """
    from autotag.albums.label_studio import plan_from_annotations

    count = plan_from_annotations(plan, annotated, output)
    click.echo(f"autotag: {count} photographs in {output}; write them with: autotag apply {output}", err=True)
