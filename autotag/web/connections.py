"""Bound the connections of a server: how many there are, and how long each may send nothing of use.

uvicorn itself waits for ever for the head of a request, and asyncio accepts connections until no descriptor
is left for files, and then writes a traceback for each further one.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

_SECONDS_BETWEEN_COMPLAINTS = 60.0
_ASSUMED_DESCRIPTORS = 2048  # where the system does not say


def most_connections() -> int:
    """Return how many connections a server of this process may have: half of its descriptors."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return _ASSUMED_DESCRIPTORS // 2
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (_ASSUMED_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft) // 2


def bounded_connections(*, seconds: float, most: int) -> type[H11Protocol]:
    """Return uvicorn's protocol of a connection, with these bounds.

    Args:
        seconds: a connection is closed when the head of a request (its first line and headers) is not there
            within these, from its beginning or from the first byte after an answer.
        most: connections at once; others are closed when they are accepted.
    """

    class BoundedConnection(H11Protocol):
        waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > most:
                transport.close()
            else:
                self.waiting = self.loop.call_later(seconds, self.transport.close)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._wait_for_head()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            begun, _ = self.conn.trailing_data
            if begun:  # the next request came with the last
                self._wait_for_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._wait_no_more()
            super().connection_lost(exc)

        def _wait_for_head(self) -> None:
            has_head = self.cycle is not None and not self.cycle.response_complete
            if has_head:
                self._wait_no_more()
            elif self.waiting is None:
                self.waiting = self.loop.call_later(seconds, self.transport.close)

        def _wait_no_more(self) -> None:
            if self.waiting is not None:
                self.waiting.cancel()
                self.waiting = None

    return BoundedConnection


@contextmanager
def few_complaints() -> Iterator[None]:
    """Let asyncio say once a minute that it cannot accept connections, not thousands of times a second."""
    last = -_SECONDS_BETWEEN_COMPLAINTS

    def is_news(record: logging.LogRecord) -> bool:
        nonlocal last
        if not record.getMessage().startswith("socket.accept()"):
            return True
        known = time.monotonic() - last < _SECONDS_BETWEEN_COMPLAINTS
        last = last if known else time.monotonic()
        return not known

    logger = logging.getLogger("asyncio")
    logger.addFilter(is_news)
    try:
        yield
    finally:
        logger.removeFilter(is_news)
