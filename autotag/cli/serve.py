"""``autotag serve``: a server that other programs ask for tags."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from autotag.cli.index import optional_index_option, store_options
from autotag.cli.options import (
    device_option,
    insecure_option,
    language_option,
    listening_options,
    served_presets_option,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fastapi import FastAPI

    from autotag.demo.searched_index import StorePlace
    from autotag.server.core.service import Service


@click.command(
    epilog="""\b
Exit codes:
  0    ended by SIGTERM or Ctrl-C; accepted requests were answered
  2    could not run: a bad option, a missing model or package
  130  ended by a second Ctrl-C, at once"""
)
@served_presets_option
@listening_options(port=8118, tokens="a request must send one of them.")
@insecure_option
@click.option("--demo", "with_demo", is_flag=True, help="Serve the page of `autotag demo` at /demo.")
@optional_index_option("With --demo, add a tab that searches this index")
@store_options
@click.option("--preload", is_flag=True, help="Load the models before listening.")
@click.option(
    "--allow-host",
    "allowed_hosts",
    metavar="HOST",
    multiple=True,
    help="Fetch images from URLs of this host, such as images.example. May be repeated.",
)
@click.option(
    "--max-waiting",
    metavar="N",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Images that may wait; further requests get status 429.",
)
@click.option(
    "--max-body",
    metavar="MB",
    type=click.IntRange(1, 1024),
    default=32,
    show_default=True,
    help="Largest size of a request in megabytes.",
)
@click.option(
    "--timeout",
    metavar="S",
    type=click.FloatRange(min=0.1, max=3600),
    default=60.0,
    show_default=True,
    help="Longest time for a request in seconds.",
)
@click.option(
    "--moderator",
    metavar="MODEL",
    help="What judges images when a request asks for it: opennsfw, nsfw-vit, wd-vit, zero-shot, or a folder; "
    "loaded with the other models. By default opennsfw, loaded when it is first asked for.",
)
@language_option
@device_option
def serve(
    *,
    presets: tuple[str, ...],
    host: str,
    port: int,
    token_file: Path | None,
    insecure: bool,
    with_demo: bool,
    index_file: Path | None,
    store: str | None,
    table: str | None,
    preload: bool,
    allowed_hosts: tuple[str, ...],
    max_waiting: int,
    max_body: int,
    timeout: float,
    moderator: str | None,
    languages: tuple[str, ...],
    device: str | None,
) -> None:
    """Serve tags, captions, prompts and embeddings to other programs over HTTP.

    It speaks its own API and those of OpenAI, Ollama and PhotoPrism Vision; /docs lists the endpoints.
    The address and then the requests are logged to stderr, one JSON object per line, without images. It needs
    autotag-images[serve].
    """
    from autotag.errors import ConfigError, install_hint
    from autotag.server.core.limits import Limits
    from autotag.web.listening import read_tokens

    try:
        from autotag.server.run import Place, run_server
    except ModuleNotFoundError as error:
        raise ConfigError(f"serve needs {error.name}: {install_hint('serve')}.") from error

    tokens = read_tokens(token_file) if token_file else ()
    place = Place(host=host, port=port, tokens=tokens, insecure=insecure)
    limits = Limits(max_waiting=max_waiting, max_body_bytes=max_body * 2**20, timeout=timeout)
    page: dict[str, Any] = {}
    if with_demo:
        mount = page_mounter(tokens, device, index_file=index_file, store=store, table=table)
        page = {"page": "/demo", "mount": mount}
    elif any(option is not None for option in (index_file, store, table)):
        raise click.UsageError("--index and --store are of the page; give --demo, too.")
    run_server(
        presets, place, limits, device=device, allowed_hosts=allowed_hosts, preload=preload,
        moderator=moderator, languages=languages, listening=_tell, **page,
    )  # fmt: skip


def _tell(address: str) -> None:
    """Write the address to stderr, as one more line of JSON; port 0 is known from it only."""
    click.echo(json.dumps({"listening": address}), err=True)


def page_mounter(
    tokens: Sequence[str],
    device: str | None,
    *,
    index_file: Path | None,
    store: str | None,
    table: str | None,
) -> Callable[[FastAPI, Service], None]:
    """Return what mounts the page of `autotag demo` into a server's application.

    Raises:
        ConfigError: Gradio is not installed, or the store's URL is of no known kind.
    """
    from functools import partial

    from autotag.errors import ConfigError, install_hint

    try:
        from autotag.demo.mounting import mount_page
    except ModuleNotFoundError as error:
        raise ConfigError(f"the page needs {error.name}: {install_hint('ui')}.") from error
    from autotag.demo.searched_index import SearchedIndex

    place = _searched_place(index_file, store, table)
    index = None if place is None else SearchedIndex(place, device=device or "auto")
    return partial(mount_page, tokens=tokens, index=index)


def _searched_place(
    index_file: Path | None, store: str | None, table: str | None
) -> Path | StorePlace | None:
    """Return what the page searches, as the options name it."""
    from autotag.demo.searched_index import StorePlace

    if store is None:
        if table is not None:
            raise click.UsageError("--table is of a store; name the server with --store URL.")
        return index_file
    if index_file is not None:
        raise click.UsageError("--index and --store are both given; an index is in one place.")
    return StorePlace(store) if table is None else StorePlace(store, table)
