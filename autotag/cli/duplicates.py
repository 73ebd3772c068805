"""``autotag duplicates``: finds photographs that are there more than once."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from autotag.cli.index import optional_index_option
from autotag.cli.inputs import find
from autotag.cli.options import SOME_FAILED, follow_symlinks_option, quiet_option

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from autotag.errors import ImageReadError
    from autotag.search.duplicates import DuplicateGroup
    from autotag.search.picture_cache import PictureCache

_FORMATS = ("table", "json", "jsonl", "paths", "paths0", "html")
_UNITS = ("bytes", "kB", "MB", "GB")


@click.command(
    epilog="""\b
Exit codes:
  0    it ran, whether something was found or not
  1    some photographs could not be read; the lines on stderr say why
  2    could not run: a bad option, no image, no index
  130  interrupted with Ctrl-C"""
)
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@optional_index_option("Search the photographs of an index instead of PATHs")
@click.option(
    "--same",
    type=click.Choice(["bytes", "pixels", "picture"]),
    default="picture",
    show_default=True,
    help="What copies share: all bytes, all pixels (metadata may differ), or the picture (size, quality and "
    "brightness may differ, too, and it may be slightly cropped).",
)
@click.option(
    "--bursts/--no-bursts",
    default=None,
    help="Find bursts, too: photographs of one camera within seconds that look alike. By default in every "
    "format but paths and paths0.",
)
@click.option(
    "--burst-seconds",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    help="The longest pause between two photographs of a burst; by default 2.",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(_FORMATS),
    default="table",
    show_default=True,
    help="table for people, json, jsonl (one group a line), html (one page with thumbnails), or the paths of "
    "all photographs but the one to keep of each group: paths (one a line), paths0 (separated by NUL).",
)
@follow_symlinks_option
@quiet_option
@click.pass_context
def duplicates(
    ctx: click.Context,
    paths: tuple[str, ...],
    *,
    index_file: Path | None,
    same: Any,
    bursts: bool | None,
    burst_seconds: float | None,
    format_name: str,
    follow_symlinks: bool,
    quiet: bool,
) -> None:
    """Find copies of photographs, and bursts, and say which one of each to keep.

    PATH is an image, a folder (searched with all its subfolders), or - to read paths from stdin. Nothing is
    deleted or changed, and no model is needed. Of each group the one to keep comes first: the largest; of
    equal ones that of the best quality, then one with people's keywords, then the oldest.
    """
    from autotag.cli.progress import Reporter
    from autotag.search import Index, find_duplicates, find_duplicates_in
    from autotag.search.picture_cache import cache_beside

    if bool(paths) == (index_file is not None):
        raise click.UsageError("give PATHs or --index, one of the two.")
    reporter = Reporter(quiet=quiet)
    failures = 0

    def failed(error: ImageReadError) -> None:
        nonlocal failures
        failures += 1
        reporter.complain(str(error))

    options: dict[str, Any] = {
        "same": same,
        "bursts": not format_name.startswith("paths") if bursts is None else bursts,
        **({} if burst_seconds is None else {"burst_seconds": burst_seconds}),
        "failed": failed,
        "seen": reporter.advance,
    }
    cache = None
    with reporter.passing_on_warnings():
        if index_file is None:
            images = find(paths, allow_urls=None, follow_symlinks=follow_symlinks)
            with reporter.counting(len(images)):
                groups = find_duplicates(images, **options)
        else:
            cache = cache_beside(index_file)
            with Index.open(index_file, create=False) as index, reporter.counting(None):
                groups = find_duplicates_in(index, **options)
    _write(groups, format_name, cache)
    reporter.inform(_summary(groups))
    ctx.exit(SOME_FAILED if failures else 0)


def _write(groups: Sequence[DuplicateGroup], format_name: str, cache: PictureCache | None) -> None:
    if format_name in {"paths", "paths0"}:
        end = b"\0" if format_name == "paths0" else b"\n"
        others = (os.fsencode(copy.path) for group in groups for copy in group.others)
        sys.stdout.buffer.write(b"".join(path + end for path in others))
        sys.stdout.flush()
    elif format_name == "html":
        from autotag.search.page import duplicates_page
        from autotag.search.thumbnails import thumbnails

        photos = [(copy.path, copy.digest) for group in groups for copy in group.photos]
        click.echo(duplicates_page(groups, thumbnails(photos, cache)))
    elif format_name == "json":
        click.echo(json.dumps([group.to_dict() for group in groups], indent=2))
    elif format_name == "jsonl":
        for group in groups:
            click.echo(json.dumps(group.to_dict()))
    else:
        _write_table(groups)


def _write_table(groups: Sequence[DuplicateGroup]) -> None:
    from autotag.writers.one_line import one_line

    for group in groups:
        click.echo(f"{len(group.photos)} {group.kind}")
        for copy in group.photos:
            facts = [f"{copy.size[0]}x{copy.size[1]}", _human(copy.bytes)]
            facts += [copy.taken] if copy.taken else []
            facts += [f"keywords: {', '.join(copy.keywords)}"] if copy.keywords else []
            click.echo(f"  {copy.kind or 'keep':<8}{one_line(copy.path)}  {one_line(', '.join(facts))}")


def _summary(groups: Sequence[DuplicateGroup]) -> str:
    copies = [copy for group in groups if group.kind == "copies" for copy in group.others]
    bursts = [group for group in groups if group.kind == "burst"]
    photographs = len(groups) - len(bursts)
    told = [f"{photographs} photograph{' is' if photographs == 1 else 's are'} there more than once"]
    if copies:
        take = "copy takes" if len(copies) == 1 else "copies take"
        told.append(f"{len(copies)} {take} {_human(sum(copy.bytes for copy in copies))}")
    if bursts:
        many = "" if len(bursts) == 1 else "s"
        told.append(f"{len(bursts)} burst{many} of {sum(len(group.photos) for group in bursts)} photographs")
    return "; ".join(told)


def _human(count: int) -> str:
    size, unit = float(count), 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.3g} {_UNITS[unit]}" if unit else f"{count} bytes"
