"""The hidden files beside replaced files: their names, and what killed runs left of them."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from autotag.files.file_states import sha256
from autotag.files.system_calls import SYSTEM, SystemCalls

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

_LONGEST_NAME = 180  # bytes; leaves room for the prefix and suffix of a hidden file
_OLD = 3600.0  # seconds
_TOKEN = 8  # random bytes in a hidden file's name, so that it cannot be guessed
_HIDDEN = re.compile(r"\.(.+)\.[0-9a-f]{16}\.autotag-(part|swap)", re.DOTALL)


def numbered(path: Path) -> Iterator[Path]:
    """Yield alternative names for a name that is taken: ``tags (2).csv``, ``tags (3).csv`` ..."""
    for number in count(2):
        yield path.with_name(f"{path.stem} ({number}){path.suffix}")


def clear_leftovers(files: Mapping[Path, Collection[str]], *, calls: SystemCalls = SYSTEM) -> tuple[str, ...]:
    """Delete the hidden files that killed runs left beside files.

    If one may hold another program's edit from the moment of the kill, it is made visible instead.

    Args:
        files: file -> SHA-256 digests of its old and new content; hidden copies of these are deleted.
        calls: the system calls.

    Returns:
        Notes for the user, as whole sentences.
    """
    folders: dict[Path, dict[str, Path]] = {}
    for path in files:
        target = Path(os.path.realpath(path))
        folders.setdefault(target.parent, {})[_visible_part(target.name)] = path
    notes: list[str] = []
    for folder, by_name in folders.items():
        for found, name, kind in _hidden_files(folder):
            if name in by_name:
                notes += _cleared(found, kind, by_name[name], files[by_name[name]], calls)
    return tuple(notes)


def clear_old_parts(target: Path) -> None:
    """Delete the hidden parts of a file that nothing has written for an hour: killed runs left them."""
    for found, name, kind in _hidden_files(target.parent):
        if kind == "part" and name == _visible_part(target.name):
            with suppress(OSError):
                if time.time() - found.stat().st_mtime > _OLD:
                    found.unlink()


def hidden_path(target: Path, kind: Literal["part", "swap"]) -> Path:
    """Return a path in the target's folder whose name cannot be guessed."""
    return target.with_name(f".{_visible_part(target.name)}.{secrets.token_hex(_TOKEN)}.autotag-{kind}")


def kept_beside(hidden: Path, target: Path, calls: SystemCalls, *, first: bool = False) -> Path:
    """Make a hidden file visible: under the target's name if ``first`` and free, else a numbered one."""
    if first:
        with suppress(FileExistsError):
            calls.rename_new(hidden, target)
            return target
    for name in numbered(target):
        with suppress(FileExistsError):
            calls.rename_new(hidden, name)
            return name
    raise AssertionError("the numbers never run out")  # pragma: no cover


def _hidden_files(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield autotag's hidden files in a folder, each with its target's name and its kind."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _HIDDEN.fullmatch(entry.name)
            if match is not None and entry.is_file(follow_symlinks=False):
                yield folder / entry.name, match[1], match[2]


def _cleared(
    found: Path, kind: str, path: Path, known: Collection[str], calls: SystemCalls
) -> tuple[str, ...]:
    with suppress(OSError):
        if kind == "part" or sha256(calls.read(found)) in known:
            calls.unlink(found)
            return ()
        kept = kept_beside(found, Path(os.path.realpath(path)), calls, first=True)
        return (f"{kept}: a run was killed while another program wrote {path.name}; this is what it wrote.",)
    return ()


def _visible_part(name: str) -> str:
    """Return the part of a hidden file's name that stands for its target: the name, or a digest if long."""
    if len(os.fsencode(name)) > _LONGEST_NAME:
        return hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return name
