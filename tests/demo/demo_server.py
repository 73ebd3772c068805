"""The page on loopback."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import uvicorn

from autotag.demo.mounting import mount_page
from autotag.demo.searched_index import SearchedIndex
from autotag.demo.uploads import UploadLimits
from autotag.pipeline.pipeline import Pipeline
from autotag.server.app import create_app
from autotag.server.core.limits import Limits
from autotag.server.core.service import Service
from autotag.server.core.wishes import Pipelines

LIMITS = UploadLimits(max_images=20, max_image_bytes=2 * 2**20, max_bytes=4 * 2**20)


class Demo:
    """A server with the page, on a free port of this machine."""

    def __init__(
        self,
        pipeline: Pipeline,
        tokens: Sequence[str] = (),
        name: str = "mini",
        index: SearchedIndex | None = None,
    ) -> None:
        service = Service(Pipelines({name: pipeline}), Limits(timeout=600))  # a loaded machine is slow
        app = create_app(service, tokens=tokens, page="/demo")
        mount_page(app, service, tokens=tokens, limits=LIMITS, index=index)
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="on"))
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> Demo:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            self._thread.join(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}/demo/"
