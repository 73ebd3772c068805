"""Servers on loopback, for every test of the server."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autotag.pipeline.pipeline import Pipeline
from autotag.server.core.limits import Limits
from autotag.server.core.service import Service
from autotag.server.core.wishes import Pipelines

sys.path.insert(0, str(Path(__file__).parent))  # for the module beside this one; tests are no package

from numbered_server import Numbers, Serve, Server


@pytest.fixture
def numbers() -> Numbers:
    return Numbers()


@pytest.fixture
def serve(numbers: Numbers) -> Iterator[Serve]:
    """Serves the numbers; ends what a test leaves running."""
    servers: list[Server] = []
    pipelines: list[Pipeline] = []

    def started(limits: Limits | None = None, **options: Any) -> Server:
        pipeline = numbers.pipeline()
        service = Service(Pipelines({"numbers": pipeline}), limits or Limits(cached_results=0))
        server = Server(service, **options)
        server.__enter__()
        servers.append(server)
        pipelines.append(pipeline)
        return server

    logging.getLogger("autotag.server").setLevel(logging.INFO)
    yield started
    numbers.gate.set()
    for server in servers:
        server.__exit__()
    for pipeline in pipelines:
        pipeline.close()
