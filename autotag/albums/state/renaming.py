"""Renaming of photographs and their companions, never over another file."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotag.config.checks import check_row, shown
from autotag.errors import ConfigError, FileChangedError, MetadataError
from autotag.files.system_calls import SYSTEM, SystemCalls, is_there

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True)
class RenameChange:
    """Rename a photograph and its companions together, in their folder.

    Attributes:
        moves: old and new path of each; the photograph is the first.
        inodes: of each file on its device, by which one that was never moved is known.
        calls: the operating system.
    """

    moves: tuple[tuple[Path, Path], ...]
    inodes: tuple[int, ...]
    calls: SystemCalls = field(default=SYSTEM, repr=False, compare=False)

    kind = "rename"

    @classmethod
    def planned(cls, moves: Sequence[tuple[Path, Path]]) -> RenameChange:
        """Plan to give files that are there new names.

        Raises:
            MetadataError: two of them would get one name.
            OSError: one of them is gone.
        """
        targets = [target for _, target in moves]
        for source, target in moves:
            if targets.count(target) > 1:
                raise MetadataError(str(source), f"another file would get the name {target.name} too")
        return cls(tuple(moves), tuple(source.lstat().st_ino for source, _ in moves))

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return the old and the new name of every file."""
        return tuple(path for move in self.moves for path in move)

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of JSON types."""
        moves = [[os.fspath(source), os.fspath(target)] for source, target in self.moves]
        return {"moves": moves, "inodes": list(self.inodes)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> RenameChange:
        """Return the change from the dictionary that ``to_dict`` made.

        Raises:
            ConfigError: a field is unknown, missing or of another type, or the numbers of files differ.
        """
        what = "a change of names"
        check_row(what, record, moves="list", inodes="list")
        for pair in record["moves"]:
            check_row(what, {"moves": pair}, moves="texts")
            if len(pair) != 2:
                raise ConfigError(f"{what}: a move is {shown(pair)}, expected [old name, new name]")
        if not all(type(inode) is int for inode in record["inodes"]):
            raise ConfigError(f"{what}: the field 'inodes' is {shown(record['inodes'])}, not whole numbers")
        moves = tuple((Path(source), Path(target)) for source, target in record["moves"])
        inodes = tuple(map(int, record["inodes"]))
        if not moves or len(moves) != len(inodes):
            raise ConfigError(f"{what}: the files and their numbers do not match")
        return cls(moves, inodes)

    def describe(self) -> str:
        """Return what the change does, for people."""
        (source, target), *others = self.moves
        along = f", and {len(others)} more with it" if others else ""
        return f"renames {source.name} to {target.name}{along}"

    def apply(self) -> tuple[str, ...]:
        """Move files that are not moved yet; if one fails, move back the files that this call moved.

        Raises:
            FileChangedError: a name was taken by another file, or a file is gone.
            OSError: the system refused.
        """
        _check_names(self.moves)
        moved: list[tuple[Path, Path]] = []
        try:
            for source, target in self.moves:
                if move(source, target, calls=self.calls):
                    moved.append((source, target))
        except (FileChangedError, OSError):
            for source, target in reversed(moved):
                move(target, source, calls=self.calls)
            raise
        return self._synced()

    def missing(self) -> Path | None:
        """Return the photograph's new name if it has neither that nor its old one."""
        source, target = self.moves[0]
        return None if is_there(source) or is_there(target) else target

    def undo(self) -> tuple[str, ...]:
        """Move back the moved files; skip files deleted since. Without the photograph, move none.

        Raises:
            FileChangedError: a former name was taken by another file.
            OSError: the system refused.
        """
        if self.missing() is not None:
            return ()
        back = [(target, source) for source, target in reversed(self._moved())]
        _check_names(back)
        for target, source in back:
            move(target, source, calls=self.calls)
        missing = [target for source, target in self.moves if not is_there(source)]
        return (*(f"{path}: it no longer exists." for path in missing), *self._synced())

    def has_begun(self) -> bool:
        """Return whether one of the files already has its new name.

        A file that has both names, as a kill between two steps leaves it, counts; another file that has the
        new name does not.
        """
        return bool(self._moved())

    def _moved(self) -> list[tuple[Path, Path]]:
        """Return the moves that were made and whose new names still exist."""
        return [
            (source, target)
            for (source, target), inode in zip(self.moves, self.inodes, strict=True)
            if is_there(target) and not _was_never_moved(source, target, inode)
        ]

    def _synced(self) -> tuple[str, ...]:
        try:
            self.calls.sync_folder(self.moves[0][1].parent)
        except OSError as error:
            return (f"its folder could not be synced ({error.strerror}); after a power cut it may be old",)
        return ()


def move(source: Path, target: Path, *, calls: SystemCalls = SYSTEM) -> bool:
    """Rename a file, never over another one; return False when that was done already.

    Raises:
        FileChangedError: neither is there, or another file has the name.
        OSError: the system refused.
    """
    if not is_there(source):
        if not is_there(target):
            raise FileChangedError(str(source), "it no longer exists")
        return False
    if is_there(target):
        if not same_entry(source, target):
            raise FileChangedError(str(source), f"another file is called {target.name} meanwhile")
        if {source.name, target.name} <= set(os.listdir(target.parent)):  # noqa: PTH208 - names as they are
            source.unlink()  # a run was killed between making the one name and removing the other
        else:
            source.rename(target)  # one name, where the file system does not tell letters or accents apart
        return True
    try:
        calls.rename_new(source, target)
    except FileExistsError as error:
        raise FileChangedError(str(source), f"another file is called {target.name} meanwhile") from error
    return True


def same_entry(one: Path, other: Path) -> bool:
    """Return whether two names are one file, without following links."""
    first, second = one.lstat(), other.lstat()
    return (first.st_ino, first.st_dev) == (second.st_ino, second.st_dev)


def _was_never_moved(source: Path, target: Path, inode: int) -> bool:
    """Return whether a file still has its old name while another file has the new one."""
    return is_there(source) and not same_entry(source, target) and source.lstat().st_ino == inode


def _check_names(moves: Iterable[tuple[Path, Path]]) -> None:
    """Refuse a name that another file has, before anything is moved."""
    for source, target in moves:
        if is_there(target) and is_there(source) and not same_entry(source, target):
            raise FileChangedError(
                str(source), f"another file is called {target.name} by now; rename that file first"
            )
