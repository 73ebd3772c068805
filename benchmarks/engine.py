"""What does Ray cost per photograph, beside the engine of one process? A stage that does nothing.

    python benchmarks/engine.py [--photos 6000] [--batch 64]

Reads the same photographs with ``Pipeline.stream`` and with ``autotag.distributed.ray_data`` on a cluster of
this machine, with one actor and a stage that does nothing: what is left is reading, moving and records.
Counts the processor time of this process and of all that it started, from the first quarter of the results to
the last one: the start of Ray and of its workers is not in it. The difference is what Ray costs.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cluster import make_photos
from reporting import options, report

import autotag
from autotag.distributed.ray_data import _LOCAL_SETTINGS, tag_images

if TYPE_CHECKING:
    from collections.abc import Iterable

DISTINCT = 500
MINI_MS = 62.0
"""Processor time per image of preset mini, see "The server" in docs/performance.md."""


@dataclass
class SayNothing:
    name: str = "say_nothing"
    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"prompt"})

    def __call__(self, samples: Iterable[Any]) -> None:
        for sample in samples:
            sample.prompt = "-"


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--photos", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=384, help="longest side in pixels")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = make_photos(Path(folder), DISTINCT, given.size)
        photos = [made[number % DISTINCT] for number in range(given.photos)]
        rows = [
            ["Pipeline.stream", *measured(in_this_process(photos, given.batch), given.photos)],
            ["Ray", *measured(on_ray(photos, given.batch), given.photos)],
        ]
    extra = rows[1][1] - rows[0][1]
    findings = {
        "Ray's own processor time, ms per image": extra,
        "the same, as a share of preset mini on a CPU": extra / MINI_MS,
    }
    report("engine", given, ["engine", "processor ms", "images/s"], rows, findings=findings)


def in_this_process(photos: list[Path], batch: int) -> Iterable[Any]:
    config = {"stages": [{"stage": "engine:SayNothing"}], "batch_size": batch}
    with autotag.Pipeline.from_config(config) as pipeline:
        yield from pipeline.stream(photos)


def on_ray(photos: list[Path], batch: int) -> Iterable[Any]:
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    os.environ.update(_LOCAL_SETTINGS, RAY_memory_monitor_refresh_ms="0")
    import ray

    ray.init(num_cpus=3, object_store_memory=200 * 2**20, include_dashboard=False, log_to_driver=False)
    config = {"stages": [{"stage": "engine:SayNothing"}], "batch_size": batch}
    yield from tag_images(photos, config, actors=1, batch_size=batch)
    ray.shutdown()


def measured(results: Iterable[Any], count: int) -> tuple[float, float]:
    """Processor ms per image and images per second, without the first quarter."""
    counted = count - count // 4
    for number, result in enumerate(results, 1):
        assert result.prompt == "-", result
        if number == count // 4:
            started, processor = time.perf_counter(), processor_seconds()
        if number == count:
            seconds, spent = time.perf_counter() - started, processor_seconds() - processor
    return 1e3 * spent / counted, counted / seconds


def processor_seconds() -> float:
    """Of this process and all that it started and that still run."""
    ticks, parents = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:  # ended meanwhile
            continue
        pid = int(stat.parent.name)
        parents[pid], ticks[pid] = int(fields[1]), sum(map(int, fields[11:15]))  # own and waited-for children
    return sum(ticks[pid] for pid in ticks if _is_ours(pid, parents)) / os.sysconf("SC_CLK_TCK")


def _is_ours(pid: int, parents: dict[int, int]) -> bool:
    while pid in parents and pid != os.getpid():
        pid = parents[pid]
    return pid == os.getpid()


if __name__ == "__main__":
    main()
