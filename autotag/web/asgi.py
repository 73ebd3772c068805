"""Change what an ASGI application gets of a request: a body that was read already, the plain path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]


def take_path(scope: MutableMapping[str, Any]) -> None:
    """Reduce the target of a request line that is a whole URL, which may hold a password, to its path."""
    for name, scheme_end, slash in (("path", "://", "/"), ("raw_path", b"://", b"/")):
        target = scope.get(name)
        if target and not target.startswith(slash):
            scope[name] = slash + target.partition(scheme_end)[2].partition(slash)[2]


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives the body in one message, then what comes after it."""
    given = False

    async def replaying() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replaying
