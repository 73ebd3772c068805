from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from autotag.errors import ImageReadError, RequestRefusedError
from autotag.server.core.url_images import UrlImages

URL = "https://images.example/a.png"


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """What a fetch waits for."""
    gate = threading.Event()

    def fetch(_url: str, **_: Any) -> bytes:
        assert gate.wait(20)
        return b"image"

    monkeypatch.setattr("autotag.server.core.url_images.fetch", fetch)
    yield gate
    gate.set()


def later() -> float:
    return time.monotonic() + 60


def refused(url: str, until: float) -> RequestRefusedError:
    with pytest.raises(RequestRefusedError) as refusal:
        asyncio.run(UrlImages({"images.example"}, 9).fetched(url, until))
    return refusal.value


def test_a_fetch_ends_with_the_time_of_its_request(gate: threading.Event) -> None:
    assert refused(URL, time.monotonic() + 0.01).kind == "timed_out"
    assert refused(URL, time.monotonic() - 1).kind == "timed_out"


def test_a_fetch_is_told_how_long_it_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(url: str, *, timeout: float, max_redirects: int) -> bytes:
        assert 59 < timeout <= 61
        assert max_redirects == 0
        raise ImageReadError(url, "it has no bytes")

    monkeypatch.setattr("autotag.server.core.url_images.fetch", fetch)
    assert (refused(URL, later()).kind, "no bytes" in refused(URL, later()).message) == ("not_an_image", True)


def test_a_slow_host_does_not_hold_up_another(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    def fetch(url: str, **_: Any) -> bytes:
        assert "slow" not in url or gate.wait(20)
        return b"image"

    monkeypatch.setattr("autotag.server.core.url_images.fetch", fetch)

    async def test() -> None:
        urls = UrlImages({"slow.example", "images.example"}, 40)
        slow = [asyncio.create_task(urls.fetched("https://slow.example/", later())) for _ in range(40)]
        await asyncio.sleep(0)
        try:
            assert await urls.fetched(URL, time.monotonic() + 10) == b"image"
        finally:
            gate.set()
        assert await asyncio.gather(*slow) == [b"image"] * 40

    asyncio.run(test())


def test_a_fetch_whose_caller_left_counts_until_its_thread_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, entered = threading.Event(), threading.Event()

    def fetch(_url: str, **_: Any) -> bytes:
        entered.set()
        assert gate.wait(20)
        return b"image"

    monkeypatch.setattr("autotag.server.core.url_images.fetch", fetch)

    async def test() -> None:
        urls = UrlImages({"images.example"}, 1)
        left = asyncio.create_task(urls.fetched(URL, later()))
        assert await asyncio.to_thread(entered.wait, 10)
        left.cancel()
        await asyncio.wait({left})
        with pytest.raises(RequestRefusedError, match="too many URLs of this host"):
            await urls.fetched(URL, later())
        gate.set()
        async with asyncio.timeout(10):
            while True:
                try:
                    assert await urls.fetched(URL, later()) == b"image"
                    break
                except RequestRefusedError:
                    await asyncio.sleep(0.005)

    asyncio.run(test())


def test_fetches_that_wait_are_bounded(gate: threading.Event) -> None:
    async def test() -> None:
        urls = UrlImages({"images.example"}, 2)
        asked = [asyncio.create_task(urls.fetched(URL, later())) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(RequestRefusedError) as refusal:
            await urls.fetched(URL, later())
        assert (refusal.value.kind, refusal.value.retry_after) == ("overloaded", 1)
        gate.set()
        assert await asyncio.gather(*asked) == [b"image"] * 2
        assert await urls.fetched("https://IMAGES.example./b.png", later()) == b"image"

    asyncio.run(test())


@pytest.mark.parametrize("url", ["https://images.example.evil.example/", "http://127.0.0.1/", "http://a b/"])
def test_urls_of_other_hosts_are_refused(url: str) -> None:
    assert refused(url, later()).kind == "bad_request"
