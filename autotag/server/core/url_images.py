"""Fetch the images of requests that name URLs, in threads that nothing else waits for."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Semaphore
from typing import TYPE_CHECKING

from autotag.errors import ImageReadError, RequestRefusedError
from autotag.web.http_exchange import HttpUrl, RefusedError
from autotag.web.public_urls import fetch

if TYPE_CHECKING:
    from collections.abc import Collection

_AT_ONCE = 8  # from one host
_LEEWAY = 1.0  # seconds, so that a request is out of time before the fetch in its thread is


class UrlImages:
    """Fetch images from URLs of allowed hosts; call it from one event loop.

    Each host has threads of its own, so that a slow one does not hold up the others.

    Args:
        hosts: as ``public_host`` writes them.
        most: fetches from each host at once, including fetches that wait for a thread.
    """

    def __init__(self, hosts: Collection[str], most: int) -> None:
        self._hosts = {host: _Host(most) for host in hosts}

    async def fetched(self, url: str, until: float) -> bytes:
        """Return the bytes at a URL.

        Args:
            url: http(s).
            until: when the request is out of time, on the clock of ``time.monotonic``.

        Raises:
            RequestRefusedError: the host is not allowed, there is no image, time is up, or too many are
                being fetched from the host.
        """
        fetching = self._host_of(url).fetching(url, until)
        try:
            async with asyncio.timeout(until - time.monotonic()):
                return await asyncio.wrap_future(fetching)
        except TimeoutError as error:
            raise RequestRefusedError("timed_out", "the image at the URL did not arrive in time.") from error
        except ImageReadError as error:
            raise RequestRefusedError("not_an_image", str(error)) from error

    def close(self) -> None:
        """Begin no more fetches."""
        for host in self._hosts.values():
            host.threads.shutdown(wait=False, cancel_futures=True)

    def _host_of(self, url: str) -> _Host:
        try:
            host = HttpUrl.of(url).host
        except RefusedError as error:
            raise RequestRefusedError("bad_request", f"{str(error)[:200]}.") from error
        if host not in self._hosts:
            raise RequestRefusedError(
                "bad_request",
                f"URLs of {host[:80]!r} are not fetched; send a data URL, or start with --allow-host.",
            )
        return self._hosts[host]


class _Host:
    """The threads that fetch from one host, and how many more fetches they may be asked for."""

    def __init__(self, most: int) -> None:
        self.threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="autotag-fetch")
        self._left = Semaphore(most)

    def fetching(self, url: str, until: float) -> Future[bytes]:
        """Begin a fetch; it counts until its thread is free, also after its caller left.

        Raises:
            RequestRefusedError: too many are being fetched.
        """
        if not self._left.acquire(blocking=False):
            raise RequestRefusedError(
                "overloaded", "too many URLs of this host are being fetched already; try again in 1 s.", 1
            )
        fetching = self.threads.submit(_fetched, url, until)
        fetching.add_done_callback(lambda _done: self._left.release())
        return fetching


def _fetched(url: str, until: float) -> bytes:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return fetch(url, timeout=left + _LEEWAY, max_redirects=0)
