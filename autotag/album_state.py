"""What is known of an album between runs: which photographs were done, with what settings, and what came out.

It lives in SQLite in the user's state folder, not in the album, unless the album has a folder ``.autotag``.
Beside it is the journal (``autotag.journal``). Losing the ledger costs time, never a photograph.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import sys
import threading
import zlib
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotag.errors import ConfigError
from autotag.records import Result
from autotag.writers.json_text import json_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

if sys.platform != "win32":
    import fcntl

STATE_VARIABLE = "AUTOTAG_STATE"
"""Environment variable that names the folder in which the state of all albums is kept."""

_IN_ALBUM = ".autotag"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS photos (
    name BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, pixels TEXT, settings TEXT, written TEXT,
    result BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outputs (path BLOB PRIMARY KEY, digest TEXT) WITHOUT ROWID;
"""
_SCAN = """
CREATE TEMP TABLE scan (place INTEGER PRIMARY KEY, name BLOB, work INTEGER);
CREATE INDEX temp.scan_names ON scan (name);
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger says about a photograph.

    Attributes:
        size: of the file in bytes, when it was last left alone.
        mtime_ns: its time of change then, nanoseconds since 1970.
        pixels: digest of the file without its metadata.
        settings: fingerprint of the pipeline that the result is from.
        written: fingerprint of the writers that had done all they had to do; empty when none had.
    """

    size: int
    mtime_ns: int
    pixels: str
    settings: str
    written: str


class Ledger:
    """The table of photographs of one album. Safe to use from several threads.

    Args:
        path: the database, made when it is not there; None for one in memory.
        album: the album's folder; files of results in it are known by their place in it.

    Raises:
        ConfigError: it is no database of ours, or cannot be opened.
    """

    def __init__(self, path: Path | None, *, album: Path) -> None:
        self._album = album.resolve()
        self._lock = threading.RLock()
        try:
            self._database = sqlite3.connect(
                path or ":memory:", check_same_thread=False, isolation_level=None
            )
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute("PRAGMA temp_store=FILE")
            self._database.executescript(_SCHEMA)
            self._database.executescript(_SCAN)
        except sqlite3.Error as error:
            raise ConfigError(
                f"the ledger {str(path)!r} cannot be used: {error}. It may be deleted: then everything is "
                "looked at again, and nothing else is lost."
            ) from error

    def entry(self, name: str) -> Entry | None:
        """What is known of a photograph, by its name relative to the album."""
        columns = "size, mtime_ns, pixels, settings, written"
        [*rows] = self._rows(f"SELECT {columns} FROM photos WHERE name = ?", (os.fsencode(name),))  # noqa: S608
        return Entry(*rows[0]) if rows else None

    def result(self, name: str) -> Result | None:
        """What the models found in it, or None."""
        [*rows] = self._rows("SELECT result FROM photos WHERE name = ?", (os.fsencode(name),))
        return _unpacked(rows[0][0]) if rows else None

    def keep(self, name: str, entry: Entry, result: Result | None = None) -> None:
        """Puts a photograph down; without a result, the one that is there stays."""
        values = (entry.size, entry.mtime_ns, entry.pixels, entry.settings, entry.written)
        with self._lock:
            if result is not None:
                self._database.execute(
                    "INSERT OR REPLACE INTO photos VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (os.fsencode(name), *values, _packed(result)),
                )
            else:
                self._database.execute(
                    "UPDATE photos SET size = ?, mtime_ns = ?, pixels = ?, settings = ?, written = ? "
                    "WHERE name = ?",
                    (*values, os.fsencode(name)),
                )

    def rename(self, old: str, new: str) -> None:
        """A photograph has a new name; also in the list of this run."""
        with self._lock:
            self._database.execute("DELETE FROM photos WHERE name = ?", (os.fsencode(new),))
            for table in ("photos", "scan"):
                self._database.execute(
                    f"UPDATE {table} SET name = ? WHERE name = ?",  # noqa: S608
                    (os.fsencode(new), os.fsencode(old)),
                )

    def forget_writing(self) -> None:
        """What was written was taken back: the results stay, the writers have to write again."""
        with self._lock:
            self._database.execute("UPDATE photos SET written = ''")

    def output_digest(self, path: Path) -> str:
        """Digest of a file of results as autotag left it; empty when it made none there."""
        [*rows] = self._rows("SELECT digest FROM outputs WHERE path = ?", (self._place(path),))
        return str(rows[0][0]) if rows else ""

    def outputs(self) -> list[Path]:
        """The files of results that runs wrote or began."""
        return [self._album / os.fsdecode(path) for (path,) in self._rows("SELECT path FROM outputs", ())]

    def keep_output(self, path: Path, digest: str) -> None:
        """Puts down what is in a file of results."""
        with self._lock:
            self._database.execute(
                "INSERT OR REPLACE INTO outputs VALUES (?, ?)", (self._place(path), digest)
            )

    def _place(self, path: Path) -> bytes:
        """A resolved path, relative to the album if it is in it."""
        return os.fsencode(path.relative_to(self._album) if path.is_relative_to(self._album) else path)

    def list_photos(self, photos: Iterable[tuple[str, int]]) -> None:
        """The photographs of this run in order, each with a number for the work that there is."""
        with self._lock:
            self._database.execute("DELETE FROM scan")
            rows = ((os.fsencode(name), work) for name, work in photos)
            self._database.executemany("INSERT INTO scan (name, work) VALUES (?, ?)", rows)

    def listed(self, work: int) -> Iterator[str]:
        """The names of this run's photographs with this work."""
        place = 0
        query = "SELECT place, name FROM scan WHERE place > ? AND work = ? ORDER BY place LIMIT 256"
        while rows := self._rows(query, (place, work)):
            yield from (os.fsdecode(name) for _, name in rows)
            place = rows[-1][0]

    def counted(self, work: int) -> int:
        """How many of this run's photographs have this work."""
        [[count]] = self._rows("SELECT count(*) FROM scan WHERE work = ?", (work,))
        return int(count)

    def results(self, settings: str) -> Iterator[tuple[str, Result]]:
        """Name and result of this run's photographs by name, as far as there is one for these settings."""
        query = (
            "SELECT photos.name, photos.result FROM photos JOIN scan ON scan.name = photos.name "
            "WHERE photos.name > ? AND photos.settings = ? ORDER BY photos.name LIMIT 256"
        )
        name = b""
        while rows := self._rows(query, (name, settings)):
            for name, packed in rows:
                yield os.fsdecode(name), _unpacked(packed)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is put down inside is put down together."""
        with self._lock:
            self._database.execute("BEGIN")
            try:
                yield
            finally:
                self._database.execute("COMMIT")

    def close(self) -> None:
        self._database.close()

    def _rows(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._database.execute(query, values).fetchall()


def state_folder(album: Path, chosen: Path | None = None) -> Path:
    """Where the state of an album is kept; the folder may not exist yet.

    Args:
        album: the album's folder.
        chosen: where the user wants it. Otherwise the album's own ``.autotag`` if there is one, else a folder
            in ``$AUTOTAG_STATE``, else in ``autotag/albums`` in the user's state folder.
    """
    if chosen is not None:
        return chosen
    whole = album.resolve()
    if (whole / _IN_ALBUM).is_dir():
        return whole / _IN_ALBUM
    key = hashlib.sha256(os.fsencode(whole)).hexdigest()[:16]
    return _user_folder() / f"{_plain(whole.name)}-{key}"


def state_folders() -> list[Path]:
    """The folders with the states of albums in the user's state folder, by name."""
    folder = _user_folder()
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _user_folder() -> Path:
    named = os.environ.get(STATE_VARIABLE)
    if named:
        return Path(named).expanduser()
    if sys.platform == "win32":
        home = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        home = "~/Library/Application Support"
    else:
        home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "autotag" / "albums"


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)[:40]


