"""The user's cache folder: what is kept there can be made again, and may be deleted at any time."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER_VARIABLE = "AUTOTAG_CACHE"
"""Environment variable that names the folder of the cache."""


def user_cache() -> Path:
    """Return ``$AUTOTAG_CACHE``, else ``autotag`` in the user's cache folder; it may not exist yet."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named).expanduser()
    user = os.environ.get("XDG_CACHE_HOME")
    return (Path(user) if user else Path("~/.cache").expanduser()) / "autotag"
