"""Recognise requests that a browser sends to a server of this machine on behalf of a stranger's page.

A browser sends requests for every page that is open in it. The browser itself keeps a page from reading the
answers of another server, unless the page's own name was pointed at this machine (DNS rebinding): then both
are one server to the browser. So a server that asks for no token answers only under names of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def names_of(host: str) -> frozenset[str]:
    """Return the names under which programs of this machine ask a server, as the Host header has them.

    Args:
        host: the address or name that the server listens on.
    """
    return _LOOPBACK | {f"[{host}]" if ":" in host else host.lower()}


def asks_by_name(headers: Mapping[str, str], names: Collection[str]) -> bool:
    """Return whether a request's Host header is one of the names, with any port."""
    host = headers.get("host", "").lower()
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return name in names


def is_of_another_page(headers: Mapping[str, str], *, linked: bool) -> bool:
    """Return whether a browser says that a page of another server sent the request.

    Args:
        headers: of the request.
        linked: whether other pages may link to what is asked for; they may still not send data there.
    """
    origin = headers.get("origin")
    if origin is not None and not _is_of(origin.lower(), headers.get("host", "").lower()):
        return True
    return headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not linked


def _is_of(origin: str, host: str) -> bool:
    """Return whether an Origin header names the server of a Host header, whose default port both may omit."""
    scheme, _, name = origin.partition("://")
    port = _DEFAULT_PORTS.get(scheme)
    return port is not None and name.removesuffix(port) == host.removesuffix(port)
