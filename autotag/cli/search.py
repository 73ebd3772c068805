"""``autotag search``: finds photographs in an index."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import click

from autotag.cli.index import index_option, open_index, store_options
from autotag.cli.inputs import allowed_url
from autotag.cli.options import auto_device_option

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from autotag.search import Hit, Index, StoreIndex

_FORMATS = ("table", "json", "jsonl", "paths", "paths0", "html")
NOTHING_FOUND = 1


@click.command(
    epilog="""\b
Exit codes:
  0    something was found
  1    nothing was found
  2    could not run: a bad option, no index, another encoder than the index's"""
)
@click.argument("text", metavar="[WORDS]", required=False)
@index_option
@store_options
@click.option(
    "--image",
    metavar="FILE",
    type=click.Path(),
    help="Find photographs that resemble this image.",
)
@click.option(
    "--like", metavar="ID", type=int, help="Find photographs that resemble this one of the index, by its id."
)
@click.option(
    "--not", "without", metavar="WORDS", help="Exclude photographs that match this, by words or by look."
)
@click.option(
    "--tag", "tags", metavar="TAG", multiple=True, help="Only with this tag or keyword. May be repeated."
)
@click.option("--folder", metavar="NAME", help="Only in folders of this name, at any depth, or in this path.")
@click.option("--since", metavar="DATE", help="Only taken then or later: 2020-05-17, 2020-05 or 2020.")
@click.option("--until", metavar="DATE", help="Only taken then or earlier, that day, month or year included.")
@click.option("--camera", metavar="NAME", help="Only with a camera whose make or model contains this.")
@click.option("--near", metavar="LAT,LON,KM", help="Only within so many kilometres of a place.")
@click.option("--top", "top_k", metavar="N", type=click.IntRange(min=1), default=20, show_default=True)
@click.option(
    "--by",
    type=click.Choice(["both", "vectors", "words"]),
    default="both",
    show_default=True,
    help="Find WORDS by meaning (vectors), as text (words), or both.",
)
@click.option(
    "--why", is_flag=True, help="Show for each hit why it was found: its cosine and the matching words."
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(_FORMATS),
    default="table",
    show_default=True,
    help="table for people, json, jsonl, paths (one a line), paths0 (separated by NUL), or html: one page "
    "with thumbnails.",
)
@click.option(
    "--encoder",
    metavar="NAME|FOLDER",
    help="The encoder of the index, if it is stored elsewhere now; by default the name in the index.",
)
@auto_device_option
@click.pass_context
def search(
    ctx: click.Context,
    text: str | None,
    *,
    index_file: Path,
    store: str | None,
    table: str | None,
    image: str | None,
    like: int | None,
    without: str | None,
    tags: tuple[str, ...],
    folder: str | None,
    since: str | None,
    until: str | None,
    camera: str | None,
    near: str | None,
    top_k: int,
    by: str,
    why: bool,
    format_name: str,
    encoder: str | None,
    device: str | None,
) -> None:
    """Find photographs by words, by an image, by both, or by date, place, camera, folder and tag.

    WORDS are searched by meaning, and as text in captions, tags, keywords and file names; "a part in double
    quotes" must be in the text. Several queries are combined: a photograph that ranks high in more than one
    comes first. Every other option is a filter.
    """
    from autotag.images.reading import is_url
    from autotag.search import Filter
    from autotag.search.filters import read_place

    if image is not None and is_url(image):
        allowed_url(image, allow_urls=None)
    place = None if near is None else read_place(near)
    wanted = Filter(tags=tags, folder=folder, since=since, until=until, camera=camera, near=place)
    has_query = text is not None or image is not None or like is not None
    has_filter = wanted != Filter()
    with open_index(ctx, index_file, store, table, create=False, encoder=encoder, device=device) as index:
        hits = index.search(
            text,
            image=image,
            like=like,
            without=without,
            filter=wanted if has_filter or (without is not None and not has_query) else None,
            top_k=top_k,
            by=by,  # type: ignore[arg-type]  # click.Choice has checked it
        )
        if format_name == "html":
            _write_page(index, hits, title=text or "", why=why)
        else:
            _write(hits, format_name, why=why)
    if not hits and format_name == "table":
        click.echo("autotag: nothing found", err=True)
    ctx.exit(0 if hits else NOTHING_FOUND)


def _write_page(index: Index | StoreIndex, hits: Sequence[Hit], *, title: str, why: bool) -> None:
    from autotag.search.page import page
    from autotag.search.thumbnails import thumbnails_of

    click.echo(page(hits, thumbnails_of(index, hits, index.pictures), title=title, why=why))


def _write(hits: Sequence[Hit], format_name: str, *, why: bool) -> None:
    if format_name in {"paths", "paths0"}:
        end = b"\0" if format_name == "paths0" else b"\n"
        sys.stdout.buffer.write(b"".join(os.fsencode(hit.path) + end for hit in hits))
        sys.stdout.flush()
    elif format_name == "json":
        click.echo(json.dumps([hit.to_dict() for hit in hits], indent=2))
    elif format_name == "jsonl":
        for hit in hits:
            click.echo(json.dumps(hit.to_dict()))
    else:
        _write_table(hits, why=why)


def _write_table(hits: Sequence[Hit], *, why: bool) -> None:
    from autotag.writers.one_line import one_line

    for place, hit in enumerate(hits, 1):
        mark = "  (offline)" if hit.offline else ""
        click.echo(f"{place:>3}. {one_line(hit.path)}{mark}")
        told = ", ".join(tag.text for tag in hit.tags[:8])
        click.echo(f"     {hit.score:.4f} {hit.reason:<6} #{hit.id}  {one_line(hit.caption)}")
        if told:
            click.echo(f"     {one_line(told)}")
        if why:
            cosine = "" if hit.cosine is None else f"cosine {hit.cosine:.3f}"
            words = f"words: {', '.join(hit.words)}" if hit.words else ""
            click.echo(
                f"     why: {one_line('; '.join(filter(None, (cosine, words))) or 'it meets the filter')}"
            )
