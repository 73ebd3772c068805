"""Who may ask a server of this machine: tokens, and addresses that only this machine reaches."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

from autotag.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_FEWEST_TOKEN_CHARACTERS = 16


def read_tokens(path: Path) -> tuple[str, ...]:
    """Return the tokens in a file, one a line; empty lines and those that begin with # are left out.

    Raises:
        ConfigError: it cannot be read, holds no token, or one that is too short or not plain ASCII.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the token file {str(path)!r}: {error}.") from error
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
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = f"cannot listen at {host}, port {port} ({error}); choose another --port."
        raise ConfigError(reason) from error


def address_of(listener: socket.socket, host: str) -> str:
    """Return the http address of a listening socket under the host's name."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"
