"""The user's cache folder. Its content can be recreated, so it may be deleted at any time."""

from __future__ import annotations

import os
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
