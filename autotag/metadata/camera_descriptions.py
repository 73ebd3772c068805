"""Tell a camera's default description from a person's."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path

from autotag.metadata.keywords import clean, fold

_LIST = Path(__file__).resolve().parent.parent / "data" / "camera_descriptions.toml"
_LONGEST = 200  # characters; a longer description was written by a person


def is_from_camera(description: str, *, make: str = "", model: str = "") -> bool:
    """Return whether a camera or program wrote the description by itself.

    Args:
        description: the whole text.
        make: the maker of the camera, from EXIF.
        model: the model of the camera, from EXIF.
    """
    text = fold(description)
    if len(text) > _LONGEST:
        return False
    names = {fold(make), fold(model), fold(f"{make} {model}")}
    phrases, patterns = _known()
    return text in names or text in phrases or any(pattern.fullmatch(text) for pattern in patterns)


@cache
def _known() -> tuple[frozenset[str], tuple[re.Pattern[str], ...]]:
    """Return the phrases and patterns of the bundled list."""
    found = tomllib.loads(_LIST.read_text(encoding="utf-8"))
    return frozenset(map(clean, found["phrases"])), tuple(map(re.compile, found["patterns"]))
