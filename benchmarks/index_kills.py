"""Kills `autotag index` at random moments and checks that nothing is lost and nothing is there twice.

Run: python benchmarks/index_kills.py [--kills 200] [--seed 1]

An album changes at random: photographs come, go, move and get other pixels or metadata. The command runs
over it in a child that gets SIGKILL by the clock, until so many runs were killed before their end; every
fifth or so runs to its end. After each, the file must pass SQLite's integrity check, hold every photograph
that it held and whose pixels are still in the album, and each photograph's tags, text and vector once. After
a run to the end it must hold what a new index of the album holds.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from autotag.cli.main import main as autotag
from autotag.metadata.pixel_digest import pixel_digest
from autotag.search import Index

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE = Path(__file__).resolve().parent
PRESET = """
encoder = "clip-mini"
batch_size = 2
[[stages]]
stage = "kills:NameColours"
"""
PHOTOGRAPHS = 24
FINISHED = 0.2  # of the runs are left alone
CHANGES = ("add", "add", "delete", "move", "repaint", "retell")


SIDECAR = """<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:subject><rdf:Bag><rdf:li>Anna</rdf:li></rdf:Bag></dc:subject>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


class Trial:
    """One album, its index, and what happens to them."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.chance = chance
        self.album, self.index, self.preset = folder / "album", folder / "index.db", folder / "kills.toml"
        self.preset.write_text(PRESET)
        self.made = 0
        self.longest = 1.0  # seconds that a run takes here
        self.counts: Counter[str] = Counter()
        for part in ("a", "b", "a/deep"):
            (self.album / part).mkdir(parents=True)
        for _ in range(PHOTOGRAPHS):
            self.add()

    def add(self) -> None:
        """Add a photograph whose pixels no other has."""
        self.paint(self.place() / f"{self.made:04}.png")

    def place(self) -> Path:
        return self.album / self.chance.choice(["a", "b", "a/deep"])

    def paint(self, path: Path) -> None:
        self.made += 1
        image = Image.new("RGB", (16, 16), tuple(self.chance.randbytes(3)))
        image.putpixel((0, 0), (self.made % 256, self.made // 256, 7))
        image.save(path)

    def change(self) -> None:
        """Do a few things to the album."""
        for what in self.chance.choices(CHANGES, k=self.chance.randint(0, 8)):
            photos = sorted(self.album.rglob("*.png"))
            path = self.chance.choice(photos)
            if what == "add":
                self.add()
            elif what == "delete" and len(photos) > PHOTOGRAPHS // 2:
                path.unlink()
            elif what == "move":
                path.rename(self.place() / f"moved {self.made:04} {path.name}")
                self.made += 1
            elif what == "repaint":
                self.paint(path)
            elif what == "retell":
                path.with_name(f"{path.name}.xmp").write_text(SIDECAR)
                os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))

    def run(self, index: Path) -> None:
        arguments = ["index", self.album, "--preset", self.preset, "--index", index, "--quiet"]
        autotag([str(argument) for argument in arguments], standalone_mode=False)

    def step(self) -> None:
        """Change the album, run the command over it, and check."""
        self.change()
        before = held(self.index)
        kill_after = None if self.chance.random() < FINISHED else self.chance.uniform(0.0, self.longest)
        started = time.monotonic()
        status = in_child(lambda: self.run(self.index), kill_after)
        if status not in {0, -signal.SIGKILL}:
            raise AssertionError(f"a run ended with {status}")
        self.counts["killed" if status else "ended"] += 1
        if kill_after is None:
            self.longest = 1.05 * (time.monotonic() - started)
        self.check(before, is_whole=status == 0)

    def check(self, before: set[str], *, is_whole: bool) -> None:
        if not self.index.exists():
            return
        check_file(self.index)
        now = held(self.index)
        there = {pixel_digest(path.read_bytes()) for path in self.album.rglob("*.png")}
        lost = (before & there) - now
        if lost:
            raise AssertionError(f"{len(lost)} photographs were lost")
        self.counts["photographs kept"] += len(before & there)
        if is_whole:
            fresh = self.index.with_name("fresh.db")
            for file in fresh.parent.glob("fresh.db*"):
                file.unlink()
            if in_child(lambda: self.run(fresh), None):
                raise AssertionError("a new index could not be made")
            (old, old_vectors), (new, new_vectors) = told(self.index), told(fresh)
            if old != new:
                differing = [pair for pair in zip_longest(old, new) if pair[0] != pair[1]]
                raise AssertionError(f"a run to its end left another index than a new one: {differing[:3]}")
            if not np.allclose(old_vectors, new_vectors, atol=2e-3):  # they depend a little on the batch
                raise AssertionError("a run to its end left other vectors than a new index has")
            self.counts["equal to a new index"] += 1


def in_child(work: Callable[[], object], kill_after: float | None) -> int:
    """Work in a forked child and return its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:  # noqa: BLE001 - a child never returns into the code of its parent
            traceback.print_exc()
        finally:
            os._exit(status)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def held(index: Path) -> set[str]:
    """The digests of the photographs in an index."""
    if not index.exists():
        return set()
    with Index.open(index) as opened:
        return {digest for (digest,) in opened.execute("SELECT digest FROM photo")}