@contextmanager
def locked(album: Path, state: Path) -> Iterator[None]:
    """Keeps a second run away from an album, from any folder in it and from any folder around it.

    The album's folder is locked for this run alone, those around it for all who lock folders inside them;
    no file is written for that. Where the system cannot lock folders, the state folder is locked.

    Raises:
        ConfigError: another run is at work, or the state folder cannot be locked.
        OSError: the state folder cannot be made.
    """
    state.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            guard = held.enter_context(
                closing(sqlite3.connect(state / "lock.sqlite", timeout=0, isolation_level=None))
            )
            guard.execute("BEGIN EXCLUSIVE")
            _lock_folders(album.resolve(), held)
        except (sqlite3.Error, BlockingIOError) as error:
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_BUSY) != sqlite3.SQLITE_BUSY:
                raise ConfigError(f"the state folder {str(state)!r} cannot be used: {error}.") from error
            raise ConfigError(
                f"another run of autotag is at work in {str(album)!r}, in a folder of it or around it. "
                "Wait for it."
            ) from error
        yield


def _lock_folders(album: Path, held: ExitStack) -> None:
    if sys.platform == "win32":
        return
    for folder in (album, *album.parents):
        kind = fcntl.LOCK_EX if folder == album else fcntl.LOCK_SH
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except OSError:
            continue  # a folder above that may not be read cannot be an album either
        held.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            continue  # a network share without locks; the state folder's lock is what keeps runs apart


def fingerprint(*parts: Any) -> str:
    """A digest of plain data, the same in every process."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _packed(result: Result) -> bytes:
    return zlib.compress(json_text(result).encode(), 1)


def _unpacked(packed: bytes) -> Result:
    with suppress(KeyError):
        return Result.from_dict(json.loads(zlib.decompress(packed)))
    raise ConfigError("the ledger holds a result of another version of autotag; delete it.")
