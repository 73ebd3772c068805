"""The user's cache folder. Its content can be recreated, so it may be deleted at any time."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_path

FOLDER_VARIABLE = "AUTOTAG_CACHE"
"""Environment variable that sets the cache folder."""


def user_cache() -> Path:
    r"""Return ``$AUTOTAG_CACHE`` if it is set, else the platform's cache folder; it may not exist yet.

    The platform's folder is ``$XDG_CACHE_HOME/autotag`` or ``~/.cache/autotag`` on Linux,
    ``~/Library/Caches/autotag`` on macOS and ``%LOCALAPPDATA%\autotag\Cache`` on Windows.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named).expanduser() if named else user_cache_path("autotag", appauthor=False)


def delete_oldest(folder: Path, pattern: str, *, above: int, down_to: int) -> None:
    """Delete the files of a cache that were used least recently, if they have more than ``above`` bytes.

    The latest one stays, and so does a file that cannot be deleted. On POSIX systems, a program that has a
    deleted file open goes on reading it.

    Args:
        folder: of the cache; it may not exist.
        pattern: of the files in it, as for ``Path.glob``. Their modification times say when they were used.
        above: bytes.
        down_to: bytes that stay at most.
    """
    found = []
    for path in folder.glob(pattern):
        with suppress(OSError):
            facts = path.stat()
            found.append((facts.st_mtime, facts.st_size, path))
    left = sum(size for _, size, _ in found)
    if left <= above:
        return
    for _, size, path in sorted(found)[:-1]:
        if left <= down_to:
            break
        with suppress(OSError):
            path.unlink()
            left -= size