def check_file(index: Path) -> None:
    """Refuse a file that is damaged, or in which something is there twice or half."""
    with Index.open(index) as opened:
        checks = {
            "PRAGMA integrity_check": [("ok",)],
            "PRAGMA foreign_key_check": [],
            "INSERT INTO words(words, rank) VALUES ('integrity-check', 1)": [],
            "SELECT digest FROM photo GROUP BY digest HAVING count(*) > 1": [],
            "SELECT id FROM photo WHERE id NOT IN (SELECT photo FROM vector)": [],
            "SELECT id FROM photo WHERE id NOT IN (SELECT rowid FROM words)": [],
            "SELECT id FROM photo WHERE id NOT IN (SELECT photo FROM tag)": [],
            "SELECT rowid FROM words WHERE rowid NOT IN (SELECT id FROM photo)": [],
        }
        for query, wanted in checks.items():
            found = opened.execute(query)
            if found != wanted:
                raise AssertionError(f"{query}: {found[:5]}")


def told(index: Path) -> tuple[list[object], np.ndarray]:
    """What an index says about each photograph, without ids and generations, and their vectors."""
    with Index.open(index) as opened:
        photos = opened.execute(
            "SELECT path, bytes, mtime_ns, digest, width, height, caption, error, offline, value, id "
            "FROM photo JOIN vector ON photo = id ORDER BY path"
        )
        tags = opened.execute("SELECT photo, text, folded, score, source FROM tag ORDER BY photo, place")
        words = dict(opened.execute("SELECT rowid, caption || tags || keywords || name FROM words"))
    by_photo: dict[int, list[object]] = {}
    for photo, *tag in tags:
        by_photo.setdefault(photo, []).append(tag)
    vectors = np.frombuffer(b"".join(row[-2] for row in photos), dtype="<f2").astype(np.float32)
    return [(*facts, by_photo[photo], words[photo]) for *facts, _, photo in photos], vectors


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    sys.path.insert(0, str(HERE))  # where the preset finds its stage
    for name in (
        "kills",
        "autotag.search",
        "autotag.stages",
        "autotag.models.encoders.openclip_encoder",
        "open_clip",
    ):
        import_module(name)  # once, in the parent
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder), random.Random(given.seed))  # noqa: S311 - no secret
        while trial.counts["killed"] < given.kills or not trial.counts["ended"]:
            try:
                trial.step()
            except AssertionError as error:
                print(f"failed after {dict(trial.counts)}: {error}")
                return 1
    print(", ".join(f"{what}: {count}" for what, count in trial.counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
