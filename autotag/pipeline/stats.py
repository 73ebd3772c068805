"""Statistics of a stream for ``Pipeline.stats()``: where its time goes."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

READ = "read"
CONSUMER = "consumer"

ThreadName = Literal["reading", "models", "consumer"]


@dataclass(frozen=True, slots=True)
class StageStats:
    """The statistics of one part of the work.

    Attributes:
        name: a stage's name; ``"<stage>.vectors"`` for the image vectors that a later stage reads;
            ``"read"`` for reading and resizing; ``"consumer"`` for the caller's work on the results.
        thread: the thread in which it runs; ``"reading"`` means all reading threads together.
        items: images done.
        seconds: busy time; for ``"read"`` the sum over the reading threads.
        batch_size: images at once in the last full batch; None if the part does not work in batches.
        queue_mean: mean number of images that waited for it; None if it has no queue.
        queue_last: the same number when last measured.
    """

    name: str
    thread: ThreadName
    items: int
    seconds: float
    batch_size: int | None
    queue_mean: float | None
    queue_last: int | None

    @property
    def per_second(self) -> float:
        """Images per busy second; 0.0 before the first image."""
        return self.items / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class StreamStats:
    """The statistics of one stream.

    Attributes:
        done: number of results, including those with an error.
        failed: number of results with an error, including the error that ended the stream.
        seconds: time from the request of the first result to the end of the stream, or to now.
        bound_by: the bottleneck: the slowest part of the busiest thread; empty before the first image.
        stages: ``"read"``, the stages in order, ``"consumer"``.
    """

    done: int
    failed: int
    seconds: float
    bound_by: str
    stages: tuple[StageStats, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of JSON types."""
        rows = [{**asdict(stage), "per_second": stage.per_second} for stage in self.stages]
        return {**asdict(self), "stages": rows}


@dataclass(slots=True)
class _Row:
    thread: ThreadName
    items: int = 0
    seconds: float = 0.0
    batch_size: int | None = None
    looks: int = 0
    waited: int = 0
    last: int | None = None


@dataclass(slots=True)
class Meter:
    """Collect the statistics of one stream, from any thread.

    Args:
        parts: name and thread of each part, in order.
        readers: number of reading threads.
    """

    parts: Sequence[tuple[str, ThreadName]] = ()
    readers: int = 1
    _rows: dict[str, _Row] = field(init=False)
    _done: int = 0
    _failed: int = 0
    _started: float | None = None
    _ended: float | None = None
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self._rows = {name: _Row(thread) for name, thread in self.parts}

    def start(self) -> None:
        """Note that the first result is requested."""
        self._started = time.perf_counter()

    def end(self) -> None:
        """Note the end of the stream."""
        self._ended = time.perf_counter()

    def add(
        self, name: str, items: int, seconds: float, batch_size: int | None = None, *, whole: bool = True
    ) -> None:
        """Add the busy time of a part; its batch size is kept for full batches (``whole``)."""
        with self._lock:
            row = self._rows[name]
            row.items += items
            row.seconds += seconds
            if whole or row.batch_size is None:
                row.batch_size = batch_size

    def look(self, name: str, waiting: int) -> None:
        """Note the number of images that wait for a part."""
        with self._lock:
            row = self._rows[name]
            row.looks += 1
            row.waited += waiting
            row.last = waiting

    def count(self, *, failed: bool) -> None:
        """Count a result, or the error in its place."""
        with self._lock:
            self._done += 1
            self._failed += failed

    def stats(self) -> StreamStats:
        """Return the statistics so far."""
        with self._lock:
            seconds = 0.0
            if self._started is not None:
                seconds = (self._ended or time.perf_counter()) - self._started
            stages = tuple(_stage_stats(name, row) for name, row in self._rows.items())
            return StreamStats(self._done, self._failed, seconds, self._binding(), stages)

    def _binding(self) -> str:
        busy: dict[ThreadName, float] = {}
        for row in self._rows.values():
            share = row.seconds / (self.readers if row.thread == "reading" else 1)
            busy[row.thread] = busy.get(row.thread, 0.0) + share
        if not any(busy.values()):
            return ""
        busiest = max(busy, key=lambda thread: busy[thread])
        rows = {name: row.seconds for name, row in self._rows.items() if row.thread == busiest}
        return max(rows, key=lambda name: rows[name])


def _stage_stats(name: str, row: _Row) -> StageStats:
    mean = row.waited / row.looks if row.looks else None
    return StageStats(name, row.thread, row.items, row.seconds, row.batch_size, mean, row.last)
