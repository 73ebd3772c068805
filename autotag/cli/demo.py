"""``autotag demo``: the page for people, in the browser."""

from __future__ import annotations

from pathlib import Path

import click

from autotag.cli.options import device_option, quiet_option


@click.command(
    epilog="""\b
Exit codes:
  0    ended by SIGTERM or Ctrl-C
  2    could not run: a bad option, a missing model or package"""
)
@click.option(
    "--preset",
    "presets",
    metavar="NAME|FILE.toml",
    multiple=True,
    default=("base",),
    show_default=True,
    help="Preset to offer: mini comes with autotag. May be repeated; the first is the default.",
)
@click.option("--host", metavar="HOST", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65535),
    default=8120,
    show_default=True,
    help="At which port; 0 takes one that is free.",
)
@click.option(
    "--token-file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Tokens, one per line; the page asks for one of them as the password.",
)
@click.option("--insecure", is_flag=True, help="Accept requests from other machines without a token.")
@click.option(
    "--open/--no-open", "open_browser", default=True, help="Show the page in the browser. [default: open]"
)
@device_option
@quiet_option
def demo(
    *,
    presets: tuple[str, ...],
    host: str,
    port: int,
    token_file: Path | None,
    insecure: bool,
    open_browser: bool,
    device: str | None,
    quiet: bool,
) -> None:
    """Try autotag in the browser: prompts, labels, tags with reasons, and batches of photographs.

    It is `autotag serve --demo` at another port. Nothing leaves this machine. It needs autotag-images[ui].
    """
    import threading
    import webbrowser

    from autotag.cli.progress import Reporter
    from autotag.cli.serve import page_mounter
    from autotag.web.listening import read_tokens

    reporter = Reporter(quiet=quiet)
    tokens = read_tokens(token_file) if token_file else ()
    mount = page_mounter(tokens)
    from autotag.server.core.limits import Limits
    from autotag.server.run import Place, run_server

    def tell(address: str) -> None:
        reporter.inform(f"{address}/demo/ (Ctrl-C ends)")
        if open_browser:
            threading.Thread(target=webbrowser.open, args=(f"{address}/demo/",), daemon=True).start()

    place = Place(host=host, port=port, tokens=tokens, insecure=insecure)
    run_server(
        presets, place, Limits(), device=device, preload=True, page="/demo", mount=mount, listening=tell
    )
