"""Timings of a stream as a small table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autotag.pipeline.stats import StageStats, StreamStats

_HEADINGS = ("part", "thread", "images", "seconds", "per second", "batch", "waiting")


def stats_table(stats: StreamStats) -> str:
    """Return one line per part and a total that names the bottleneck; ``waiting``: mean queue length."""
    rows = [_HEADINGS, *map(_cells, stats.stages)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if at < 2 else cell.rjust(width)  # names to the left, numbers to the right
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    pace = stats.done / stats.seconds if stats.seconds else 0.0
    total = f"{stats.done} images, {stats.failed} failed, {stats.seconds:.1f} s, {pace:.1f} per second"
    return "\n".join([*lines, total + (f"; bound by {stats.bound_by}" if stats.bound_by else "")])


def _cells(stage: StageStats) -> tuple[str, ...]:
    batch = "" if stage.batch_size is None else str(stage.batch_size)
    waiting = "" if stage.queue_mean is None else f"{stage.queue_mean:.1f}"
    pace = f"{stage.per_second:.1f}" if stage.items else ""
    return (stage.name, stage.thread, str(stage.items), f"{stage.seconds:.2f}", pace, batch, waiting)
