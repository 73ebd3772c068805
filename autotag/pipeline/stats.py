"""Where the time of a stream goes: ``Pipeline.stats()``."""

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
    """One part of the work.

    Attributes:
        name: a stage's; ``"<stage>.prepare"`` for the part of a later stage that is done with the images;
            ``"read"`` for reading and resizing; ``"consumer"`` for what is done with the results.
        thread: where it runs: ``"reading"`` stands for all reading threads together.
        items: images done.
        seconds: busy; for ``"read"`` the sum over the reading threads.
        batch_size: images at once in the last whole batch; None where there is no such thing.
        queue_mean: images that waited in front of it, on average; None where nothing can wait.
        queue_last: the same when last looked at.
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
        """Images per busy second; 0.0 before the first."""
        return self.items / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class StreamStats:
    """Where the time of one stream went.

    Attributes:
        done: results that came out, those with an error among them.
        failed: results with an error, or the error that ended the stream.
        seconds: from the first result asked for to the end of the stream, or to now.
        bound_by: the part that takes most of the time of the busiest thread, which more speed elsewhere
            would not help; empty before the first image.
        stages: ``"read"``, the stages in order, ``"consumer"``.
    """

    done: int
    failed: int
    seconds: float
    bound_by: str
    stages: tuple[StageStats, ...]

    def to_dict(self) -> dict[str, Any]:
        """A dictionary of JSON types."""
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
    """Counts for one stream, from any thread.

    Args:
        parts: name and thread of each part, in order.
        readers: threads that read.
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
        """The first result is asked for."""
        self._started = time.perf_counter()

    def end(self) -> None:
        """The stream is over."""
        self._ended = time.perf_counter()

    def add(
        self, name: str, items: int, seconds: float, batch_size: int | None = None, *, whole: bool = True
    ) -> None:
        """A part was busy; ``whole`` says whether the batch was, so that its size is worth telling."""
        with self._lock:
            row = self._rows[name]
            row.items += items
            row.seconds += seconds
            if whole or row.batch_size is None:
                row.batch_size = batch_size

    def look(self, name: str, waiting: int) -> None:
        """So many images wait in front of a part."""
        with self._lock:
            row = self._rows[name]
            row.looks += 1
            row.waited += waiting
            row.last = waiting

    def count(self, *, failed: bool) -> None:
        """A result came out, or an error in its place."""
        with self._lock:
            self._done += 1
            self._failed += failed

    def stats(self) -> StreamStats:
        """What was counted so far."""
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
