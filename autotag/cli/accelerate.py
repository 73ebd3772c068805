"""``autotag accelerate``: an approximate search for a large index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from autotag.cli.index import index_option
from autotag.cli.options import device_option

if TYPE_CHECKING:
    from pathlib import Path

    from autotag.search.ann_cache import Kind

NOT_GOOD_ENOUGH = 1


@click.command(
    epilog="""\b
Exit codes:
  0  it is built, and searches use it
  1  it finds too few of the nearest photographs; searches stay exact
  2  could not run: no index, too few photographs, a missing package"""
)
@index_option
@click.option(
    "--kind",
    type=click.Choice(["sq8", "rabitq"]),
    default="sq8",
    show_default=True,
    help="sq8 keeps a byte a dimension; rabitq keeps a bit, where memory is short.",
)
@click.option(
    "--encoder",
    metavar="NAME|FOLDER",
    help="The encoder of the index, if it is stored elsewhere now; by default the name in the index.",
)
@device_option
@click.pass_context
def accelerate(
    ctx: click.Context, *, index_file: Path, kind: Kind, encoder: str | None, device: str | None
) -> None:
    """Build an approximate search beside a large index.

    It pays above about 500,000 photographs, and needs the extra ann. The index itself is not changed. 200
    photographs and 200 captions are searched exactly, too, to measure how many of the nearest are found;
    below 98 % nothing is built. Photographs added later are searched exactly until it is built again.
    """
    from autotag.search import Index

    with Index.open(index_file, encoder=encoder, device=device or "auto", create=False) as index:
        gate = index.accelerate(kind)
    click.echo(
        f"{kind}: of the ten nearest it finds {gate.image_recall:.1%} for {gate.image_queries} photographs "
        f"and {gate.text_recall:.1%} for {gate.text_queries} texts, with {gate.candidates} candidates; "
        f"built in {gate.build_s:.1f} s of processor time"
    )
    if not gate.passed:
        click.echo("that is too few; searches stay exact", err=True)
        ctx.exit(NOT_GOOD_ENOUGH)
