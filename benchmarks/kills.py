"""Kills album runs at random moments and checks that nothing is lost: every writer, plans, undo.

Run: python benchmarks/kills.py [--trials 200] [--seed 1]

Each trial makes a small album with keywords, texts and sidecars of its owner, takes writers at random, and
runs ``tag_folder``, ``apply_plan`` or ``undo_album`` in a child that gets SIGKILL: by the clock, or at its
n-th call to the file system (a Python audit event). Then the run goes on or not, and is taken back. A trial
fails when a photograph is missing after a kill, when a run that goes on leaves other files than one that was
never killed, or when undo does not bring back every file byte for byte. ``--seed SEED --only TRIAL`` repeats
a trial.
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
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from autotag.albums import WriterChoice, apply_plan, tag_folder, undo_album
from autotag.errors import ConfigError
from autotag.pipeline.pipeline import Pipeline
from autotag.records import Caption, Sample, Tag
from autotag.testing import make_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COLOURS = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0)}
SUFFIXES = ("jpg", "png", "webp", "gif", "jpg")
EVENTS = frozenset(
    {
        "open", "os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate",
        "os.utime", "sqlite3.connect", "os.scandir", "os.listdir",
    }
)  # fmt: skip
PHOTOGRAPHS = frozenset({".jpg", ".png", ".webp", ".gif"})


@dataclass
class NameColours:
    """A stage without weights: the nearest colour, and two words that fit any photograph."""

    name: str = "name_colours"
    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"captions", "tags", "prompt"})

    def __call__(self, samples: list[Sample], /) -> None:
        for sample in samples:
            pixel = sample.image.resize((1, 1)).getpixel((0, 0))
            word = min(
                COLOURS, key=lambda name: sum(abs(a - b) for a, b in zip(COLOURS[name], pixel, strict=True))
            )
            sample.captions.append(Caption(f"a {word} picture", self.name))
            sample.tags.extend(Tag.proposed(tag, 0.5, self.name) for tag in (word, "picture", "surface"))
            sample.prompt = f"a {word} picture"


@dataclass
class Tally:
    """What the trials did.

    Attributes:
        counts: kills, runs that ended before they were killed, and trials by kind.
        failures: trial -> what went wrong.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failures: dict[int, str] = field(default_factory=dict)


def fill(folder: Path, chance: random.Random) -> None:
    """Make an album of three to fourteen photographs, some with words of their owner beside them."""
    (folder / "more").mkdir(parents=True)
    for number in range(chance.randint(3, 14)):
        place = folder / "more" if chance.random() < 0.3 else folder
        stem = chance.choice([f"IMG_{number:04}", f"{number:02} été", f"img{number}"])
        name = f"{stem}.{chance.choice(SUFFIXES)}"
        make_image(chance.choice(list(COLOURS)), (16 + number, 16)).save(place / name)
        mine = chance.random()
        if mine < 0.15:
            (place / f"{name}.txt").write_text("words of mine, picture\n")
        elif mine < 0.3:
            (place / f"{stem}.txt").write_bytes(b"mine\r\n")
        elif mine < 0.4:
            (place / f"{name}.xmp").write_text(SIDECAR)
        elif mine < 0.45:
            (place / f"{stem}.xmp").write_text("this is not XMP")


