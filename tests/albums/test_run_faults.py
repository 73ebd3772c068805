"""A whole run, with every writer, is stopped at every call that changes something; undo brings all back."""

from __future__ import annotations

import errno
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from autotag.albums import WriterChoice, run, undo_album, writing
from autotag.errors import AutotagError
from autotag.files.system_calls import SystemCalls
from autotag.testing import make_image

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")

WRITERS = (
    WriterChoice("xmp", options={"embed": True}),
    WriterChoice("txt", options={"mode": "append", "naming": "full"}),
    "rename",
    "csv",
    "jsonl",
)
FAULTS: dict[str, Callable[[], None]] = {
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "disk full": lambda: fail(errno.ENOSPC),
    "disk broken": lambda: fail(errno.EIO),
}
CHANGING = {
    SystemCalls: (
        "open", "write", "fsync", "copy_attributes", "set_times", "exchange", "rename_new", "unlink",
        "sync_folder", "close",
    ),
    os: ("fsync",),
}  # fmt: skip


def fail(number: int) -> None:
    raise OSError(number, os.strerror(number))


@pytest.fixture
def album() -> Iterator[Path]:
    """Four formats, one of which gets a sidecar, and a text of somebody; in memory where that can be."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - with a name of its own
    with TemporaryDirectory(dir=place) as name:
        for number, suffix in enumerate(("jpg", "png", "webp", "gif")):
            make_image("red", (16 + number, 16)).save(Path(name, f"{number}.{suffix}"))
        Path(name, "1.png.txt").write_text("words of mine\n")
        yield Path(name)


@pytest.fixture
def stopped_run(tagged, album, monkeypatch) -> Callable[[int, str], list[str]]:
    """Runs in a process of its own, with a fault at the n-th call; the calls up to there."""
    monkeypatch.setenv("PATH", "")  # no exiftool
    monkeypatch.setattr(writing, "_THREADS", 1)  # so that the n-th call is the same one every time
    monkeypatch.setattr(run, "_LONGEST_WAIT", math.inf)  # also where the machine is busy

    def stopped_run(where: int, fault: str) -> list[str]:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            watch(where, fault, write)
            try:
                tagged(album, *WRITERS)
            except (OSError, AutotagError):
                os._exit(2)  # journal or ledger could not be written
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as calls:
            seen = calls.read().split()
        os.waitpid(child, 0)
        return seen

    return stopped_run


def watch(where: int, fault: str, told: int) -> None:
    """Counts the calls, names each to ``told``, and lets the n-th one go wrong."""
    count, tell = [0], os.write

    def watched(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def calling(*arguments: object, **options: object) -> object:
            tell(told, f"{name}\n".encode())
            count[0] += 1
            if count[0] == where + 1:
                FAULTS[fault]()
            return call(*arguments, **options)

        return calling

    for owner, names in CHANGING.items():
        for name in names:
            setattr(owner, name, watched(name, getattr(owner, name)))


@pytest.mark.parametrize(
    ("fault", "first", "step"), [("killed", 0, 1), ("disk full", 0, 3), ("disk broken", 1, 3)]
)
@pytest.mark.slow
def test_a_run_stopped_at_any_call_loses_nothing_and_is_taken_back(
    stopped_run, album, tree, fault, first, step
):
    before = tree(album)
    for _ in range(2):  # the first run makes a state for the album, too
        trace = stopped_run(-2, fault)
        undo_album(album)
        assert tree(album) == before
    assert set(trace) >= {"write", "fsync", "exchange", "rename_new", "unlink"}
    assert len(trace) > 100
    points = range(first, len(trace), step)
    tried = set()
    for where in points:
        seen = stopped_run(where, fault)
        tried.add((where, seen[where]))
        now = tree(album)
        assert sum(name.endswith((".jpg", ".png", ".webp", ".gif")) for name in now) >= 4
        summary = undo_album(album)
        assert (summary.errors, tree(album)) == ([], before), f"after {seen[where]} number {where}"
    print(f"\n{len(tried)} distinct points of a whole run, {fault}: 0 losses")  # noqa: T201
    assert len(tried) == len(points)


@pytest.mark.slow
def test_a_run_killed_at_any_call_and_started_again_ends_like_one_that_was_not(
    stopped_run, tagged, album, tree
):
    stopped_run(-2, "killed")
    whole = set(tree(album))
    undo_album(album)
    trace = stopped_run(-2, "killed")
    undo_album(album)
    for where in range(0, len(trace), 4):
        stopped_run(where, "killed")
        assert tagged(album, *WRITERS).failed == 0
        assert set(tree(album)) == whole
        undo_album(album)
