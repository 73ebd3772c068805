"""Streams through the engine: reading, models and texts run in parallel on a limited number of images."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from autotag.errors import ForkedProcessError, ImageReadError, StageError
from autotag.images.decode_memory import KEPT_BYTES
from autotag.images.reading import ReadImage
from autotag.images.snapshots import Snapshot, snapshots
from autotag.pipeline.reading_ahead import BYTES_AHEAD, ReadAhead
from autotag.pipeline.stats import CONSUMER, READ

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from autotag.images.reading import ImageInput
    from autotag.pipeline.engine import Engine, Run
    from autotag.records import Result, Sample

BATCH_BYTES = BYTES_AHEAD // 4
"""Bytes of pixels at which a batch is full; at most three batches exist at once."""

_IN_FLIGHT = 2  # most batches in flight if the head has its own thread

Outcome = tuple[tuple[int, int], "Result | ImageReadError | StageError"]
"""The size of an image in pixels, and its result or error."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The reading options of a stream.

    Attributes:
        read: see ``ReadAhead``.
        workers: number of reading threads.
        ahead: most images read beyond the current batches.
        ordered: True for results in the order of the images, False for results as soon as they are ready.
        overlapping: run the models in a thread of their own, beside the work on texts.
    """

    read: Callable[[ImageInput | ReadImage | Snapshot, Callable[[int], None]], ReadImage]
    workers: int
    ahead: int
    ordered: bool
    overlapping: bool


@dataclass(slots=True)
class _Batch:
    """Images that go through the stages together, and the read errors between them."""

    reads: list[ReadImage | ImageReadError] = field(default_factory=list)
    size: int = 0
    head: Future[list[Sample]] | None = None

    @property
    def images(self) -> list[ReadImage]:
        return [read for read in self.reads if isinstance(read, ReadImage)]

    def add(self, read: ReadImage | ImageReadError) -> None:
        self.reads.append(read)
        if isinstance(read, ReadImage):
            self.size += read.image.width * read.image.height * KEPT_BYTES


def stream(
    engine: Engine, inputs: Iterable[ImageInput | ReadImage], run: Run, reading: Reading
) -> Iterator[Outcome]:
    """Yield each image's outcome; raise an error of ``inputs`` after them.

    All threads end with the stream, however it ends.

    Raises:
        ForkedProcessError: the stream is continued in a fork of the process, which does not have its threads.
    """
    process = os.getpid()
    run.meter.start()
    reads = ReadAhead(
        snapshots(inputs),
        reading.read,
        workers=reading.workers,
        ahead=reading.ahead,
        ordered=reading.ordered,
        weigh=lambda image: image.size if isinstance(image, Snapshot) else 0,
    )
    try:
        with _head_thread(overlapping=reading.overlapping) as head_thread:
            try:
                yield from _Stream(engine, reads, run, head_thread, ordered=reading.ordered)
            finally:
                run.stopped.set()
    finally:
        if os.getpid() == process:
            reads.close()
            run.meter.end()
    if reads.error is not None:
        raise reads.error


@contextmanager
def _head_thread(*, overlapping: bool) -> Iterator[ThreadPoolExecutor | None]:
    """Start one thread for the models that look at images, if other work can run beside it."""
    if not overlapping:
        yield None
        return
    executor = ThreadPoolExecutor(1, thread_name_prefix="autotag-models")
    process = os.getpid()
    try:
        yield executor
    finally:
        own = threading.current_thread().name.startswith("autotag-models")  # run by the garbage collector
        if os.getpid() == process:
            executor.shutdown(wait=not own, cancel_futures=True)


class _Stream:
    """Hold the state of one stream."""

    def __init__(
        self,
        engine: Engine,
        reads: ReadAhead[ImageInput | ReadImage | Snapshot, ReadImage],
        run: Run,
        head_thread: ThreadPoolExecutor | None,
        *,
        ordered: bool,
    ) -> None:
        self._engine = engine
        self._reads = reads
        self._run = run
        self._head_thread = head_thread
        self._ordered = ordered
        self._process = os.getpid()
        self._collecting = _Batch()
        self._in_flight: deque[_Batch] = deque()
        self._first_of_head, self._first_of_tail = engine.first_steps()

    def __iter__(self) -> Iterator[Outcome]:
        while True:
            batch = self._next_batch() if len(self._in_flight) < _IN_FLIGHT else None
            if batch is not None and self._head_thread is not None:
                self._send(batch, self._head_thread)
            elif batch is not None:
                yield from self._finish(batch)
            elif self._must_finish():
                yield from self._finish(self._in_flight.popleft())
            elif self._reads.exhausted:
                return
            else:
                self._reads.wait(self._head_is_done)

    def _must_finish(self) -> bool:
        """Return True if the oldest batch in flight must be finished before more images are read.

        With ordered results, that is after the next batch is sent, so that the models always have work.
        """
        if not self._in_flight:
            return False
        is_over = self._reads.exhausted and not self._collecting.reads
        in_time = not self._ordered and self._head_is_done()
        return is_over or in_time or len(self._in_flight) == _IN_FLIGHT

    def _head_is_done(self) -> bool:
        head = self._in_flight[0].head if self._in_flight else None
        return head is not None and head.done()

    def _next_batch(self) -> _Batch | None:
        """Return the next batch, or None if its reads are not done.

        The batch is full, unless the images end, have many pixels, or may come in any order while the models
        are idle.
        """
        while not self._is_full() and (read := self._reads.ready()) is not None:
            self._collecting.add(read)
        waits_for_more = not self._reads.exhausted and (self._ordered or self._in_flight)
        if not self._collecting.reads or (waits_for_more and not self._is_full()):
            return None
        batch, self._collecting = self._collecting, _Batch()
        self._look()
        return batch

    def _is_full(self) -> bool:
        return len(self._collecting.reads) >= self._run.batch_size or self._collecting.size >= BATCH_BYTES

    def _look(self) -> None:
        """Note the queue lengths of the readers and the models."""
        unread, read = self._reads.waiting
        self._run.meter.look(READ, unread)
        if self._first_of_head:
            queued = sum(len(sent.reads) for sent in self._in_flight if not (sent.head and sent.head.done()))
            self._run.meter.look(self._first_of_head, read + queued)

    def _send(self, batch: _Batch, head_thread: ThreadPoolExecutor) -> None:
        self._in_flight.append(batch)
        images = batch.images
        if images:
            batch.head = head_thread.submit(self._engine.start, images, self._run)
        else:
            batch.head = Future()
            batch.head.set_result([])
        batch.head.add_done_callback(lambda _: self._reads.wake())

    def _start(self, reads: Sequence[ReadImage]) -> Callable[[], list[Sample]]:
        """Start the head on some images, in its thread."""
        if self._head_thread is None:
            return lambda: self._engine.start(reads, self._run)
        return self._head_thread.submit(self._engine.start, reads, self._run).result

    def _finish(self, batch: _Batch) -> Iterator[Outcome]:
        """Wait for a batch's head, run its tail, and yield the outcomes."""
        if self._head_thread and self._first_of_tail:
            done = sum(len(sent.reads) for sent in self._in_flight if sent.head and sent.head.done())
            self._run.meter.look(self._first_of_tail, done)
        started = batch.head.result if batch.head else None
        outcomes = self._engine.outcomes(batch.images, self._run, self._start, started)
        for read in batch.reads:
            outcome = read if isinstance(read, ImageReadError) else next(outcomes)
            size = (0, 0) if isinstance(read, ImageReadError) else read.size
            self._run.meter.count(failed=isinstance(outcome, ImageReadError | StageError))
            before = time.perf_counter()
            yield size, outcome
            if os.getpid() != self._process:
                raise ForkedProcessError
            self._run.meter.add(CONSUMER, 1, time.perf_counter() - before)