SIDECAR = """<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:subject><rdf:Bag><rdf:li>Anna</rdf:li></rdf:Bag></dc:subject>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


def chosen_writers(chance: random.Random) -> list[str | WriterChoice]:
    """Take one to all writers, with options."""
    beside: list[str | WriterChoice] = [
        WriterChoice(
            "xmp", options={"embed": chance.random() < 0.6, "naming": chance.choice(["auto", "adobe"])}
        ),
        WriterChoice(
            "txt",
            options={"mode": chance.choice(["append", "skip"]), "naming": chance.choice(["full", "stem"])},
        ),
        "rename",
        "jsonl", "csv", "json", "table",
    ]  # fmt: skip
    if find_spec("pyarrow") is not None:
        beside.append("parquet")
    return chance.sample(beside, chance.randint(1, len(beside)))


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too, with a digest of its content."""
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def in_child(
    work: Callable[[], object], *, kill_after: float | None = None, kill_at: int | None = None
) -> int:
    """Work in a forked child and return its exit status, negative for a signal.

    Args:
        work: what to do.
        kill_after: seconds until it gets SIGKILL.
        kill_at: the number of the call to the file system at which it gets SIGKILL.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if kill_at is not None:
                _die_at(kill_at)
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - a child never returns into the code of its parent
            traceback.print_exc()
        finally:
            os._exit(status)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _die_at(number: int) -> None:
    calls = 0

    def heard(event: str, _: Sequence[object]) -> None:
        nonlocal calls
        if event in EVENTS:
            calls += 1
            if calls >= number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(heard)


class Trial:
    """One album, and what happens to it."""

    def __init__(self, folder: Path, chance: random.Random, tally: Tally) -> None:
        self.folder, self.chance, self.tally = folder, chance, tally
        self.album, self.state, self.plan = folder / "album", folder / "state", folder / "plan.jsonl"
        fill(self.album, chance)
        self.before = contents(self.album)
        self.originals = {name: (self.album / name).read_bytes() for name in self.before}
        self.writers = chosen_writers(chance)
        self.longest = 0.3  # seconds that a run takes here

    def tag(self, album: Path | None = None, state: Path | None = None, **more: Any) -> None:
        with Pipeline([NameColours()], encoder=None, batch_size=2, deterministic=True) as pipeline:
            tag_folder(
                album or self.album,
                pipeline=pipeline,
                writers=self.writers,
                state=state or self.state,
                **more,
            )

    def undo(self) -> None:
        try:
            undo_album(self.album, state=self.state)
        except ConfigError as error:  # the run was killed before it had a journal
            if "no run of autotag is recorded" not in str(error):
                raise

    def killed(self, work: Callable[[], object]) -> None:
        """Do something that is killed."""
        if self.chance.random() < 0.4:
            status = in_child(work, kill_after=self.chance.uniform(0.0, self.longest))
        else:
            status = in_child(work, kill_at=self.chance.randint(1, self.chance.choice([60, 250, 700])))
        self.tally.counts["killed" if status == -signal.SIGKILL else "ended before"] += 1
        if status not in {0, -signal.SIGKILL}:
            raise AssertionError(f"the run ended with {status}")
        lost = _photographs(self.before) - _photographs(contents(self.album))
        if lost > 0:
            raise AssertionError(f"{lost} photographs are missing after a kill")

    def whole(self, work: Callable[[], object]) -> None:
        """Do something to its end."""
        begun = time.perf_counter()
        status = in_child(work)
        self.longest = max(0.02, time.perf_counter() - begun)
        if status != 0:
            raise AssertionError(f"the run that nobody killed ended with {status}")

    def run(self) -> None:
        """Kill runs, one after the other; then go on or not; then take back, perhaps killed too."""
        kind = self.chance.choice(["undo", "go on", "undo killed", "plan", "again"])
        self.tally.counts[kind] += 1
        work: Callable[[], object] = self.tag
        if kind == "plan":
            self.whole(lambda: self.tag(plan_file=self.plan))
            work = lambda: apply_plan(self.plan, state=self.state)  # noqa: E731
        for _ in range(self.chance.randint(1, 3)):
            self.killed(work)
        if kind in {"go on", "plan", "again"}:
            self.whole(work)
            self.check_leftovers()
        if kind == "go on":
            self.check_as_if_never_killed()
        if kind == "again":
            self.writers = chosen_writers(self.chance)
            self.killed(lambda: self.tag(redo=True))
        if kind == "undo killed":
            for _ in range(self.chance.randint(1, 3)):
                self.killed(self.undo)
        self.whole(self.undo)
        self.check_same(self.before, contents(self.album), "undo")

    def check_leftovers(self) -> None:
        """Refuse hidden files that a killed run left and the next did not clear away."""
        left = [name for name in contents(self.album) if Path(name).name.startswith(".")]
        if left:
            raise AssertionError(f"hidden files are left: {left}")

    def check_as_if_never_killed(self) -> None:
        """Refuse names that a run without a kill would not give; dates inside files differ."""
        copy = self.folder / "never killed"
        copy.mkdir()
        for name, content in self.originals.items():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes(content)
        self.whole(lambda: self.tag(copy, self.folder / "other state"))
        names, wanted = set(contents(self.album)), set(contents(copy))
        if names != wanted:
            raise AssertionError(f"names differ from a run without a kill: {sorted(names ^ wanted)}")

    def check_same(self, wanted: dict[str, str], found: dict[str, str], what: str) -> None:
        if wanted != found:
            other = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
            raise AssertionError(f"{what} left {other}")


def _photographs(files: dict[str, str]) -> int:
    names = (Path(name) for name in files)
    return sum(name.suffix in PHOTOGRAPHS and not name.name.startswith(".") for name in names)


def campaign(trials: int, seed: int, *, only: int | None = None) -> Tally:
    """Run trials and return what happened; a trial that fails keeps nothing from the others."""
    tally = Tally()
    for number in range(trials) if only is None else [only]:
        chance = random.Random(seed * 1_000_003 + number)  # noqa: S311
        with tempfile.TemporaryDirectory() as folder:
            trial = Trial(Path(folder), chance, tally)
            try:
                trial.run()
            except AssertionError as error:
                tally.failures[number] = f"{error}; writers: {trial.writers}"
                print(f"trial {number}: {tally.failures[number]}", flush=True)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="this trial alone")
    given = parser.parse_args()
    tally = campaign(given.trials, given.seed, only=given.only)
    for name, count in tally.counts.most_common():
        print(f"{name}: {count}")
    sys.exit(f"{len(tally.failures)} trials failed: {sorted(tally.failures)}" if tally.failures else 0)


if __name__ == "__main__":
    main()
