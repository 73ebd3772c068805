"""``autotag undo``: reverts what was written in an album."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from autotag.cli.options import SOME_FAILED, adopt_option, state_option

if TYPE_CHECKING:
    from pathlib import Path

    from autotag.protocols import FileChange


@click.command(
    epilog="""\b
Exit codes:
  0  everything was undone
  1  some changes could not be undone; the lines on stderr say why
  2  could not run: no run is recorded for this album, or another run is writing it"""
)
@click.argument("folder", metavar="FOLDER")
@click.option("--last", is_flag=True, help="Undo only the last run that is not undone yet.")
@click.option("--dry-run", is_flag=True, help="Print what would be undone; write nothing.")
@state_option("The --state folder of the run.")
@adopt_option
@click.option(
    "--forget-missing",
    is_flag=True,
    help="Forget the changes of files and folders that were deleted for good.",
)
@click.option("--quiet", "-q", is_flag=True, help="Print only errors and warnings on stderr.")
@click.pass_context
def undo(
    ctx: click.Context,
    folder: str,
    *,
    last: bool,
    dry_run: bool,
    state: Path | None,
    adopt: bool,
    forget_missing: bool,
    quiet: bool,
) -> None:
    """Undo everything that autotag wrote in an album: tags, files and names.

    FOLDER is what was tagged, or a folder around it. Files are restored byte for byte; in a file that was
    edited since, only the machine's tags are removed, and a line says so. It also works after a run that was
    killed. What cannot be undone now, such as files on a disk that is not mounted, is listed and left for
    the next undo.
    """
    from autotag.albums import undo_album
    from autotag.cli.album_progress import bookkeeping
    from autotag.cli.progress import Reporter
    from autotag.writers.one_line import one_line

    reporter = Reporter(quiet=quiet)

    def show(change: FileChange) -> None:
        if dry_run:
            click.echo(one_line(f"would undo: {change.describe()}"))

    with bookkeeping():
        summary = undo_album(
            folder,
            state=state,
            last=last,
            dry_run=dry_run,
            adopt=adopt,
            forget_missing=forget_missing,
            listener=show,
        )
    for note in summary.notes:
        reporter.complain(note)
    for file, reason in summary.errors:
        reporter.complain(reason if file in reason else f"{file}: {reason}")
    word = "to undo" if dry_run else "undone"
    reporter.inform(f"{summary.steps} step{'' if summary.steps == 1 else 's'} {word}")
    ctx.exit(SOME_FAILED if summary.errors else 0)
