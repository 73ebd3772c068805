"""The file of an index: SQLite tables, their version, and how a file is opened.

Tables: ``photo`` (one row per photograph), ``tag`` (the models' tags and people's keywords), ``concept`` (the
vocabulary's label of a tag in another language: "dog" for "Hund"), ``vector`` (float16), ``words`` (full
text, FTS5) and ``about`` (encoder, dimension, generation).
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from autotag.errors import SearchIndexError
from autotag.files.file_states import unwritable_folder
from autotag.search.filters import distance_km, in_lower_case
from autotag.search.text_query import VARIATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

APPLICATION_ID = 0x41755467
"""What SQLite keeps in the file's head, so that a file of another program is told apart."""

MEMORY = ":memory:"
"""SQLite's name for an index that never has a file."""
_WAIT = 30.0  # seconds that a writer waits for another

_MIGRATIONS = (
    """
    CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE photo (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        path BLOB NOT NULL UNIQUE,
        bytes INTEGER, mtime_ns INTEGER, digest TEXT,
        width INTEGER NOT NULL, height INTEGER NOT NULL,
        taken TEXT, camera TEXT, latitude REAL, longitude REAL,
        caption TEXT NOT NULL, error TEXT,
        offline INTEGER NOT NULL DEFAULT 0,
        generation INTEGER NOT NULL
    );
    CREATE INDEX photo_digest ON photo(digest);
    CREATE INDEX photo_taken ON photo(taken);
    CREATE TABLE tag (
        photo INTEGER NOT NULL REFERENCES photo(id) ON DELETE CASCADE,
        place INTEGER NOT NULL,
        text TEXT NOT NULL, folded TEXT NOT NULL,
        score REAL, source TEXT NOT NULL,
        PRIMARY KEY (photo, place)
    ) WITHOUT ROWID;
    CREATE INDEX tag_folded ON tag(folded, photo);
    CREATE TABLE vector (
        photo INTEGER PRIMARY KEY REFERENCES photo(id) ON DELETE CASCADE, value BLOB NOT NULL
    );
    CREATE VIRTUAL TABLE words USING fts5(
        caption, tags, keywords, name, tokenize = "porter unicode61 remove_diacritics 2"
    );
    CREATE TRIGGER photo_gone AFTER DELETE ON photo BEGIN DELETE FROM words WHERE rowid = old.id; END;
    """,
    "ALTER TABLE photo ADD COLUMN sidecars TEXT NOT NULL DEFAULT '';",
    """
    CREATE TABLE concept (
        photo INTEGER NOT NULL REFERENCES photo(id) ON DELETE CASCADE,
        folded TEXT NOT NULL,
        PRIMARY KEY (photo, folded)
    ) WITHOUT ROWID;
    CREATE INDEX concept_folded ON concept(folded, photo);
    """,
    """
    CREATE VIRTUAL TABLE new_words USING fts5(
        caption, tags, keywords, name,
        tokenize = "porter unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc' separators 'VARIATIONS'"
    );
    INSERT INTO new_words (rowid, caption, tags, keywords, name)
    SELECT rowid, caption, replace(tags, char(10), ' ' || char(42895) || ' '),
        replace(keywords, char(10), ' ' || char(42895) || ' '), name FROM words;
    DROP TRIGGER photo_gone;
    DROP TABLE words;
    ALTER TABLE new_words RENAME TO words;
    CREATE TRIGGER photo_gone AFTER DELETE ON photo BEGIN DELETE FROM words WHERE rowid = old.id; END;
    """.replace("VARIATIONS", VARIATIONS),
)
"""One script per version of the schema; each brings a file from the version before to its own."""

VERSION = len(_MIGRATIONS)


def connect(path: Path, *, create: bool) -> sqlite3.Connection:
    """Open an index and bring it to this version's tables; one that is new is in memory until ``made``.

    Raises:
        SearchIndexError: there is no such file and ``create`` is False, it is not an index, it is damaged, a
            newer autotag wrote it, or it cannot be read or made.
    """
    try:
        is_file = stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 - says why
    except (FileNotFoundError, NotADirectoryError):
        is_file = False
    except (OSError, ValueError) as error:
        raise SearchIndexError(
            str(path), f"it cannot be opened: {getattr(error, 'strerror', error)}."
        ) from error
    if not create and not is_file:
        raise SearchIndexError(str(path), "there is no such index; `autotag index FOLDER` makes one.")
    if os.path.exists(path):  # noqa: PTH110 - names of any length
        return _connected(path, path)
    folder = unwritable_folder(path)
    if folder is not None:
        raise SearchIndexError(str(path), f"it cannot be made: nothing can be written in {str(folder)!r}.")
    return _connected(path, MEMORY)


