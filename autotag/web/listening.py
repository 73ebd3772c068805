"""Who may ask a server of this machine: tokens, and addresses that only this machine reaches."""

from __future__ import annotations

import ipaddress
import signal
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from autotag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import uvicorn
    from starlette.types import ASGIApp

_BACKLOG = 128
"""Connections that are accepted before any of them is counted."""

_FEWEST_TOKEN_CHARACTERS = 16


def read_tokens(path: Path) -> tuple[str, ...]:
    """Return the tokens in a file, one a line; empty lines and lines that begin with # are left out.

    Raises:
        ConfigError: it cannot be read, holds no token, or one that is too short or not plain ASCII.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise ConfigError(f"cannot read the token file {str(path)!r}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the token file {str(path)!r} holds more than plain ASCII.") from error
    tokens = tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
    if not tokens:
        raise ConfigError(f"the token file {str(path)!r} holds no token.")
    if any(len(token) < _FEWEST_TOKEN_CHARACTERS for token in tokens):
        raise ConfigError(f"{str(path)!r} holds a token of fewer than {_FEWEST_TOKEN_CHARACTERS} characters.")
    return tokens


def is_loopback(host: str) -> bool:
    """Return whether only programs on this machine can reach an address or name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def socket_at(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address and port; port 0 takes any that is free.

    Raises:
        ConfigError: the port is taken, or this machine has no such address.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        why = str(error.strerror).partition(" (while")[0]  # create_server adds the address
        other = "--host" if isinstance(error, socket.gaierror) else "--port"
        reason = f"cannot listen at {host}, port {port} ({why}); choose another {other}."
        raise ConfigError(reason) from error
    # Accepted sockets inherit it; asyncio sets it only on those whose protocol number is known.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def server_config(
    app: ASGIApp,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    keep_alive: int = 5,
    seconds_for_head: float = 60.0,
    seconds_to_end: int = 0,
) -> uvicorn.Config:
    """Return how uvicorn serves an application: quietly, and with bounded headers and connections.

    uvicorn's ``http="auto"`` takes httptools where it is installed, which keeps headers of any size.

    Args:
        app: the application.
        host: the address that it says it has.
        port: the port that it says it has.
        keep_alive: seconds that an idle connection is kept.
        seconds_for_head: within which the first line and the headers of a request have to arrive, or the
            connection is closed.
        seconds_to_end: how long requests may take after the server was told to end; 0 for as long as they do.
    """
    import uvicorn

    from autotag.web.connections import bounded_connections, most_connections

    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=bounded_connections(seconds=seconds_for_head, most=most_connections()),
        ws="none",
        backlog=_BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=keep_alive,
        timeout_graceful_shutdown=seconds_to_end or None,
    )


def address_of(listener: socket.socket, host: str) -> str:
    """Return the http address of a listening socket under the host's name."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"


@contextmanager
def signals_for_the_server() -> Iterator[None]:
    """Let SIGINT and SIGTERM end the server only: uvicorn raises them again at its end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: None) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
