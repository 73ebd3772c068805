"""Pipelines whose results tell which image they are of, and servers on loopback."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from PIL import Image

from autotag.pipeline.pipeline import Pipeline
from autotag.records import Caption, Sample, Tag
from autotag.server.app import create_app
from autotag.server.core.service import Service
from autotag.web.listening import server_config


def numbered_png(number: int) -> bytes:
    """A picture whose pixels say its number, from 0 to 65535."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number // 256, number % 256, 7)).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class Numbers:
    """A stage that says the number of each image, in a caption and a tag; it waits while the gate is shut."""

    gate: threading.Event = field(default_factory=threading.Event)
    batches: list[list[int]] = field(default_factory=list)
    poison: frozenset[int] = frozenset()
    entered: threading.Event = field(default_factory=threading.Event)
    name: str = "numbers"
    requires: frozenset[str] = frozenset()
    provides: frozenset[str] = frozenset({"captions", "tags"})

    def __post_init__(self) -> None:
        self.gate.set()

    def __call__(self, samples: Sequence[Sample], /) -> None:
        self.entered.set()
        assert self.gate.wait(20)
        pixels: list[Any] = [sample.image.getpixel((0, 0)) for sample in samples]
        found = [red * 256 + green for red, green, _ in pixels]
        self.batches.append(found)
        if self.poison & set(found):
            raise RuntimeError("poison")
        for sample, number in zip(samples, found, strict=True):
            sample.captions = [Caption(f"number {number}", "numbers")]
            sample.tags = [Tag.proposed(str(number), 0.5, "numbers")]

    def pipeline(self) -> Pipeline:
        return Pipeline([self], encoder=None, batch_size=4, deterministic=True)


class Server:
    """An application under uvicorn on a free port of this machine."""

    def __init__(self, service: Service, **options: Any) -> None:
        self._server = uvicorn.Server(server_config(create_app(service, **options)))
        self._thread = threading.Thread(target=self._server.run)
        self.service = service

    def __enter__(self) -> Server:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            self._thread.join(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def end(self) -> None:
        """What SIGTERM does."""
        self._server.should_exit = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        return int(self._server.servers[0].sockets[0].getsockname()[1])

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False, **options)


Serve = Callable[..., Server]