def made(path: Path, connection: sqlite3.Connection) -> sqlite3.Connection:
    """Return a connection to the file of an index that is open, after making it if it is new.

    Raises:
        SearchIndexError: it cannot be made.
    """
    file = connection.execute("PRAGMA database_list").fetchone()[2]
    if file or str(path) == MEMORY:
        return connection
    _make_folder(path)
    in_file = _connected(path, path)
    connection.close()
    return in_file


def _connected(path: Path, database: Path | str) -> sqlite3.Connection:
    with readable(path):
        uri = None if database == MEMORY else _read_only(Path(os.path.realpath(path)))
        connection = sqlite3.connect(
            uri or database,
            timeout=_WAIT,
            isolation_level=None,
            check_same_thread=False,
            uri=uri is not None,
        )
        connection.create_function("distance_km", 4, distance_km, deterministic=True)
        connection.create_function("in_lower_case", 1, in_lower_case, deterministic=True)
        try:
            (_prepare if uri is None else _check_complete)(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _read_only(path: Path) -> str | None:
    """Return the URI of a file that cannot be written, or in whose folder nothing can be; None for others.

    Where there is no log, SQLite must be told that it need not make one.
    """
    if not path.is_file() or (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        return None
    log = path.with_name(path.name + "-wal")
    has_log = log.exists() and log.stat().st_size > 0
    return path.as_uri() + ("?mode=ro" if has_log else "?mode=ro&immutable=1")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into one that names the index and the way out.

    Raises:
        SearchIndexError: in their place.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        reason = str(error)
        if "locked" in reason:
            reason = "another program has been writing it for too long; try again when it is done."
        elif "readonly" in reason:
            reason = "it cannot be changed: the file, its folder or the disk is read-only for this user."
        elif "within a transaction" in reason:
            reason = "another thread is using this object; open the index once for each thread."
        elif "full" in reason:
            reason = "the disk is full; make room and run the same command again. What was written is safe."
        elif "unable to open" in reason and path.is_dir():
            reason = "it is a folder, not the file of an index."
        raise SearchIndexError(str(path), reason) from error
    except sqlite3.ProgrammingError as error:
        reason = "it was closed; open it again." if "closed" in str(error) else str(error)
        raise SearchIndexError(str(path), reason) from error
    except sqlite3.IntegrityError as error:
        raise SearchIndexError(str(path), f"a change does not fit what is there: {error}.") from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        reason = f"{error}; it is damaged or not an index. Move it away and run `autotag index` again."
        raise SearchIndexError(str(path), reason) from error


def about_of(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the facts about an index: id, generation, encoder, encoder_name, dimension."""
    return dict(connection.execute("SELECT key, value FROM about"))


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SearchIndexError(str(path), f"its folder cannot be made: {error.strerror}") from error


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    version = _checked_version(connection, path)
    _use_log(connection)
    connection.execute("PRAGMA synchronous = NORMAL")
    if version == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for number in range(_checked_version(connection, path), VERSION):  # another run may have been first
            _migrate(connection, number)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _check_complete(connection: sqlite3.Connection, path: Path) -> None:
    if _checked_version(connection, path) < VERSION:
        reason = "an earlier autotag made it, and it is read-only here; open it once where it can be written."
        raise SearchIndexError(str(path), reason)


def _use_log(connection: sqlite3.Connection) -> None:
    """Let readers and a writer work at once (WAL); SQLite itself does not wait here for other programs."""
    end = time.monotonic() + _WAIT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


def _checked_version(connection: sqlite3.Connection, path: Path) -> int:
    """Return the version of the file's tables; 0 for a file without any.

    Raises:
        SearchIndexError: the file is of another program, or of a newer version.
    """
    owner, version, tables = connection.execute(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master) "
        "FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    if owner != APPLICATION_ID and (tables or version or owner):
        raise SearchIndexError(str(path), "it is a database of another program; choose another file.")
    if version > VERSION:
        reason = (
            f"a newer autotag wrote it (version {version} of its tables, known are up to {VERSION}); update."
        )
        raise SearchIndexError(str(path), reason)
    return int(version)


def _migrate(connection: sqlite3.Connection, number: int) -> None:
    """Run one script, statement by statement: ``executescript`` would commit before it."""
    statement = ""
    for line in _MIGRATIONS[number].splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
    if number == 0:
        facts = {"id": uuid.uuid4().hex, "generation": "0"}
        connection.executemany("INSERT INTO about VALUES (?, ?)", facts.items())
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {number + 1}")
