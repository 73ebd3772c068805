"""``autotag accelerate``: an approximate search for a large index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from autotag.cli.index import index_option, open_index, store_options
from autotag.cli.options import auto_device_option

if TYPE_CHECKING:
    from pathlib import Path

    from autotag.search.ann_cache import Gate, Kind
    from autotag.search.store_index import StoreGate

NOT_GOOD_ENOUGH = 1


@click.command(
    epilog="""\b
Exit codes:
  0  it is built, and searches use it
  1  it finds too few of the nearest photographs; searches stay exact
  2  could not run: no index, too few photographs, a missing package"""
)
@index_option
@store_options
@click.option(
    "--kind",
    type=click.Choice(["sq8", "rabitq"]),
    default="sq8",
    show_default=True,
    help="Of an index in a file: sq8 keeps a byte a dimension; rabitq keeps a bit, where memory is short.",
)
@click.option(
    "--encoder",
    metavar="NAME|FOLDER",
    help="The encoder of the index, if it is stored elsewhere now; by default the name in the index.",
)
@auto_device_option
@click.pass_context
def accelerate(
    ctx: click.Context,
    *,
    index_file: Path,
    store: str | None,
    table: str | None,
    kind: Kind,
    encoder: str | None,
    device: str | None,
) -> None:
    """Build an approximate search beside a large index.

    It pays above about 500,000 photographs, and needs the extra ann. The index itself is not changed. 200
    photographs and 200 captions are searched exactly, too, to measure how many of the nearest are found;
    below 98 % nothing is built. Photographs added later are searched exactly until it is built again.

    With --store the server builds its own (HNSW) and keeps it up to date; it pays above about 50,000
    photographs. It is measured in the same way, and used only if it finds 98 %.
    """
    from autotag.search import Index

    with open_index(ctx, index_file, store, table, create=False, encoder=encoder, device=device) as index:
        if isinstance(index, Index):
            cache = index.accelerate(kind)
            name: str = kind
            candidates, end = cache.candidates, f"; built in {cache.build_s:.1f} s of processor time"
            gate: Gate | StoreGate = cache
        else:
            gate = index.accelerate()
            candidates, name, end = gate.effort, "hnsw", ""
    click.echo(
        f"{name}: of the ten nearest it finds {gate.image_recall:.1%} for {gate.image_queries} photographs "
        f"and {gate.text_recall:.1%} for {gate.text_queries} texts, with {candidates} candidates{end}"
    )
    if not gate.passed:
        click.echo("that is too few; searches stay exact", err=True)
        ctx.exit(NOT_GOOD_ENOUGH)
