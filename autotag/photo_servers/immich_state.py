"""What autotag did on an Immich server, per user: one SQLite file in the user's state folder.

A row says that autotag gives one tag to one photograph. It is synced to disk as ``planned`` before the
server is asked, and becomes ``written`` after it answered; so after a kill at any moment the rows are all
that may have been written, and the planned ones are looked up on the server. A tag that a photograph had
before gets no row: it is not autotag's to remove.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_state_path

from autotag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

STATE_VARIABLE = "AUTOTAG_STATE"
_VERSION = 1
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS photos (asset TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS links (
    asset TEXT, tag TEXT, state TEXT CHECK (state IN ('planned', 'written')), PRIMARY KEY (tag, asset)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS planned ON links (asset) WHERE state = 'planned';
PRAGMA user_version = {_VERSION};
"""


def state_file(user: str, chosen: Path | None = None) -> Path:
    """Return the state of a user of a server; it may not exist yet.

    Args:
        user: the user's id, which is the same at every address of the server.
        chosen: the folder for it; by default ``immich`` in ``$AUTOTAG_STATE`` or in the platform's state
            folder of autotag (``~/.local/state/autotag`` on Linux).
    """
    if chosen is None:
        named = os.environ.get(STATE_VARIABLE)
        root = Path(named).expanduser() if named else user_state_path("autotag", appauthor=False)
        chosen = root / "immich"
    return chosen / f"{user}.sqlite"


class ImmichState:
    """Keep which photographs are done and which tags autotag gave.

    Use ``opened``, which locks it.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def is_done(self, asset: str) -> bool:
        """Return whether a photograph was tagged before."""
        return bool(self._rows("SELECT 1 FROM photos WHERE asset = ?", asset))

    def plan(self, asset: str, tags: Iterable[str]) -> None:
        """Record on disk that tags, by id, are about to be given to a photograph that has none of them."""
        self._each("INSERT OR IGNORE INTO links VALUES (?, ?, 'planned')", [(asset, tag) for tag in tags])

    def finish(self, asset: str) -> None:
        """Record that a photograph is done and has the planned tags."""
        with self._database:
            self._database.execute("UPDATE links SET state = 'written' WHERE asset = ?", (asset,))
            self._database.execute("INSERT OR IGNORE INTO photos VALUES (?)", (asset,))

    def planned(self) -> dict[str, set[str]]:
        """Return by photograph the tags that may or may not have been given."""
        found: dict[str, set[str]] = {}
        for asset, tag in self._rows("SELECT asset, tag FROM links WHERE state = 'planned'"):
            found.setdefault(asset, set()).add(tag)
        return found

    def given(self) -> dict[str, list[str]]:
        """Return by tag the photographs that autotag gave it to, or may have."""
        found: dict[str, list[str]] = {}
        for tag, asset in self._rows("SELECT tag, asset FROM links ORDER BY tag, asset"):
            found.setdefault(tag, []).append(asset)
        return found

    def forget(self, tag: str, assets: Iterable[str]) -> None:
        """Record that photographs do not have a tag from autotag."""
        self._each("DELETE FROM links WHERE asset = ? AND tag = ?", [(asset, tag) for asset in assets])

    def forget_photos(self) -> None:
        """Record that the photographs without a tag from autotag are not done."""
        with self._database:
            self._database.execute("DELETE FROM photos WHERE asset NOT IN (SELECT asset FROM links)")

    def _rows(self, query: str, *values: str) -> list[tuple[str, ...]]:
        return list(self._database.execute(query, values))

    def _each(self, query: str, rows: list[tuple[str, str]]) -> None:
        with self._database:
            self._database.executemany(query, rows)


@contextmanager
def opened(path: Path, *, read_only: bool = False) -> Iterator[ImmichState]:
    """Open a state, made if it is missing, for this run alone.

    Args:
        path: see ``state_file``.
        read_only: change nothing on disk; a missing state is an empty one.

    Raises:
        ConfigError: another run has it, a newer autotag wrote it, or it cannot be used.
    """
    try:
        with closing(_connected(path, read_only=read_only)) as database:
            yield ImmichState(database)
    except (sqlite3.Error, OSError) as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_BUSY:
            raise ConfigError(f"another run has the state {str(path)!r}. Wait for it.") from error
        raise ConfigError(f"the state {str(path)!r} cannot be used: {error}.") from error


def _connected(path: Path, *, read_only: bool) -> sqlite3.Connection:
    if read_only:
        place = f"{path.absolute().as_uri()}?mode=ro" if path.exists() else ":memory:"
        database = sqlite3.connect(place, uri=True, timeout=0)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(path, timeout=0)
    try:
        _prepare(database, path, make=not (read_only and path.exists()), alone=not read_only)
    except BaseException:
        database.close()
        raise
    return database


def _prepare(database: sqlite3.Connection, path: Path, *, make: bool, alone: bool) -> None:
    if alone:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
    [[version]] = database.execute("PRAGMA user_version")
    if version > _VERSION:
        raise ConfigError(f"the state {str(path)!r} is from a newer autotag; update this one.")
    database.execute("PRAGMA synchronous = FULL")
    if make:
        database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
