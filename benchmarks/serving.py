"""A server under load from a client process on this machine: requests a second, latencies, overload.

    python benchmarks/serving.py [--preset mini] [--requests N] [--clients 1,8,32]

Three ways to tag the same photographs, in turns:

- stream: ``Pipeline.stream`` over the files, without HTTP; the bound.
- single: FastAPI that calls the pipeline once per request, in its thread pool; no batches.
- serve: ``autotag serve``.

Each request is another file to the server, because bytes are added behind the end of the JPEG: no answer
comes from its cache. Clients wait for an answer before they ask again (closed loop). Then a server that lets
few images wait is asked by many clients at once: how many are answered, how many get 429, and whether each
answer is the one of its own image.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

import autotag

if TYPE_CHECKING:
    from collections.abc import Iterator

PHOTOS = sorted((Path(__file__).resolve().parents[1] / "docs" / "examples").glob("*.jpg"))
JPEG = {"content-type": "image/jpeg"}
OVERLOAD_CLIENTS = 64
OVERLOAD_WAITING = 8


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--preset", default="mini")
    options.add_argument("--requests", type=int, default=200)
    options.add_argument("--clients", default="1,8,32")
    options.add_argument("--single", type=int, metavar="PORT", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.single is not None:
        serve_one_by_one(chosen.preset, chosen.single)
        return
    print(f"stream: {streamed(chosen.preset, chosen.requests):.1f} images/s")
    for way in ("single", "serve"):
        with server(way, chosen.preset) as url:
            for clients in map(int, chosen.clients.split(",")):
                asyncio.run(load(url, clients, clients * 2))
                started = time.perf_counter()
                seconds, codes, mixed = asyncio.run(load(url, clients, chosen.requests))
                rate = chosen.requests / (time.perf_counter() - started)
                p50, p95, p99 = np.percentile(seconds, [50, 95, 99]) * 1000
                print(
                    f"{way}, {clients} clients: {rate:.1f} requests/s, p50 {p50:.0f} ms, p95 {p95:.0f} ms, "
                    f"p99 {p99:.0f} ms, {dict(codes)}, {mixed} mixed up",
                    flush=True,
                )
    with server("serve", chosen.preset, "--max-waiting", str(OVERLOAD_WAITING)) as url:
        seconds, codes, mixed = asyncio.run(load(url, OVERLOAD_CLIENTS, chosen.requests))
        print(
            f"overload, {OVERLOAD_CLIENTS} clients, {OVERLOAD_WAITING} may wait: {dict(codes)}, slowest "
            f"answer {max(seconds) * 1000:.0f} ms, {mixed} mixed up"
        )


def streamed(preset: str, count: int) -> float:
    """Images a second by ``Pipeline.stream``, after a warm-up."""
    with autotag.load(preset) as pipeline:
        list(pipeline.stream(PHOTOS * 6))
        started = time.perf_counter()
        list(pipeline.stream(PHOTOS[number % len(PHOTOS)] for number in range(count)))
        return count / (time.perf_counter() - started)


async def load(url: str, clients: int, count: int) -> tuple[list[float], Counter[int], int]:
    """Seconds of the answers with 200, all status codes, and how many answers are of another photograph."""
    numbers = iter(range(count))
    seconds: list[float] = []
    codes: Counter[int] = Counter()
    captions: dict[str, set[str]] = {}

    async def ask(client: httpx.AsyncClient) -> None:
        for number in numbers:
            photo = PHOTOS[number % len(PHOTOS)]
            body = photo.read_bytes() + f"{number} {time.time_ns()}".encode()
            started = time.perf_counter()
            answer = await client.post(f"{url}/v1/tag", content=body, headers=JPEG)
            codes[answer.status_code] += 1
            if answer.status_code == httpx.codes.OK:
                seconds.append(time.perf_counter() - started)
                captions.setdefault(photo.name, set()).add(str(answer.json()["size"]))

    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(timeout=120, trust_env=False, limits=limits) as client:
        await asyncio.gather(*(ask(client) for _ in range(clients)))
    return seconds, codes, sum(len(found) - 1 for found in captions.values())


@contextmanager
def server(way: str, preset: str, *options: str) -> Iterator[str]:
    """A server in a process of its own, once it is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    program = ["-c", "from autotag.cli.main import main; main()", "serve", "--preset", preset, "--port", port]
    if way == "single":
        program = [__file__, "--preset", preset, "--single", port]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, *program, *options]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:  # noqa: S603 - our own servers
        try:
            while not is_ready(url):
                if process.poll() is not None:
                    raise SystemExit(f"the server {way} ended with {process.returncode}")
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False, timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def serve_one_by_one(preset: str, port: int) -> None:
    """What a tutorial would do: a pipeline call per request."""
    import uvicorn
    from fastapi import Body, FastAPI

    pipeline = autotag.load(preset)
    pipeline.load()
    app = FastAPI()

    @app.get("/readyz")
    def readyz() -> dict[str, str]:
        return {}

    @app.post("/v1/tag")
    def tag(image: bytes = Body(media_type="image/jpeg")) -> Any:
        return json.loads(json.dumps(pipeline(image).to_dict()))

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
