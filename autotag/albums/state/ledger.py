"""The ledger of an album between runs: finished photographs, their settings and results.

It lives in SQLite in the user's state folder, not in the album, unless the album has a folder ``.autotag``.
Beside it is the journal (``autotag.albums.state.journal``). Losing the ledger costs time, never a photograph.
"""

from __future__ import annotations

import errno
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

from platformdirs import user_state_path

from autotag.albums.state.identity import IN_ALBUM, LOCK, is_state
from autotag.errors import ConfigError
from autotag.records import Result
from autotag.writers.json_text import json_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

if sys.platform != "win32":
    import fcntl

STATE_VARIABLE = "AUTOTAG_STATE"
"""Environment variable that names the folder in which the state of all albums is kept."""

_ERRNO = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_READONLY: errno.EROFS}
_SCHEMA = """
CREATE TABLE IF NOT EXISTS photos (
    name BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, pixels TEXT, settings TEXT, written TEXT,
    result BLOB, sidecars TEXT NOT NULL DEFAULT '', found BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outputs (path BLOB PRIMARY KEY, digest TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS writers (written TEXT PRIMARY KEY, options TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rules (written TEXT PRIMARY KEY, rules TEXT) WITHOUT ROWID;
"""
_SCAN = """
CREATE TEMP TABLE scan (place INTEGER PRIMARY KEY, name BLOB, work INTEGER);
CREATE INDEX temp.scan_names ON scan (name);
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """The ledger's entry of a photograph.

    Attributes:
        size: of the file in bytes, when it was last left alone.
        mtime_ns: its time of change then, nanoseconds since 1970.
        pixels: digest of the file without its metadata.
        settings: fingerprint of the pipeline that the result is from.
        written: fingerprint of the writers that had done all they had to do; empty when none had.
        sidecars: stamp of its sidecars then (``autotag.metadata.sidecar_stamp``); empty without any, or where
            no writer reads them.
    """

    size: int
    mtime_ns: int
    pixels: str
    settings: str
    written: str
    sidecars: str = ""


class Ledger:
    """Keep the table of photographs of one album. Thread-safe.

    Args:
        path: the database, made when it is not there; None for one in memory.
        album: the album's folder; files of results in it are known by their place in it.

    Raises:
        ConfigError: it is not a database of ours.
        OSError: it cannot be opened, or, from every method, read or written.
    """

    def __init__(self, path: Path | None, *, album: Path) -> None:
        self._path, self._album = path, album.resolve()
        self._lock = threading.RLock()
        with self._guarded():
            self._database = sqlite3.connect(
                path or ":memory:", check_same_thread=False, isolation_level=None
            )
        try:
            self._prepare()
        except BaseException:
            self._database.close()
            raise

    def _prepare(self) -> None:
        with self._guarded():
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute("PRAGMA temp_store=FILE")
            self._database.executescript(_SCHEMA)
            there = [row[1] for row in self._database.execute("PRAGMA table_info(photos)")]
            for column, kind in (("sidecars", "TEXT NOT NULL DEFAULT ''"), ("found", "BLOB")):
                if column not in there:
                    self._database.execute(f"ALTER TABLE photos ADD COLUMN {column} {kind}")
            self._database.executescript(_SCAN)

    def entry(self, name: str) -> Entry | None:
        """Return the entry of a photograph, by its name relative to the album."""
        columns = "size, mtime_ns, pixels, settings, written, sidecars"
        [*rows] = self._rows(f"SELECT {columns} FROM photos WHERE name = ?", (os.fsencode(name),))  # noqa: S608
        return Entry(*rows[0]) if rows else None

    def result(self, name: str) -> Result | None:
        """Return what the models found in a photograph, or None."""
        [*rows] = self._rows("SELECT result FROM photos WHERE name = ?", (os.fsencode(name),))
        return _unpacked(rows[0][0]) if rows else None

    def keep(self, name: str, entry: Entry, result: Result | None = None, *, by_person: bool = False) -> None:
        """Record a photograph; without a result, keep the recorded one.

        Args:
            name: of the photograph.
            entry: its state.
            result: what counts for it from now on, of the models unless ``by_person``.
            by_person: whether a person had a hand in it; what the models found is kept for
                ``forget_edits``.
        """
        values = (entry.size, entry.mtime_ns, entry.pixels, entry.settings, entry.written, entry.sidecars)
        if result is not None:
            columns = "name, size, mtime_ns, pixels, settings, written, sidecars, result, found"
            earlier = "(SELECT coalesce(found, result) FROM photos WHERE ? AND name = ? AND settings = ?)"
            query = f"INSERT OR REPLACE INTO photos ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, {earlier})"  # noqa: S608
            key = os.fsencode(name)
            self._rows(query, (key, *values, _packed(result), by_person, key, entry.settings))
            return
        columns = "size = ?, mtime_ns = ?, pixels = ?, settings = ?, written = ?, sidecars = ?"
        self._rows(f"UPDATE photos SET {columns} WHERE name = ?", (*values, os.fsencode(name)))  # noqa: S608

    def rename(self, old: str, new: str) -> None:
        """Rename a photograph, also in the list of this run."""
        self._rows("DELETE FROM photos WHERE name = ?", (os.fsencode(new),))
        for table in ("photos", "scan"):
            query = f"UPDATE {table} SET name = ? WHERE name = ?"  # noqa: S608
            self._rows(query, (os.fsencode(new), os.fsencode(old)))

    def forget_writing(self) -> None:
        """Mark every photograph as not written; keep the results."""
        self._rows("UPDATE photos SET written = ''", ())

    def forget_edits(self) -> None:
        """Let what the models found count again where a plan that a person edited had replaced it."""
        self._rows("UPDATE photos SET result = found, found = NULL WHERE found IS NOT NULL", ())

    def keep_writers(self, written: str, options: Mapping[str, Any], rules: Mapping[str, Any]) -> None:
        """Record the options of the writers, by name, and the rules that a fingerprint stands for."""
        values = (written, json.dumps(options, sort_keys=True))
        self._rows("INSERT OR REPLACE INTO writers VALUES (?, ?)", values)
        self._rows("INSERT OR REPLACE INTO rules VALUES (?, ?)", (written, json.dumps(rules, sort_keys=True)))

    def writers(self, written: str) -> dict[str, Any]:
        """Return the options of writers by name; empty for a fingerprint that is not known."""
        [*rows] = self._rows("SELECT options FROM writers WHERE written = ?", (written,))
        return dict(json.loads(rows[0][0])) if rows else {}

    def rules(self, written: str) -> dict[str, Any]:
        """Return the rules as plain data; empty for a fingerprint that is not known."""
        [*rows] = self._rows("SELECT rules FROM rules WHERE written = ?", (written,))
        return dict(json.loads(rows[0][0])) if rows else {}

    def groups(self) -> list[tuple[str, str, int]]:
        """Return each pair of settings and written (see ``Entry``), with how many photographs it has."""
        query = "SELECT settings, written, count(*) FROM photos GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2"
        return [
            (str(settings), str(written), int(count)) for settings, written, count in self._rows(query, ())
        ]

    def group(self, settings: str, written: str) -> Iterator[tuple[str, Entry, Result]]:
        """Yield the photographs of a group, in the order of their names."""
        query = (
            "SELECT name, size, mtime_ns, pixels, sidecars, result FROM photos "
            "WHERE name > ? AND settings = ? AND written = ? ORDER BY name LIMIT 256"
        )
        name = b""
        while rows := self._rows(query, (name, settings, written)):
            for name, size, mtime_ns, pixels, sidecars, packed in rows:
                entry = Entry(size, mtime_ns, pixels, settings, written, sidecars)
                yield os.fsdecode(name), entry, _unpacked(packed)

    def output_digest(self, path: Path) -> str:
        """Return a result file's digest as autotag left it; empty when it made none there."""
        [*rows] = self._rows("SELECT digest FROM outputs WHERE path = ?", (self._place(path),))
        return str(rows[0][0]) if rows else ""

    def outputs(self) -> list[Path]:
        """Return the result files that runs wrote or began."""
        return [self._album / os.fsdecode(path) for (path,) in self._rows("SELECT path FROM outputs", ())]

    def keep_output(self, path: Path, digest: str) -> None:
        """Record the digest of a result file."""
        self._rows("INSERT OR REPLACE INTO outputs VALUES (?, ?)", (self._place(path), digest))

    def _place(self, path: Path) -> bytes:
        """Return a resolved path, relative to the album if inside it."""
        return os.fsencode(path.relative_to(self._album) if path.is_relative_to(self._album) else path)

    def list_photos(self, photos: Iterable[tuple[str, int]]) -> None:
        """Store this run's photographs in order, each with the number of its kind of work."""
        with self._guarded():
            self._database.execute("DELETE FROM scan")
            rows = ((os.fsencode(name), work) for name, work in photos)
            self._database.executemany("INSERT INTO scan (name, work) VALUES (?, ?)", rows)

    def listed(self, work: int) -> Iterator[str]:
        """Yield the names of this run's photographs with this kind of work."""
        place = 0
        query = "SELECT place, name FROM scan WHERE place > ? AND work = ? ORDER BY place LIMIT 256"
        while rows := self._rows(query, (place, work)):
            yield from (os.fsdecode(name) for _, name in rows)
            place = rows[-1][0]

    def counted(self, work: int) -> int:
        """Return how many of this run's photographs have this kind of work."""
        [[count]] = self._rows("SELECT count(*) FROM scan WHERE work = ?", (work,))
        return int(count)

    def results(self, settings: str) -> Iterator[tuple[str, Result]]:
        """Yield name and result of this run's photographs that have a result for these settings."""
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
        """Commit everything recorded inside together; roll back after an error."""
        with self._lock:
            self._rows("BEGIN", ())
            try:
                yield
                self._rows("COMMIT", ())
            except BaseException:
                with suppress(sqlite3.Error):  # a full disk has rolled back already
                    self._database.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _rows(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with self._guarded():
            return self._database.execute(query, values).fetchall()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Lock out other threads, and convert SQLite's errors to the documented ones."""
        try:
            with self._lock:
                yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                raise ConfigError(
                    f"the ledger {str(self._path)!r} cannot be used: {error}. You may delete it: then "
                    "every photograph is tagged again, and nothing else is lost."
                ) from error
            number = _ERRNO.get(code, errno.EIO)
            raise OSError(number, f"the ledger cannot be used: {error}", str(self._path)) from error


def state_folder(album: Path, chosen: Path | None = None) -> Path:
    """Return the folder of an album's state; it may not exist yet.

    Args:
        album: the album's folder.
        chosen: where the user wants it: a folder that gets one for each album, or the state of one album.
            Otherwise the album's own ``.autotag`` if there is one, else a folder in ``$AUTOTAG_STATE``, else
            in ``albums`` in the platform's state folder of autotag (``~/.local/state/autotag`` on Linux).
    """
    if chosen is not None and is_state(chosen):
        return chosen
    whole = album.resolve()
    if chosen is None and (whole / IN_ALBUM).is_dir():
        return whole / IN_ALBUM
    key = hashlib.sha256(os.fsencode(whole)).hexdigest()[:16]
    return (chosen or _user_folder()) / f"{_plain(whole.name)}-{key}"


def state_folders(chosen: Path | None = None) -> list[Path]:
    """Return the states in the user's state folder, or in the chosen one, by name."""
    folder = chosen or _user_folder()
    return sorted(path for path in folder.iterdir() if is_state(path)) if folder.is_dir() else []


def _user_folder() -> Path:
    named = os.environ.get(STATE_VARIABLE)
    return Path(named).expanduser() if named else user_state_path("autotag", appauthor=False) / "albums"


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)[:40]


