"""``autotag review``: a page on which a person goes through the tags of an album."""

from __future__ import annotations

from pathlib import Path

import click

from autotag.cli.options import adopt_option, listening_options, open_option, quiet_option, state_option


@click.command(
    epilog="""\b
Exit codes:
  0    ended by Ctrl-C or SIGTERM; every decision is kept
  2    could not run: not a plan or album, another review or run at work, a missing package"""
)
@click.argument("source", metavar="ALBUM|PLAN", type=click.Path(path_type=Path))
@listening_options(port=8119, tokens="the page asks for one of them.")
@open_option
@click.option(
    "--vocabulary",
    metavar="NAME|FILE",
    default="things",
    show_default=True,
    help="Words to suggest while typing, besides those of the album.",
)
@state_option("The --state folder of the album's runs.")
@adopt_option
@quiet_option
def review(
    *,
    source: Path,
    host: str,
    port: int,
    token_file: Path | None,
    open_browser: bool,
    vocabulary: str,
    state: Path | None,
    adopt: bool,
    quiet: bool,
) -> None:
    """Look through the tags of an album in the browser: confirm, reject, rename, then apply.

    PLAN is what `autotag album --plan` wrote; ALBUM is a folder that was tagged, whose written tags are gone
    through. Decisions are kept at once, beside the plan or in the album's state; photographs and sidecars
    change only when you apply, and `autotag undo` takes that back. It needs autotag-images[serve].
    """
    from autotag.cli.progress import Reporter
    from autotag.errors import ConfigError, install_hint
    from autotag.vocabularies.vocabulary import read_vocabulary
    from autotag.web.listening import read_tokens

    try:
        from autotag.review.from_album import open_review
        from autotag.review.run import check_listening, make_desk, run_review
    except ModuleNotFoundError as error:
        raise ConfigError(f"review needs {error.name}: {install_hint('serve')}.") from error

    reporter = Reporter(quiet=quiet)
    tokens = read_tokens(token_file) if token_file else ()
    check_listening(host, tokens)
    words = read_vocabulary("--vocabulary", vocabulary)
    reporter.inform(f"reading {source} ...")
    opened = open_review(source, state=state, adopt=adopt)
    for note in opened.notes:
        reporter.complain(note)
    desk = make_desk(opened.review, tokens=tokens, state=state, adopt=adopt, vocabulary=words)

    def tell(address: str) -> None:
        count = len(opened.review.table)
        reporter.inform(f"{count} photograph{'' if count == 1 else 's'}: {address} (Ctrl-C ends)")

    run_review(desk, host=host, port=port, open_browser=open_browser, listening=tell)
