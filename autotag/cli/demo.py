"""``autotag demo``: the page for people, in the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from autotag.cli.index import optional_index_option, store_options
from autotag.cli.options import (
    device_option,
    insecure_option,
    language_option,
    listening_options,
    open_option,
    quiet_option,
    served_presets_option,
)

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    epilog="""\b
Exit codes:
  0    ended by SIGTERM or Ctrl-C
  2    could not run: a bad option, a missing model or package
  130  ended by a second Ctrl-C, at once"""
)
@served_presets_option
@optional_index_option("Add a tab that searches this index")
@store_options
@listening_options(port=8120, tokens="the page asks for one of them as the password.")
@insecure_option
@open_option
@language_option
@device_option
@quiet_option
def demo(
    *,
    presets: tuple[str, ...],
    index_file: Path | None,
    store: str | None,
    table: str | None,
    host: str,
    port: int,
    token_file: Path | None,
    insecure: bool,
    open_browser: bool,
    languages: tuple[str, ...],
    device: str | None,
    quiet: bool,
) -> None:
    """Try autotag in the browser: prompts, labels, tags with reasons, batches of photographs, and search.

    It is `autotag serve --demo` at another port. Nothing leaves this machine. It needs autotag-images[ui].
    """
    import threading
    import webbrowser

    from autotag.cli.progress import Reporter
    from autotag.cli.serve import page_mounter
    from autotag.web.listening import read_tokens

    reporter = Reporter(quiet=quiet)
    tokens = read_tokens(token_file) if token_file else ()
    mount = page_mounter(tokens, device, index_file=index_file, store=store, table=table)
    from autotag.server.core.limits import Limits
    from autotag.server.run import Place, run_server

    def tell(address: str) -> None:
        reporter.inform(f"{address}/demo/ (Ctrl-C ends)")
        if open_browser:
            threading.Thread(target=webbrowser.open, args=(f"{address}/demo/",), daemon=True).start()

    place = Place(host=host, port=port, tokens=tokens, insecure=insecure)
    run_server(
        presets, place, Limits(), device=device, languages=languages, preload=True, page="/demo", mount=mount,
        listening=tell,
    )  # fmt: skip