@contextmanager
def locked(album: Path, *states: Path) -> Iterator[None]:
    """Lock an album, the folders in it and the folders around it against a second run.

    The album's folder is locked for this run alone, those around it for all who lock folders inside them;
    no file is written for that. Where the system cannot lock folders, the states are locked.

    Raises:
        ConfigError: another run is at work, or a state cannot be locked.
        OSError: the folder of a state cannot be made.
    """
    with ExitStack() as held:
        try:
            for state in states:
                _lock_state(state, held)
            _lock_folders(album.resolve(), held)
        except BlockingIOError as error:
            raise ConfigError(
                f"another run of autotag is writing {str(album)!r}, or a folder inside or around it. "
                "Wait for it."
            ) from error
        yield


def _lock_state(state: Path, held: ExitStack) -> None:
    """Lock a state by an exclusive transaction of a database that serves as a lock."""
    state.mkdir(parents=True, exist_ok=True)
    try:
        guard = held.enter_context(closing(sqlite3.connect(state / LOCK, timeout=0, isolation_level=None)))
        guard.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) == sqlite3.SQLITE_BUSY:
            raise BlockingIOError from error
        raise ConfigError(f"the state folder {str(state)!r} cannot be used: {error}.") from error


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
    """Return a digest of plain data, the same in every process."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _packed(result: Result) -> bytes:
    return zlib.compress(json_text(result).encode(), 1)


def _unpacked(packed: bytes) -> Result:
    with suppress(KeyError, TypeError, ValueError, zlib.error):
        return Result.from_dict(json.loads(zlib.decompress(packed)))
    raise ConfigError("the ledger holds a result of another version of autotag; delete it.")
