"""Collect the images of many callers into batches.

The largest batch at once, without waiting for more: while the models are at work the next images gather.
One batch has its images looked at while the texts of the batch before it are worked on. Images whose
callers gave up are dropped before the models see them.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from threading import Condition, Lock, Thread
from typing import TYPE_CHECKING, Any

from autotag.errors import AutotagError, RequestRefusedError, StageError
from autotag.server.core.wishes import Wish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from autotag.images.reading import ImageInput, ReadImage
    from autotag.pipeline.pipeline import Pipeline
    from autotag.pipeline.stats import StreamStats
    from autotag.records import Result
    from autotag.server.core.limits import Limits
    from autotag.server.core.wishes import Pipelines

_WORKERS = 2  # one looks at images, one works on texts
_LONGEST_RETRY = 60
_SECONDS_MEASURED = 30.0


@dataclass(frozen=True, slots=True)
class BatchDone:
    """The facts about a finished batch.

    Attributes:
        size: its images.
        failed: how many of them a stage failed on.
        queue_seconds: how long each waited.
        stage_seconds: by stage.
    """

    size: int
    failed: int
    queue_seconds: tuple[float, ...]
    stage_seconds: dict[str, float]


@dataclass(slots=True)
class _Job:
    read: ReadImage
    queued: float
    future: Future[Result] = field(default_factory=Future)


@dataclass(slots=True)
class _Ticket:
    """The share of the limits that one image, or the texts of one call, use.

    Attributes:
        count: images or texts.
        encoded: bytes as they arrived.
        decoded: bytes that decoding takes, then those of the pixels that stay.
        is_open: whether somebody still waits for the result; only then the share is counted.
        working: what is cancelled when nobody does.
    """

    count: int
    encoded: int
    decoded: int = 0
    is_open: bool = True
    working: Future[Any] | None = None


@dataclass(slots=True)
class _Group:
    """The waiting images of one pipeline."""

    pipeline: Pipeline
    jobs: deque[_Job] = field(default_factory=deque)


class Batcher:
    """Tag images for many callers at once; call it from one event loop.

    Args:
        pipelines: what to ask.
        limits: how much to take on.
        tell: called after each batch, in a thread of its own.
    """

    def __init__(
        self, pipelines: Pipelines, limits: Limits, *, tell: Callable[[BatchDone], None] = lambda _batch: None
    ) -> None:
        self.pipelines = pipelines
        self.limits = limits
        self.draining = False
        self._tell = tell
        self._groups: dict[Wish, _Group] = {}
        self._wake = Condition()
        self._looking = Lock()
        self._closed = False
        self._counting = Condition()
        self._first_in_line = Lock()
        self._waiting = 0
        self._bytes = 0
        self._decoded_bytes = 0
        self._done: deque[tuple[float, int]] = deque()
        self._cache: OrderedDict[tuple[bytes, Wish], Result] = OrderedDict()
        self._readers = ThreadPoolExecutor(limits.decode_threads, thread_name_prefix="autotag-decode")
        self._embedder = ThreadPoolExecutor(1, thread_name_prefix="autotag-embed")
        self._workers = [
            Thread(target=self._work, name=f"autotag-batch-{number}", daemon=True)
            for number in range(_WORKERS)
        ]
        for worker in self._workers:
            worker.start()

    @property
    def waiting(self) -> int:
        """Return the number of images and texts that are being read, wait, or are in the models."""
        return self._waiting

    @property
    def waiting_bytes(self) -> int:
        """Return the bytes of these, encoded and decoded."""
        return self._bytes

    async def tag(
        self,
        image: ImageInput,
        wish: Wish | None = None,
        *,
        source: str | None = None,
        timeout: float | None = None,
    ) -> Result:
        """Return the result for one image.

        Cancelling the call takes the image out of the queue.

        Args:
            image: what ``pipeline(image)`` takes.
            wish: what is wanted of it.
            source: what its result calls it; by default its path, else the kind of object it is.
            timeout: seconds; None for the limit's own.

        Raises:
            RequestRefusedError: too much is waiting, it is draining, time is up, or the wish is wrong.
            ImageReadError: the image cannot be read.
            StageError: a stage failed on it.
        """
        wish = wish or Wish()
        self._check_open()
        known = self._known(image, wish, source)
        if known is not None:
            return known
        [ticket] = self._admit([(1, _size(image))])
        return await self._tagged(image, wish, source, ticket, timeout)

    async def tag_batch(
        self, images: Sequence[bytes], wish: Wish, *, sources: Sequence[str], timeout: float | None = None
    ) -> list[Result | AutotagError]:
        """Return the result, or the error, of each image; all of them are admitted, or none.

        Cancelling the call takes the images out of the queue.

        Args:
            images: the contents of image files.
            wish: what is wanted of each.
            sources: what the results call them.
            timeout: seconds; None for the limit's own.

        Raises:
            RequestRefusedError: too much is waiting for all of them together, or it is draining.
        """
        self._check_open()
        known = [self._known(image, wish, source) for image, source in zip(images, sources, strict=True)]
        left = [place for place, result in enumerate(known) if result is None]
        tickets = self._admit([(1, len(images[place])) for place in left])
        work = (
            self._tagged(images[place], wish, sources[place], ticket, timeout)
            for place, ticket in zip(left, tickets, strict=True)
        )
        try:
            found = iter(await asyncio.gather(*work, return_exceptions=True))
        finally:
            for ticket in tickets:
                self._give_back(ticket)
        outcomes: list[Result | AutotagError] = []
        for result in known:
            outcome = next(found) if result is None else result
            if isinstance(outcome, BaseException) and not isinstance(outcome, AutotagError):
                raise outcome
            outcomes.append(outcome)
        return outcomes

    async def embed_texts(
        self, texts: Sequence[str], wish: Wish, *, timeout: float | None = None
    ) -> list[list[float]]:
        """Return the vectors of texts by the encoder of a wish's pipeline; each text counts as an image does.

        Cancelling the call takes the texts out of the queue. One call after the other is worked on, between
        two batches of images.

        Args:
            texts: one or more.
            wish: its task is ``"embedding"``.
            timeout: seconds; None for the limit's own.

        Raises:
            RequestRefusedError: too much is waiting, it is draining, time is up, or the wish is wrong.
        """
        self._check_open()
        size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
        [ticket] = self._admit([(len(texts), size)])
        async with self._limited(ticket, timeout):
            pipeline = await self.pipelines.of(wish)

            def embedded() -> list[list[float]]:
                with pipeline.exclusive_encoder() as encoder:
                    return [[float(number) for number in row] for row in encoder.embed_texts(list(texts))]

            ticket.working = working = self._embedder.submit(embedded)
            return await asyncio.wrap_future(working)

    def retry_after(self) -> int:
        """Return the seconds until the waiting images should be done, by the rate of the last half minute."""
        with self._counting:
            now = time.monotonic()
            while self._done and now - self._done[0][0] > _SECONDS_MEASURED:
                self._done.popleft()
            images = sum(size for _, size in self._done)
            span = now - self._done[0][0] if self._done else 0.0
        if not images or span <= 0:
            return 1
        return max(1, min(_LONGEST_RETRY, math.ceil(self._waiting * span / images)))

    async def drain(self, seconds: float) -> bool:
        """Accept no more images and wait for the accepted ones; return whether they finished in time."""
        self.draining = True
        until = time.monotonic() + seconds
        while self._waiting and time.monotonic() < until:
            await asyncio.sleep(0.02)
        return not self._waiting

    def close(self) -> None:
        """End the threads after their current batches; refuse the images that still wait."""
        self.draining = self._closed = True
        with self._wake:
            left = [job for group in self._groups.values() for job in group.jobs]
            self._groups.clear()
            self._wake.notify_all()
        with self._counting:
            self._counting.notify_all()
        for job in left:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(RequestRefusedError("not_ready", "the server is shutting down.", 1))
        for threads in (self._readers, self._embedder):
            threads.shutdown(wait=True, cancel_futures=True)
        self.pipelines.close()
        for worker in self._workers:
            worker.join()

    def _known(self, image: ImageInput, wish: Wish, source: str | None) -> Result | None:
        """Return a copy of the result of the same image and wish, if it is kept."""
        key = self._key(image, wish)
        if key is None or key not in self._cache:
            return None
        self._cache.move_to_end(key)
        return replace(deepcopy(self._cache[key]), source=source or "<bytes>")

    def _key(self, image: ImageInput, wish: Wish) -> tuple[bytes, Wish] | None:
        """Return the key of a result that is kept; None for one that is not."""
        if not isinstance(image, bytes) or not self.limits.cached_results or wish.compared:
            return None
        return sha256(image).digest(), wish

    async def _tagged(
        self, image: ImageInput, wish: Wish, source: str | None, ticket: _Ticket, timeout: float | None
    ) -> Result:
        """Return the result for an admitted image, and keep a copy of it: results can be changed."""
        async with self._limited(ticket, timeout):
            result = await self._answer(image, wish, source, ticket)
        key = self._key(image, wish)
        if key is not None:
            self._cache[key] = deepcopy(result)
            while len(self._cache) > self.limits.cached_results:
                self._cache.popitem(last=False)
        return result

    async def _answer(self, image: ImageInput, wish: Wish, source: str | None, ticket: _Ticket) -> Result:
        pipeline = await self.pipelines.of(wish)

        def read() -> ReadImage:
            return pipeline.read(image, source=source, reserve=partial(self._count_decoded, ticket))

        reading = self._readers.submit(read)
        ticket.working = reading
        found = await asyncio.wrap_future(reading)
        job = _Job(found, time.monotonic())
        with self._wake:
            if self._closed:
                raise RequestRefusedError("not_ready", "the server is shutting down.", 1)
            self._groups.setdefault(wish, _Group(pipeline)).jobs.append(job)
            self._wake.notify()
        return await asyncio.wrap_future(job.future)

    def _check_open(self) -> None:
        if self.draining or self._closed:
            raise RequestRefusedError("not_ready", "the server is shutting down; try another one.", 1)

    @asynccontextmanager
    async def _limited(self, ticket: _Ticket, timeout: float | None) -> AsyncIterator[None]:
        """Hold a ticket inside the block, which has a deadline."""
        seconds = self.limits.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise RequestRefusedError("timed_out", f"there was no answer within {seconds:.3g} s.") from error
        finally:
            self._give_back(ticket)

    def _admit(self, shares: Sequence[tuple[int, int]]) -> list[_Ticket]:
        """Count images or texts, and their bytes, as waiting: all shares, or none.

        Raises:
            RequestRefusedError: they are too many.
        """
        count, size = sum(count for count, _ in shares), sum(size for _, size in shares)
        with self._counting:
            full = self._waiting > 0 and self._waiting + count > self.limits.max_waiting
            heavy = self._waiting > 0 and self._bytes + size > self.limits.max_waiting_bytes
            if not full and not heavy:
                self._waiting += count
                self._bytes += size
                return [_Ticket(count, size) for count, size in shares]
        seconds = self.retry_after()
        raise RequestRefusedError(
            "overloaded",
            f"{self._waiting} images or texts are waiting already; try again in {seconds} s.",
            seconds,
        )

    def _count_decoded(self, ticket: _Ticket, size: int) -> None:
        """Count the decoded bytes of an image: before it is decoded, and again when only its pixels stay.

        Before it is decoded it waits in its reader thread until it fits or no other image has decoded bytes.
        Only the first in line looks for room, or small images would overtake a large one for ever.

        Raises:
            RequestRefusedError: nobody waits for this image any more, or the server shuts down.
        """
        if ticket.decoded:
            with self._counting:
                self._hold(ticket, size)
            return
        with self._first_in_line, self._counting:
            self._counting.wait_for(
                lambda: (
                    self._closed
                    or not ticket.is_open
                    or not self._decoded_bytes
                    or self._bytes + size <= self.limits.max_waiting_bytes
                )
            )
            self._hold(ticket, size)

    def _hold(self, ticket: _Ticket, decoded: int) -> None:
        if not ticket.is_open:
            raise RequestRefusedError("timed_out", "nobody waits for this image any more.")
        if self._closed:
            raise RequestRefusedError("not_ready", "the server is shutting down.", 1)
        self._bytes += decoded - ticket.decoded
        self._decoded_bytes += decoded - ticket.decoded
        ticket.decoded = decoded
        self._counting.notify_all()

    def _give_back(self, ticket: _Ticket) -> None:
        """Count the images or texts of a ticket, and their bytes, as gone; once."""
        with self._counting:
            if not ticket.is_open:
                return
            ticket.is_open = False
            self._waiting -= ticket.count
            self._bytes -= ticket.encoded + ticket.decoded
            self._decoded_bytes -= ticket.decoded
            self._counting.notify_all()
        if ticket.working is not None:
            ticket.working.cancel()

    def _work(self) -> None:
        while True:
            with ExitStack() as looking:
                looking.enter_context(self._looking)
                taken = self._take()
                if taken is None:
                    return
                pipeline, jobs = taken
                self._run(pipeline, jobs, looking.close)

    def _take(self) -> tuple[Pipeline, list[_Job]] | None:
        """Wait for work; give the group whose first image waits longest, or None after ``close``."""
        with self._wake:
            while True:
                for wish in [wish for wish, group in self._groups.items() if not group.jobs]:
                    del self._groups[wish]
                if self._groups:
                    group = min(self._groups.values(), key=lambda group: group.jobs[0].queued)
                    jobs = self._next_of(group)
                    if jobs:
                        return group.pipeline, jobs
                elif self._closed:
                    return None
                else:
                    self._wake.wait()

    def _next_of(self, group: _Group) -> list[_Job]:
        jobs: list[_Job] = []
        while group.jobs and len(jobs) < group.pipeline.images_per_batch:
            job = group.jobs.popleft()
            if job.future.set_running_or_notify_cancel():  # else its caller gave up
                jobs.append(job)
        return jobs

    def _run(self, pipeline: Pipeline, jobs: list[_Job], looked: Callable[[], None]) -> None:
        started = time.monotonic()
        stats: list[StreamStats] = []
        try:
            outcomes = pipeline.tag_batch([job.read for job in jobs], looked=looked, tell=stats.append)
        except Exception as error:  # noqa: BLE001 - every caller is told, and the thread lives on
            for job in jobs:
                job.future.set_exception(error)
            return
        with self._counting:
            self._done.append((started, len(jobs)))
        failed = 0
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, StageError):
                failed += 1
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)
        seconds = {stage.name: stage.seconds for one in stats for stage in one.stages if stage.items}
        waited = tuple(started - job.queued for job in jobs)
        self._tell(BatchDone(len(jobs), failed, waited, seconds))


def _size(image: ImageInput) -> int:
    return len(image) if isinstance(image, bytes) else 0
