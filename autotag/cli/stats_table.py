"""Timings of a stream as a small table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autotag.writers.text_table import text_table

if TYPE_CHECKING:
    from autotag.pipeline.stats import StageStats, StreamStats

_HEADINGS = ("part", "thread", "images", "seconds", "per second", "batch", "waiting")


def stats_table(stats: StreamStats) -> str:
    """Return one line per part and a total that names the bottleneck; ``waiting``: mean queue length."""
    table = text_table([_HEADINGS, *map(_cells, stats.stages)], right=range(2, len(_HEADINGS)))
    pace = stats.done / stats.seconds if stats.seconds else 0.0
    images = f"{stats.done} image{'' if stats.done == 1 else 's'}"
    total = f"{images}, {stats.failed} failed, {stats.seconds:.1f} s, {pace:.1f} per second"
    return f"{table}\n{total}" + (f"; bound by {stats.bound_by}" if stats.bound_by else "")


def _cells(stage: StageStats) -> tuple[str, ...]:
    batch = "" if stage.batch_size is None else str(stage.batch_size)
    waiting = "" if stage.queue_mean is None else f"{stage.queue_mean:.1f}"
    pace = f"{stage.per_second:.1f}" if stage.items else ""
    return (stage.name, stage.thread, str(stage.items), f"{stage.seconds:.2f}", pace, batch, waiting)
