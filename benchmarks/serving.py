"""Servers under load: requests a second, latencies, overload, memory.

    python benchmarks/serving.py [--preset mini] [--requests N] [--clients 1,8,32,128] [--litserve PYTHON]
    python benchmarks/serving.py --full-size --photographs 32 --requests 64 --clients 32 --open ""
    python benchmarks/serving.py --memory 20000 --clients 32

The ways to tag the same photographs, in turns, each in processes of its own:

- stream: ``Pipeline.stream`` over the files, without HTTP; the bound.
- single: FastAPI that calls the same pipeline once per request, in its thread pool; no batches.
- litserve: LitServe, which gathers batches of the same size, with the same pipeline in its worker. PYTHON is
  the interpreter of an environment that has litserve beside autotag.
- serve: ``autotag serve``.

The client is this process, on loopback, with connections that are kept. Closed loop: each client waits for
its answer before it asks again. Open loop: requests come at random times at a given mean rate, whether or
not earlier ones are answered; the seconds of an answer count from the time when its request was due. At the
end a server that lets few images wait gets three times as many requests as ``stream`` can tag.

Each photograph has a size that no other has, by which a mixed-up answer is known. Each request is another
file to the server, because bytes are added behind the end of the JPEG: no answer comes from its cache.
``--full-size`` has the stages of preset base with seeded random weights. Processor time is of all processes
of a server; it stands beside wall time, which other work on the machine changes. Linux only.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
from material import add_material_options, blip_folder, clip_folder, minilm, photographs
from PIL import Image
from reporting import options, report

import autotag

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable, Iterable, Iterator

SIZES = 16
"""Widths, and heights, of the numbered photographs."""
MOST_OPEN = 512
OVERLOAD = 3.0
OVERLOAD_WAITING = 64
OVERLOAD_SECONDS = 60
PATIENCE = "3600"
TICKS = os.sysconf("SC_CLK_TCK")
COLUMNS = [
    "way", "load", "requests", "requests/s", "of stream", "times single", "p50 ms", "p95 ms", "p99 ms",
    "server CPU ms", "client CPU ms", "refused", "failed", "mixed up", "same caption",
]  # fmt: skip


@dataclass
class Outcome:
    """What the requests of one way at one load came to.

    Attributes:
        seconds: of each answer with 200.
        codes: of all requests; 0 for one whose connection broke.
        mixed: answers about another photograph than the one that was sent.
        same: answers with the caption that ``stream`` found.
        wall: seconds of all rounds.
        server: processor seconds of the server.
        client: those of this process.
    """

    seconds: list[float] = field(default_factory=list)
    codes: Counter[int] = field(default_factory=Counter)
    mixed: int = 0
    same: int = 0
    wall: float = 0.0
    server: float = 0.0
    client: float = 0.0

    @property
    def rate(self) -> float:
        return self.codes[200] / self.wall


def main() -> None:
    given = parsed()
    if given.role:
        {"stream": serve_lines, "single": serve_one_by_one}[given.role](given)
        return
    if given.full_size:
        given.preset = str(full_size_preset(given))
    photos = numbered_photographs(given)
    if given.memory:
        measure_memory(given, photos)
    else:
        compare(given, photos)


def parsed() -> argparse.Namespace:
    parser = options(__doc__)
    add_material_options(parser)
    parser.add_argument("--preset", default="mini", help="name or TOML file")
    parser.add_argument("--full-size", action="store_true", help="preset base with random weights")
    parser.add_argument("--requests", type=int, default=256, help="of each way at each load")
    parser.add_argument("--rounds", type=int, default=2, help="in how many turns they are sent")
    parser.add_argument("--clients", default="1,8,32,128")
    parser.add_argument("--photographs", type=int, default=256, help="different ones, at most 256")
    parser.add_argument(
        "--open", default="0.5,0.8", metavar="SHARES", help="open loops at these shares of the rate of stream"
    )
    parser.add_argument("--no-overload", action="store_true")
    parser.add_argument("--litserve", type=Path, metavar="PYTHON", help="compare with LitServe, too")
    parser.add_argument(
        "--memory", type=int, default=0, metavar="N", help="only send N requests, watch memory"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--name", default="", help="of the file of results")
    parser.add_argument("--role", choices=["stream", "single"], help="what this process is")
    parser.add_argument("--port", type=int, default=0, help="for a role")
    return parser.parse_args()


def compare(given: argparse.Namespace, photos: list[Path]) -> None:
    loads = [int(one) for one in given.clients.split(",")]
    outcomes: dict[tuple[str, str], Outcome] = {}
    with ExitStack() as stack:
        stream = stack.enter_context(streaming(given))
        captions = stream(len(photos), collect=True)["captions"]
        ways = ["single", *(["litserve"] if given.litserve else []), "serve"]
        limits = {"serve": ("--timeout", PATIENCE)}  # so that no figure depends on the deadline
        servers = {way: stack.enter_context(server(way, given, *limits.get(way, ()))) for way in ways}
        sender = Sender(photos, captions)
        for way in ways:
            asyncio.run(sender.closed(servers[way], 8, 16))
        for clients in loads:
            most = given.requests if clients > 1 else given.requests // 4
            for turn in range(given.rounds):
                note_stream(outcomes, f"{clients} clients", stream(max(1, most // given.rounds)))
                for way in ways if turn % 2 == 0 else ways[::-1]:
                    outcome = outcomes.setdefault((way, f"{clients} clients"), Outcome())
                    work = sender.closed(servers[way], clients, max(1, most // given.rounds))
                    asyncio.run(noted(outcome, servers[way], work))
                    print(f"{way}, {clients} clients: {outcome.rate:.2f}/s", file=sys.stderr, flush=True)
        bound = max(outcome.rate for (way, _), outcome in outcomes.items() if way == "stream")
        for share in (float(one) for one in given.open.split(",") if one):
            load = f"open, {share:g} of stream"
            for way in ways:
                outcome = outcomes.setdefault((way, load), Outcome())
                work = sender.open(servers[way], share * bound, given.requests)
                asyncio.run(noted(outcome, servers[way], work))
    findings = {} if given.no_overload else overloaded(given, sender, bound, outcomes)
    findings["load of the machine at the end"] = os.getloadavg()[0]
    findings["status codes"] = {f"{way}, {load}": dict(one.codes) for (way, load), one in outcomes.items()}
    rows = [row(way, load, outcomes) for way, load in outcomes]
    name = given.name or f"serving-{'full-size' if given.full_size else Path(given.preset).stem}"
    report(name, given, COLUMNS, rows, findings=findings)


def overloaded(
    given: argparse.Namespace, sender: Sender, bound: float, outcomes: dict[tuple[str, str], Outcome]
) -> dict[str, Any]:
    """Ask ``serve`` for more than it can do; return what that comes to."""
    outcome = outcomes.setdefault(("serve", f"overload, {OVERLOAD:g} x stream"), Outcome())
    limits = ("--max-waiting", str(OVERLOAD_WAITING), "--timeout", str(OVERLOAD_SECONDS))
    with server("serve", given, *limits) as one:
        asyncio.run(sender.closed(one, 8, 16))
        asyncio.run(noted(outcome, one, sender.open(one, OVERLOAD * bound, 3 * given.requests)))
    return {
        "longest answer under overload, s": max(outcome.seconds, default=0.0),
        "deadline there, s": OVERLOAD_SECONDS,
        "images that may wait there": OVERLOAD_WAITING,
        "rate there, requests/s": OVERLOAD * bound,
    }


def row(way: str, load: str, outcomes: dict[tuple[str, str], Outcome]) -> list[Any]:
    outcome = outcomes[way, load]
    stream, single = outcomes.get(("stream", load)), outcomes.get(("single", load))
    answers = outcome.codes[200]
    cells = [way, load, outcome.codes.total(), outcome.rate]
    cells += [stream and outcome.rate / stream.rate, single and outcome.rate / single.rate]
    cells += [*np.percentile(outcome.seconds, [50, 95, 99]) * 1e3] if outcome.seconds else [None] * 3
    processor = [1e3 * seconds / max(1, answers) for seconds in (outcome.server, outcome.client)]
    if way == "stream":
        return [*cells, processor[0], None, None, None, None, None]
    failed = answers + outcome.codes[429]
    cells += [*processor, outcome.codes[429], outcome.codes.total() - failed, outcome.mixed]
    return [*cells, round(outcome.same / max(1, answers), 3)]


def note_stream(outcomes: dict[tuple[str, str], Outcome], load: str, found: dict[str, Any]) -> None:
    outcome = outcomes.setdefault(("stream", load), Outcome())
    outcome.codes[200] += found["count"]
    outcome.wall += found["seconds"]
    outcome.server += found["processor"]


def measure_memory(given: argparse.Namespace, photos: list[Path]) -> None:
    """Send many requests, and keep the server's memory after each twentieth of them."""
    clients, step = int(given.clients.split(",")[-1]), max(1, given.memory // 20)
    with streaming(given) as stream:
        sender = Sender(photos, stream(len(photos), collect=True)["captions"])
    rows, total = [], Outcome()
    with server("serve", given) as one:
        for number in range(1, 21):
            asyncio.run(noted(total, one, sender.closed(one, clients, step)))
            rows.append([number * step, one.memory_mb(), total.rate, total.mixed, total.codes[200]])
            print(rows[-1], file=sys.stderr, flush=True)
    warm = next(row for row in rows if row[0] >= given.memory / 10)
    findings = {"last over first tenth": rows[-1][1] / warm[1], "codes": dict(total.codes)}
    columns = ["requests", "resident MB", "requests/s so far", "mixed up", "answered"]
    report(given.name or "serving-memory", given, columns, rows, findings=findings)


# The client


class Sender:
    """Sends numbered photographs, and looks whether the answers are about them."""

    def __init__(self, photos: list[Path], captions: list[str]) -> None:
        self._files = [photo.read_bytes() for photo in photos]
        self._captions = captions
        self._sizes = [list(Image.open(photo).size) for photo in photos]
        self._sent = 0

    async def closed(self, server: Server, clients: int, count: int) -> Outcome:
        """Send so many requests, each client one after the other."""
        outcome, left = Outcome(), iter(range(count))

        async def ask() -> None:
            connection = Connection(server.port)
            for _ in left:
                await self._ask(connection, server, outcome, time.perf_counter())
            connection.close()

        await asyncio.gather(*(ask() for _ in range(clients)))
        return outcome

    async def open(self, server: Server, rate: float, count: int) -> Outcome:
        """Send so many requests at random times, so many a second on average."""
        outcome, idle = Outcome(), [Connection(server.port) for _ in range(MOST_OPEN)]
        free = asyncio.Semaphore(MOST_OPEN)
        chance, due = random.Random(count), time.perf_counter()  # noqa: S311 - arrivals

        async def ask(due: float) -> None:
            async with free:
                connection = idle.pop()
                await self._ask(connection, server, outcome, due)
                idle.append(connection)

        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                due += chance.expovariate(rate)
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(ask(due))
        for connection in idle:
            connection.close()
        return outcome

    async def _ask(self, connection: Connection, server: Server, outcome: Outcome, since: float) -> None:
        self._sent += 1
        number = self._sent % len(self._files)
        content = self._files[number] + f"{self._sent} {time.time_ns()}".encode()
        try:
            status, answer = await connection.post(server.path, server.kind, server.body(content))
        except (OSError, EOFError, ValueError):
            connection.close()
            outcome.codes[0] += 1
            return
        outcome.codes[status] += 1
        if status == httpx.codes.OK:
            outcome.seconds.append(time.perf_counter() - since)
            found = json.loads(answer)
            outcome.mixed += found["size"] != self._sizes[number]
            caption = found["captions"][0]["text"] if found["captions"] else ""
            outcome.same += caption == self._captions[number]


class Connection:
    """One HTTP connection, which is kept. A client library would take more of the processors."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, kind: str, body: bytes) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        answer = await reader.readexactly(int(headers["content-length"]))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return int(status.split()[1]), answer

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def noted(total: Outcome, server: Server, work: Awaitable[Outcome]) -> None:
    """Add what a piece of work comes to."""
    started, ours, theirs = time.perf_counter(), time.process_time(), server.processor_seconds()
    found = await work
    total.wall += time.perf_counter() - started
    total.client += time.process_time() - ours
    total.server += server.processor_seconds() - theirs
    total.seconds += found.seconds
    total.codes += found.codes
    total.mixed += found.mixed
    total.same += found.same


# The servers


@dataclass(frozen=True)
class Server:
    """A server at work: where it listens, and what its requests look like."""

    process: int
    port: int
    path: str
    kind: str
    body: Callable[[bytes], bytes]

    def processor_seconds(self) -> float:
        """Processor time of the process and those that it started."""
        return sum(sum(map(int, _facts(process)[11:13])) for process in _tree(self.process)) / TICKS

    def memory_mb(self) -> float:
        pages = sum(int(_facts(process)[21]) for process in _tree(self.process))
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _facts(process: int) -> list[str]:
    """The fields of ``/proc/N/stat`` behind the name: of the process's state on."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def _tree(process: int) -> Iterable[int]:
    yield process
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    threads = (path.name for path in Path(f"/proc/{process}/task").iterdir() if path.name != str(process))
    for thread in threads:
        children += Path(f"/proc/{process}/task/{thread}/children").read_text().split()
    for child in children:
        yield from _tree(int(child))


@contextmanager
def server(way: str, given: argparse.Namespace, *limits: str) -> Iterator[Server]:
    """Start a server, and wait until it is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = ["--preset", given.preset, "--device", given.device, "--port", str(port)]
    if way == "serve":
        main = "from autotag.cli.main import main; main()"
        command = [sys.executable, "-c", main, "serve", *common, *limits]
    elif way == "litserve":
        program = Path(__file__).with_name("serving_litserve.py")
        command = [str(given.litserve), str(program), given.preset, given.device, str(port)]
    else:
        command = [sys.executable, __file__, "--role", way, *common]
    ready, path = ("/health", "/predict") if way == "litserve" else ("/readyz", "/v1/tag")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # noqa: S603
        try:
            while not is_ready(f"http://127.0.0.1:{port}{ready}"):
                if process.poll() is not None:
                    raise SystemExit(f"the server {way} ended with {process.returncode}")
                time.sleep(0.2)
            if way == "litserve":
                yield Server(process.pid, port, path, "application/json", _in_json)
            else:
                yield Server(process.pid, port, path, "image/jpeg", bytes)
        finally:
            tree = list(_tree(process.pid))  # LitServe leaves its workers behind
            process.terminate()
            process.wait()
            for left in tree[1:]:
                with suppress(ProcessLookupError):
                    os.kill(left, signal.SIGTERM)


def _in_json(content: bytes) -> bytes:
    return json.dumps({"image": base64.b64encode(content).decode()}).encode()


def is_ready(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def serve_one_by_one(given: argparse.Namespace) -> None:
    """What a tutorial would do: a pipeline call per request."""
    import uvicorn
    from fastapi import Body, FastAPI

    pipeline = autotag.load(given.preset, device=given.device)
    pipeline.load()
    app = FastAPI()

    @app.get("/readyz")
    def readyz() -> dict[str, str]:
        return {}

    @app.post("/v1/tag")
    def tag(image: bytes = Body(media_type="image/jpeg")) -> Any:
        return pipeline(image).to_dict()

    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning")


# The bound


@contextmanager
def streaming(given: argparse.Namespace) -> Iterator[Callable[..., dict[str, Any]]]:
    """Start a process that streams as many photographs as it is told."""
    command = [sys.executable, __file__, "--role", "stream", "--preset", given.preset]
    command += ["--device", given.device, "--cache", str(given.cache)]
    command += ["--photographs", str(given.photographs)]
    command += ["--photos", str(given.photos)] if given.photos else []
    with subprocess.Popen(  # noqa: S603 - our own
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin
        assert process.stdout

        def stream(count: int, *, collect: bool = False) -> dict[str, Any]:
            process.stdin.write(f"{count}\n")
            process.stdin.flush()
            found: dict[str, Any] = json.loads(process.stdout.readline())
            return found if collect else {**found, "captions": []}

        try:
            yield stream
        finally:
            process.stdin.close()


def serve_lines(given: argparse.Namespace) -> None:
    photos = numbered_photographs(given)
    with autotag.load(given.preset, device=given.device) as pipeline:
        for line in sys.stdin:
            count = int(line)
            started, processor = time.perf_counter(), time.process_time()
            results = list(pipeline.stream(photos[number % len(photos)] for number in range(count)))
            found = {
                "count": count,
                "seconds": time.perf_counter() - started,
                "processor": time.process_time() - processor,
                "captions": [result.caption for result in results],
            }
            print(json.dumps(found), flush=True)


# The material


def numbered_photographs(given: argparse.Namespace) -> list[Path]:
    """Photographs of 500 x 375 pixels or a little less, no two of one size."""
    paths = []
    for number, path in enumerate(photographs(given, min(given.photographs, SIZES**2), own_first=False)):
        target = path.with_name(f"numbered-{number:03}.jpg")
        if not target.exists():
            with Image.open(path) as image:
                box = (0, 0, image.width - number % SIZES, image.height - number // SIZES)
                image.crop(box).save(target, quality=90)
        paths.append(target)
    return paths


def full_size_preset(given: argparse.Namespace) -> Path:
    """The stages of preset base, with random weights of full size, as a file."""
    path = given.cache / "full-size.toml"
    path.write_text(
        f"""encoder = {json.dumps(str(clip_folder(given.cache, large=False)))}
[[stages]]
stage = "caption_images"
model = {json.dumps(str(blip_folder(given.cache, large=False)))}
max_new_tokens = 12
[[stages]]
stage = "extract_keyphrases"
model = {json.dumps(minilm())}
[[stages]]
stage = "filter_tags"
score = "cosine"
threshold = -1.0
[[stages]]
stage = "assemble_prompt"
"""
    )
    return path


if __name__ == "__main__":
    main()
