"""The user's cache folder: what is kept there can be made again, and may be deleted at any time."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

FOLDER_VARIABLE = "AUTOTAG_CACHE"
"""Environment variable that names the folder of the cache."""


def user_cache() -> Path:
    r"""Return ``$AUTOTAG_CACHE``, else the platform's cache folder of autotag; it may not exist yet.

    That is ``~/.cache/autotag`` or in ``$XDG_CACHE_HOME`` on Linux, ``~/Library/Caches/autotag`` on macOS and
    ``%LOCALAPPDATA%\autotag\Cache`` on Windows.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named).expanduser() if named else user_cache_path("autotag", appauthor=False)
