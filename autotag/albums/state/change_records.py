"""Changes of every kind as records of a journal, and the files that they name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotag.albums.state.renaming import RenameChange
from autotag.config import registry
from autotag.config.checks import shown
from autotag.errors import ConfigError
from autotag.files.file_states import lies_in

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from autotag.protocols import FileChange


def to_record(change: FileChange) -> dict[str, Any]:
    """Return a change as JSON types, with the name of its kind.

    Raises:
        ConfigError: its kind is not registered, so that nobody could take it back.
    """
    check_kind(change)
    return {"kind": change.kind, **change.to_dict()}


def check_kind(change: FileChange) -> None:
    """Refuse a change of a kind that is not registered, so that nobody could take it back.

    Raises:
        ConfigError: the change's kind is not registered.
    """
    if change.kind not in registry.names("change"):
        raise ConfigError(
            f"a change of kind {change.kind!r} cannot be undone: register its class as an entry point "
            f'{change.kind!r} in "autotag.changes".'
        )


def from_record(record: Mapping[str, Any]) -> FileChange:
    """Make a change from a record: the inverse of ``to_record``, enough to undo it.

    Raises:
        UnknownNameError: no change of this kind is registered.
        ConfigError: the record is damaged; names the field.
        ValueError: what a field holds cannot be decoded.
    """
    if not isinstance(record.get("kind"), str):
        raise ConfigError(f"a change in a journal has no kind: {shown(dict(record))}")
    row = {name: value for name, value in record.items() if name != "kind"}
    change: FileChange = registry.resolve("change", record["kind"]).from_dict(row)
    return change


def relocated(record: Mapping[str, Any], moves: Mapping[str, str]) -> dict[str, Any]:
    """Return a record of ``to_record`` for files in folders that were moved.

    Args:
        record: of a change of any kind; files stand under ``path`` and ``moves``, at any depth.
        moves: where folders were -> where they are.
    """

    def now(path: str) -> str:
        for old, new in moves.items():
            if path.startswith(old.rstrip(os.sep) + os.sep):
                return new + path[len(old.rstrip(os.sep)) :]
        return path

    return dict(_with_paths(record, now))


def files_of(record: Mapping[str, Any]) -> list[Path]:
    """Return every file that a change's record names, see ``relocated``."""
    found: list[Path] = []

    def note(path: str) -> str:
        found.append(Path(path))
        return path

    _with_paths(record, note)
    return found


def leads_out(change: FileChange, places: Collection[Path], named: Iterable[Path] = ()) -> Path | None:
    """Return a file of a change that lies in no place once links are resolved; None when all do.

    Args:
        change: planned, or from a journal.
        places: the album's folder, and those outside it that the user let a run enter.
        named: more files that the change names and does not write; a link among them may lead anywhere, and
            so may one that is renamed.
    """
    written = [] if isinstance(change, RenameChange) else change.paths
    looked_at = [
        *((path, path) for path in written),
        *((path, path.parent) for path in (*change.paths, *named)),
    ]
    for path, found in looked_at:
        if not path.is_absolute() or ".." in path.parts or not any(lies_in(found, one) for one in places):
            return path
    return None


def _with_paths(found: Any, change: Callable[[str], str], *, is_file: bool = False) -> Any:
    """Return a record with its paths changed."""
    if isinstance(found, dict):
        return {
            key: _with_paths(
                value, change, is_file=key == "moves" or (key == "path" and isinstance(value, str))
            )
            for key, value in found.items()
        }
    if isinstance(found, list):
        return [_with_paths(value, change, is_file=is_file) for value in found]
    return change(found) if is_file and isinstance(found, str) else found
