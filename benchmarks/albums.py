"""What an album run costs beside the models: bookkeeping per photograph, a re-run, and memory.

Run: python benchmarks/albums.py [--photos 2000] [--rerun 10000] [--memory 1000 50000]

The models are fakes, so what is measured is finding, reading, hashing, ledger, journal, writers and fsync.
Reading and tagging are measured by themselves, and taken off. fsync is the disk's: the album is in a
temporary folder unless --folder names another place, such as /dev/shm, where fsync costs nothing.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import reporting

from autotag.albums import WriterChoice, tag_folder
from autotag.pipeline.pipeline import Pipeline
from autotag.records import Caption, Sample, Tag
from autotag.testing import make_image

if TYPE_CHECKING:
    from autotag.albums import AlbumSummary

WRITERS = {
    "xmp": ["xmp"],
    "xmp embedded": [WriterChoice("xmp", options={"embed": True})],
    "txt": ["txt"],
    "jsonl": ["jsonl"],
    "xmp, txt, jsonl": ["xmp", "txt", "jsonl"],
}


@dataclass
class NameTheSame:
    """A stage that costs nothing."""

    name: str = "name_the_same"
    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"captions", "tags"})

    def __call__(self, samples: list[Sample], /) -> None:
        for sample in samples:
            sample.captions.append(Caption("a dog on the beach", self.name))
            sample.tags.extend(Tag.proposed(word, 0.5, self.name) for word in ("dog", "beach", "sea", "sand"))


def fill(folder: Path, count: int) -> Path:
    """So many different JPEG files of about 40 KB, in folders of a thousand."""
    stream = io.BytesIO()
    make_image("red", (64, 64)).save(stream, "JPEG")
    content = stream.getvalue()
    for number in range(count):
        target = folder / f"{number // 1000:03}"
        target.mkdir(parents=True, exist_ok=True)
        (target / f"{number:06}.jpg").write_bytes(content + number.to_bytes(40_000, "big"))
    return folder


def run(album: Path, state: Path, writers: list[str | WriterChoice]) -> tuple[float, AlbumSummary]:
    with Pipeline([NameTheSame()], encoder=None) as pipeline:
        pipeline.load()
        start = time.perf_counter()
        summary = tag_folder(album, pipeline=pipeline, writers=writers, state=state)
        return time.perf_counter() - start, summary


def tag_alone(album: Path) -> float:
    """Seconds that the pipeline needs to read and tag, without any bookkeeping."""
    files = sorted(album.rglob("*.jpg"))
    with Pipeline([NameTheSame()], encoder=None) as pipeline:
        pipeline.load()
        start = time.perf_counter()
        for _ in pipeline.stream(files):
            pass
        return time.perf_counter() - start


def bookkeeping(folder: Path, count: int) -> dict[str, tuple[float, float]]:
    """Milliseconds per photograph beyond reading and tagging, by what is written: passed, and worked."""
    found = {}
    for name, writers in WRITERS.items():
        album = fill(folder / name.replace(" ", "_").replace(",", ""), count)
        before = time.process_time()
        alone = tag_alone(album)
        busy_alone, before = time.process_time() - before, time.process_time()
        seconds, summary = run(album, folder / f"state {name}", writers)
        assert summary.failed == 0
        busy = time.process_time() - before - busy_alone
        found[name] = (1000 * (seconds - alone) / count, 1000 * busy / count)
    return found


def rerun(folder: Path, count: int) -> float:
    """Seconds for a second run over photographs that did not change."""
    album = fill(folder / "rerun", count)
    run(album, folder / "state rerun", ["jsonl", "xmp"])
    seconds, summary = run(album, folder / "state rerun", ["jsonl", "xmp"])
    assert summary.unchanged == count
    return seconds


def peak(folder: Path, count: int) -> float:
    """Megabytes at the most, of a process of its own that runs over so many photographs."""
    album = fill(folder / f"memory {count}", count)
    command = [sys.executable, __file__, "--peak-of", str(album), str(folder / f"state {count}")]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603


def peak_of(album: str, state: str) -> None:
    run(Path(album), Path(state), ["jsonl", "xmp"])
    unit = 1 if sys.platform == "darwin" else 1024
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)


def fsync_cost(folder: Path) -> float:
    """Milliseconds of writing and syncing a small file and its folder, on this disk."""
    start = time.perf_counter()
    for number in range(50):
        descriptor = os.open(folder / f"probe{number}", os.O_CREAT | os.O_WRONLY)
        os.write(descriptor, b"x" * 3000)
        os.fsync(descriptor)
        os.close(descriptor)
        parent = os.open(folder, os.O_RDONLY)
        os.fsync(parent)
        os.close(parent)
    return 1000 * (time.perf_counter() - start) / 50


def measure(folder: Path, given: argparse.Namespace) -> list[list[object]]:
    """Rows of what was measured, its value and its unit."""
    rows: list[list[object]] = [["writing and syncing one small file", fsync_cost(folder), "ms"]]
    for writers, (passed, busy) in bookkeeping(folder, given.photos).items():
        rows.append([f"bookkeeping per photograph: {writers}", passed, "ms"])
        rows.append([f"    processor time of that: {writers}", busy, "ms"])
    rows.append([f"second run over {given.rerun} photographs", rerun(folder, given.rerun), "s"])
    return [*rows, *([f"memory at {count} photographs", peak(folder, count), "MB"] for count in given.memory)]


def main() -> None:
    parser = reporting.options(__doc__ or "")
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--rerun", type=int, default=10_000)
    parser.add_argument("--memory", type=int, nargs=2, default=[1000, 50_000])
    parser.add_argument("--folder", type=Path, help="where the album is made, by default a temporary folder")
    parser.add_argument("--peak-of", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak_of:
        peak_of(*given.peak_of)
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        rows = measure(Path(name), given)
    given.folder = None  # a place on this machine
    reporting.report("albums", given, ["what", "value", "unit"], rows)


if __name__ == "__main__":
    main()
