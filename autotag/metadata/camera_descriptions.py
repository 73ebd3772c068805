"""Whether a description was written by a camera rather than by a person."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path

from autotag.metadata.keywords import clean, fold

_LIST = Path(__file__).resolve().parent.parent / "data" / "camera_descriptions.toml"
_LONGEST = 200  # characters; what is longer was written by somebody


def is_from_camera(description: str, *, make: str = "", model: str = "") -> bool:
    """Return whether a camera or program wrote the description by itself.

    Args:
        description: the whole text.
        make: of the camera, as EXIF says.
        model: likewise.
    """
    text = fold(description)
    if len(text) > _LONGEST:
        return False
    names = {fold(make), fold(model), fold(f"{make} {model}")}
    phrases, patterns = _known()
    return text in names or text in phrases or any(pattern.fullmatch(text) for pattern in patterns)


@cache
def _known() -> tuple[frozenset[str], tuple[re.Pattern[str], ...]]:
    """Return the phrases and patterns of our list."""
    found = tomllib.loads(_LIST.read_text(encoding="utf-8"))
    return frozenset(map(clean, found["phrases"])), tuple(map(re.compile, found["patterns"]))
