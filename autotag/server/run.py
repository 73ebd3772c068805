"""``run_server``: the application under uvicorn, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from autotag.errors import ConfigError
from autotag.pipeline.presets import load
from autotag.server.app import create_app
from autotag.server.core.service import Service
from autotag.server.core.wishes import Pipelines
from autotag.server.json_log import log_to_stderr
from autotag.web.connections import few_complaints
from autotag.web.listening import (
    address_of,
    is_loopback,
    server_config,
    signals_for_the_server,
    socket_at,
)
from autotag.web.public_urls import public_host

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from fastapi import FastAPI

    from autotag.server.core.limits import Limits

_KEEP_ALIVE = 120
"""Seconds that an idle connection is kept: longer than clients keep theirs (httpx 5, Go 90), so that no
request is sent into one that is just being closed."""

_INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended in the middle of something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The address of a server, and who may use it.

    Attributes:
        host: an address or name of this machine.
        port: from 0, which takes any that is free, to 65535.
        tokens: if any, one of them has to come with each request.
        insecure: whether others than this machine may ask without a token.

    Raises:
        ConfigError: others may ask, there is no token, and ``insecure`` is not said.
    """

    host: str = "127.0.0.1"
    port: int = 8118
    tokens: tuple[str, ...] = ()
    insecure: bool = False

    def __post_init__(self) -> None:
        if not (self.tokens or self.insecure or is_loopback(self.host)):
            raise ConfigError(
                f"{self.host} accepts requests from other machines, and there is no token: use --token-file "
                "or --insecure."
            )


def run_server(
    presets: Sequence[str],
    place: Place,
    limits: Limits,
    *,
    device: str | None = None,
    allowed_hosts: Sequence[str] = (),
    preload: bool = False,
    moderator: str | None = None,
    languages: Sequence[str] = (),
    page: str = "",
    mount: Callable[[FastAPI, Service], None] = lambda _app, _service: None,
    listening: Callable[[str], None] = lambda _address: None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; then answer what was taken, and end. A second Ctrl-C ends the process.

    Args:
        presets: names or TOML files, the default first.
        place: where to listen.
        limits: how much to take on at once.
        device: of every preset; None for its own.
        allowed_hosts: whose http(s) URLs are fetched.
        preload: whether to listen only once the models are loaded.
        moderator: the model of requests that ask for moderation, loaded with the others; None for
            ``opennsfw``, loaded when it is first asked for.
        languages: name the tags of every preset in these; empty for the preset's own.
        page: the path of a page that ``mount`` adds, see ``create_app``.
        mount: adds pages to the application.
        listening: is told the server's address once it can be asked.

    Raises:
        ConfigError: a preset or option is wrong, or the port is taken.
        ModelError: a model is not available or does not load.
    """
    hosts = frozenset(public_host(host) for host in allowed_hosts)
    pipelines = {
        name: load(preset, device=device, language=languages or None)
        for name, preset in _named(presets).items()
    }
    service = Service(Pipelines(pipelines, moderator=moderator), limits, hosts)
    if preload:
        service.pipelines.load()
    log_to_stderr()
    failures: list[BaseException] = []

    def give_up(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    app = create_app(service, tokens=place.tokens, host=place.host, preload=False, give_up=give_up, page=page)
    mount(app, service)
    config = server_config(
        app,
        host=place.host,
        port=place.port,
        keep_alive=_KEEP_ALIVE,
        seconds_for_head=limits.timeout,
        seconds_to_end=int(limits.timeout) + 1,
    )
    server = _Server(config)
    with socket_at(place.host, place.port) as listener:
        listening(address_of(listener, place.host))
        with signals_for_the_server(), few_complaints():
            server.run(sockets=[listener])
    if failures:
        raise failures[0]


class _Server(uvicorn.Server):
    """uvicorn's server, which a second Ctrl-C ends at once."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End after the requests in hand, or now: Python itself would abort beside threads in a model."""
        super().handle_exit(sig, frame)
        if self.force_exit:
            os._exit(_INTERRUPTED)


def _named(presets: Sequence[str]) -> dict[str, str]:
    """Return name -> preset, in their order.

    Raises:
        ConfigError: two have one name.
    """
    named: dict[str, str] = {}
    for preset in presets:
        name = Path(preset).stem
        if name in named:
            raise ConfigError(
                f"the presets {named[name]!r} and {preset!r} would both be served as {name!r}; rename a file."
            )
        named[name] = preset
    return named
