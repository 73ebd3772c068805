"""The word lists of CLIP Interrogator, read from its package where that is installed.

They are that project's own (package ``clip-interrogator``, MIT) and no part of autotag. Nothing of it is
imported: the lists are files in its folder ``data``, and the sites of its trendings stand in its source.
"""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from autotag.errors import ConfigError, UnknownNameError

Part = Literal["mediums", "artists", "movements", "trendings", "flavors", "negatives"]
PARTS: tuple[Part, ...] = get_args(Part)

_FILES = {"negatives": "negative.txt"}
_INSTALL = "install it: pip install clip-interrogator"


def clip_interrogator_labels(part: Part) -> tuple[str, ...]:
    """The labels of a part exactly as CLIP Interrogator 0.6.0 makes them, in its order.

    Repeated and empty labels are there, because their places decide which labels it compares:
    ``Vocabulary.from_clip_interrogator`` leaves them out. Artists come twice, with "by" and "inspired by".

    Raises:
        UnknownNameError: there is no such part.
        ConfigError: its package is not installed, or is not laid out as 0.6.0 is.
    """
    if part not in PARTS:
        raise UnknownNameError("part of CLIP Interrogator", part, PARTS)
    folder = _package_folder()
    if part == "trendings":
        return _trendings(_sites(folder / "clip_interrogator.py"))
    lines = _lines(folder / "data" / _FILES.get(part, f"{part}.txt"))
    if part == "artists":
        return tuple(f"{how} {artist}" for how in ("by", "inspired by") for artist in lines)
    return lines


def _package_folder() -> Path:
    spec = find_spec("clip_interrogator")
    if spec is None or not spec.origin:
        raise ConfigError(
            f"the package clip-interrogator, whose lists are asked for, is not installed; {_INSTALL}"
        )
    return Path(spec.origin).parent


def _lines(path: Path) -> tuple[str, ...]:
    """As its ``load_list`` reads: bytes that are not UTF-8 replaced, white space around a line taken off."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return tuple(line.strip() for line in file)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}; {_INSTALL}==0.6.0") from error


def _sites(source: Path) -> tuple[str, ...]:
    """The sites that its source lists; versions differ in how they spell one of them."""
    for node in ast.walk(ast.parse("\n".join(_lines_of_source(source)))):
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["sites"]:
            return tuple(ast.literal_eval(node.value))
    raise ConfigError(f"{source} lists no sites; {_INSTALL}==0.6.0")


def _lines_of_source(source: Path) -> list[str]:
    try:
        return source.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{source} cannot be read: {error.strerror or error}; {_INSTALL}==0.6.0") from error


def _trendings(sites: tuple[str, ...]) -> tuple[str, ...]:
    """Each phrase with all sites, then the next phrase."""
    phrases = ("{}", "trending on {}", "featured on {}", "{} contest winner")
    return tuple(phrase.format(site) for phrase in phrases for site in sites)
