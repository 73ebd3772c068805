"""The word lists of CLIP Interrogator, read from its package if that is installed.

They belong to that project (package ``clip-interrogator``, MIT) and are not part of autotag. The package is
not imported: the lists are files in its folder ``data``, and the sites of its trendings are in its source.
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
    """Return the labels of a part exactly as CLIP Interrogator 0.6.0 makes them, in its order.

    Repeated and empty labels are included, because their positions decide which labels it compares;
    ``Vocabulary.from_clip_interrogator`` leaves them out. Artists come twice, with "by" and "inspired by".

    Raises:
        UnknownNameError: the part is unknown.
        ConfigError: its package is not installed, or its files differ from those of 0.6.0.
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
            f"the lists of clip-interrogator are needed, but the package is not installed; {_INSTALL}"
        )
    return Path(spec.origin).parent


def _lines(path: Path) -> tuple[str, ...]:
    """Read lines as its ``load_list`` does: replace bytes that are not UTF-8, strip white space."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return tuple(line.strip() for line in file)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}; {_INSTALL}==0.6.0") from error


def _sites(source: Path) -> tuple[str, ...]:
    """Return the sites in its source; versions spell one of them differently."""
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
    """Return each phrase with all sites, then the next phrase."""
    phrases = ("{}", "trending on {}", "featured on {}", "{} contest winner")
    return tuple(phrase.format(site) for phrase in phrases for site in sites)
