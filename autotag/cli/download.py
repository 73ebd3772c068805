"""``autotag download``: fetches weights before they are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from autotag.models.loading.hub import size_in_words

if TYPE_CHECKING:
    from autotag.models.names import ModelAddress


@click.command(
    epilog="Exit codes: 0 all models are on this machine; 2 a download failed, or a name is unknown."
)
@click.argument("names", metavar="PRESET|MODEL...", nargs=-1, required=True)
def download(names: tuple[str, ...]) -> None:
    """Download the weights that a preset or a model needs, unless they are on this machine.

    PRESET is the name of a preset or a TOML file, MODEL a name that `autotag models` lists. Progress
    goes to stderr.
    """
    from autotag.pipeline import inventory
    from autotag.writers.one_line import one_line

    addresses = [address for name in names for address in inventory.find_models(name)]
    for address in {address.key: address for address in addresses}.values():
        click.echo(one_line(_downloaded(address)))


def _downloaded(address: ModelAddress) -> str:
    """Download a model if it is not on this machine; return what was done."""
    from autotag.pipeline import inventory
    from autotag.writers.one_line import one_line

    bundled = address.card is not None and address.card.bundled
    if bundled:
        inventory.fetch(address)  # complains when the bundled weights are gone
        return f"{address.name}: comes with autotag, nothing to download"
    if address.factory == "remote":
        return f"{address.name}: runs behind a server, nothing to download"
    if inventory.is_present(address):
        return f"{address.name}: already on this machine"
    size = f" ({size_in_words(address.card.download_size)})" if address.card else ""
    click.echo(f"autotag: downloading {one_line(address.name)}{size}", err=True)
    inventory.fetch(address)
    return f"{address.name}: downloaded"
