"""``autotag immich``: tags the photographs of an Immich server."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from autotag.cli.options import (
    SOME_FAILED,
    device_option,
    language_option,
    preset_option,
    quiet_option,
    set_option,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotag.cli.progress import Reporter
    from autotag.photo_servers.immich_client import ImmichClient, Photo
    from autotag.photo_servers.immich_state import ImmichState


@click.command(
    epilog="""\b
Exit codes:
  0    everything was tagged, or undone
  1    some photographs failed, or some tags could not be removed; the next run tries them again
  2    could not run: the server, its version, the key, an option, another run at work
  130  interrupted; what was written is recorded
  129  ended by SIGHUP, or 143 by SIGTERM; likewise"""
)
@click.option("--server", metavar="URL", required=True, help="The server, such as http://immich.local:2283.")
@click.option(
    "--api-key-file",
    "key_file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="A file with an API key of the user whose photographs are tagged.",
)
@click.option("--album", metavar="NAME", help="Only photographs in this album, by name or id.")
@click.option(
    "--since",
    metavar="DATE",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    help="Only photographs taken at this time (UTC) or later.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be written or removed; write nothing.")
@click.option("--undo", is_flag=True, help="Remove exactly the tags that autotag wrote.")
@preset_option("What tags.")
@set_option("Change an option of the preset, such as filter_tags.top_k=5. May be repeated.")
@language_option
@device_option
@click.option(
    "--state",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder in which it is remembered what was done; by default in the user's state folder.",
)
@quiet_option
@click.pass_context
def immich(
    ctx: click.Context,
    *,
    server: str,
    key_file: Path,
    album: str | None,
    since: datetime | None,
    dry_run: bool,
    undo: bool,
    preset: str,
    settings: tuple[str, ...],
    languages: tuple[str, ...],
    device: str | None,
    state: Path | None,
    quiet: bool,
) -> None:
    """Tag the photographs of an Immich server, and write the tags there as auto/<tag>.

    It reads previews through Immich's API, and remembers what it did: a further run tags only what is new,
    and --undo removes exactly what was written. Tags of people are never changed or removed. The key needs
    the permissions user.read, album.read, asset.read, asset.view, asset.update, tag.read, tag.create and
    tag.asset.
    """
    from autotag.cli.progress import Reporter
    from autotag.photo_servers.immich_client import ImmichClient, read_key
    from autotag.photo_servers.immich_state import opened, state_file

    if undo and (album or since):
        raise click.UsageError("--undo removes everything that was written; leave --album and --since out.")
    reporter = Reporter(quiet=quiet)
    with ImmichClient(server, read_key(key_file), told=reporter.complain) as client:
        user = client.check()
        chosen = None if album is None else client.album(album)
        with opened(state_file(user, state), read_only=dry_run) as known:
            if undo:
                ctx.exit(_undo(client, known, reporter, dry_run=dry_run))
            start = None if since is None else since.replace(tzinfo=UTC)
            photos = list(client.photos(user, album=chosen, since=start))
            ctx.exit(
                _tag(client, known, reporter, photos, (preset, settings, device, languages), dry_run=dry_run)
            )


def _tag(
    client: ImmichClient,
    state: ImmichState,
    reporter: Reporter,
    photos: Sequence[Photo],
    how: tuple[str, Sequence[str], str | None, Sequence[str]],
    *,
    dry_run: bool,
) -> int:
    """Tag photographs; return the exit code."""
    from autotag.cli.pipelines import pipeline_of
    from autotag.cli.signals import stoppable
    from autotag.photo_servers.immich_run import tag_photos

    preset, settings, device, languages = how
    due = sum(not state.is_done(photo.id) for photo in photos)
    reporter.inform(f"{due} photograph{'' if due == 1 else 's'} to tag, {len(photos) - due} done before")
    with (
        pipeline_of(preset, {"device": device}, settings, languages=languages) as pipeline,
        reporter.passing_on_warnings(),
        stoppable() as stop,
        reporter.counting(due),
    ):
        listener = _Listener(reporter, show=dry_run)
        found = tag_photos(client, pipeline, state, photos, listener=listener, dry_run=dry_run, stop=stop)
    word = "to write" if dry_run else "written"
    failed = f", {found.failed} photographs failed" if found.failed else ""
    reporter.inform(f"{found.tags} tag{'' if found.tags == 1 else 's'} {word}{failed}")
    if stop():
        return stop.exit_code
    return SOME_FAILED if found.failed else 0


def _undo(client: ImmichClient, state: ImmichState, reporter: Reporter, *, dry_run: bool) -> int:
    """Remove what was written; return the exit code."""
    from autotag.photo_servers.immich_run import undo

    found = undo(client, state, dry_run=dry_run)
    for error in found.errors:
        reporter.complain(error)
    gone = f", {found.gone} were gone already" if found.gone else ""
    word = "to remove" if dry_run else "removed"
    reporter.inform(f"{found.removed} tag{'' if found.removed == 1 else 's'} {word}{gone}")
    return SOME_FAILED if found.errors else 0


class _Listener:
    """Print errors to stderr, and on request what each photograph gets to stdout."""

    def __init__(self, reporter: Reporter, *, show: bool) -> None:
        self._reporter = reporter
        self._show = show

    def tagged(self, photo: Photo, values: Sequence[str]) -> None:
        """Count the photograph, and print its tags if asked to."""
        from autotag.writers.one_line import one_line

        if self._show:
            with self._reporter.making_way():
                click.echo(one_line(f"{photo.name}: {', '.join(values) or 'nothing new'}"))
        self._reporter.advance()

    def failed(self, photo: Photo, reason: str) -> None:
        self._reporter.complain(f"{photo.name}: {reason}")
        self._reporter.advance()
