"""``run_review``: the application under uvicorn, until Ctrl-C."""

from __future__ import annotations

import logging
import threading
import webbrowser
from typing import TYPE_CHECKING

import uvicorn

from autotag.errors import ConfigError
from autotag.review.app import create_app
from autotag.review.applying import Applying
from autotag.review.endpoints import Desk
from autotag.review.guard import Sessions
from autotag.review.photographs import Thumbnails
from autotag.review.suggestions import Suggestions
from autotag.web.connections import few_complaints
from autotag.web.listening import (
    address_of,
    is_loopback,
    server_config,
    signals_for_the_server,
    socket_at,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from autotag.review.session import Review
    from autotag.vocabularies.vocabulary import Vocabulary

_SECONDS_TO_END = 5


def check_listening(host: str, tokens: Sequence[str]) -> None:
    """Refuse to let other machines ask without a token.

    Raises:
        ConfigError: it would.
    """
    if not tokens and not is_loopback(host):
        raise ConfigError(f"{host} lets other machines ask, and there is no token: give --token-file.")


def make_desk(
    review: Review,
    *,
    tokens: Sequence[str] = (),
    state: Path | None = None,
    adopt: bool = False,
    vocabulary: Vocabulary | None = None,
) -> Desk:
    """Return what the endpoints work with.

    Args:
        review: the open review.
        tokens: if any, one of them has to come with each request.
        state: the ``--state`` folder of the album's runs.
        adopt: as for ``autotag.albums.apply_plan``.
        vocabulary: words to suggest.
    """
    words = () if vocabulary is None else vocabulary.all_names()
    return Desk(review, Applying(review, state, adopt), Thumbnails(), Suggestions(words), Sessions(tokens))


def run_review(
    desk: Desk,
    *,
    host: str = "127.0.0.1",
    port: int = 8119,
    open_browser: bool = False,
    listening: Callable[[str], None] = lambda _address: None,
) -> None:
    """Serve until Ctrl-C or SIGTERM; an application that is running is ended after the photographs in hand.

    Args:
        desk: from ``make_desk``.
        host: where to listen.
        port: from 0, which takes any that is free, to 65535.
        open_browser: whether to show the page in the user's browser.
        listening: is told the page's address once it can be asked for.

    Raises:
        ConfigError: other machines could ask without a token, or the port is taken.
    """
    check_listening(host, [""] if desk.sessions.needed else [])
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config = server_config(create_app(desk, host=host), host=host, port=port, seconds_to_end=_SECONDS_TO_END)
    try:
        with socket_at(host, port) as listener, signals_for_the_server(), few_complaints():
            address = f"{address_of(listener, host)}/review/"
            listening(address)
            if open_browser:
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
            desk.suggestions.read_keywords(desk.review.album, desk.review.table.files)
            uvicorn.Server(config).run(sockets=[listener])
    finally:
        desk.suggestions.close()
        desk.applying.stop()
        desk.applying.wait()
        desk.review.close()
