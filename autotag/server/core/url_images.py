"""Fetch the images of requests that name URLs, in threads that nothing else waits for."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from autotag.errors import ImageReadError, RequestRefusedError
from autotag.web.http_exchange import HttpUrl, RefusedError
from autotag.web.public_urls import fetch

if TYPE_CHECKING:
    from collections.abc import Collection

_AT_ONCE = 16
_LEEWAY = 1.0  # seconds, so that a request is out of time before the fetch in its thread is


class UrlImages:
    """Fetch images from URLs of allowed hosts; call it from one event loop.

    Args:
        hosts: as ``public_host`` writes them.
        most: fetches at once, those that wait for a thread included.
    """

    def __init__(self, hosts: Collection[str], most: int) -> None:
        self.hosts = hosts
        self._most = most
        self._asked = 0
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="autotag-fetch")

    async def fetched(self, url: str, until: float) -> bytes:
        """Return the bytes at a URL.

        Args:
            url: http(s).
            until: when the request is out of time, on the clock of ``time.monotonic``.

        Raises:
            RequestRefusedError: the host is not allowed, there is no image, time is up, or too many are
                being fetched.
        """
        self._check_host(url)
        if self._asked >= self._most:
            raise RequestRefusedError("overloaded", "too many URLs are being fetched already.", 1)
        self._asked += 1
        try:
            async with asyncio.timeout(until - time.monotonic()):
                return await asyncio.get_running_loop().run_in_executor(self._threads, _fetched, url, until)
        except TimeoutError as error:
            raise RequestRefusedError("timed_out", "the image at the URL did not arrive in time.") from error
        except ImageReadError as error:
            raise RequestRefusedError("not_an_image", str(error)) from error
        finally:
            self._asked -= 1

    def close(self) -> None:
        """Begin no more fetches."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _check_host(self, url: str) -> None:
        try:
            host = HttpUrl.of(url).host
        except RefusedError as error:
            raise RequestRefusedError("bad_request", f"{str(error)[:200]}.") from error
        if host not in self.hosts:
            raise RequestRefusedError(
                "bad_request",
                f"URLs of {host[:80]!r} are not fetched; send a data URL, or start with --allow-host.",
            )


def _fetched(url: str, until: float) -> bytes:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return fetch(url, timeout=left + _LEEWAY, max_redirects=0)
