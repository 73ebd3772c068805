"""Changes to an album's files that can be journalled first, interrupted anywhere, and undone."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotag import registry
from autotag.albums.state.folder_names import FILM_SUFFIXES, PICTURE_SUFFIXES
from autotag.checks import check_row, shown
from autotag.errors import ConfigError, FileChangedError, MetadataError
from autotag.files.replacing import (
    FileState,
    PartFile,
    digest_of,
    lies_in,
    read_with_state,
    remove_file,
    replace_file,
    sha256,
    state_of,
)
from autotag.files.system_calls import SYSTEM, SystemCalls, is_there

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from autotag.protocols import FileChange


@dataclass(frozen=True)
class TextChange:
    """A small file beside a photograph that is made or replaced.

    Attributes:
        path: the file.
        before: what was in it; None when there was none.
        after: digest of what will be in it.
        content: what will be in it; None once read from a journal, for undoing needs it no more.
        state: in which it was read; None when there was none.
        mtime_ns: its time of change before, which undoing brings back; None when there was none.
        calls: the operating system.
    """

    path: Path
    before: bytes | None
    after: str
    content: bytes | None = None
    state: FileState | None = field(default=None, compare=False)
    mtime_ns: int | None = None
    calls: SystemCalls = field(default=SYSTEM, repr=False, compare=False)

    kind = "text"

    @classmethod
    def planned(cls, path: Path, content: bytes, *, before: tuple[bytes, FileState] | None) -> TextChange:
        """Plan to change what ``read_if_there`` found to ``content``.

        Raises:
            MetadataError: it would be written over a photograph or film, by its name or by a link.
        """
        suffixes = {path.suffix.lower(), os.path.splitext(os.path.realpath(path))[1].lower()}  # noqa: PTH122
        if suffixes & (PICTURE_SUFFIXES | FILM_SUFFIXES):
            raise MetadataError(str(path), "it is a photograph or film; text does not overwrite it")
        old, state = before or (None, None)
        return cls(path, old, sha256(content), content, state, state.mtime_ns if state else None)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return the one file that changes."""
        return (self.path,)

    @property
    def digests(self) -> Mapping[Path, frozenset[str]]:
        """Return the SHA-256 of the content before and after."""
        before = set() if self.before is None else {sha256(self.before)}
        return {self.path: frozenset({self.after} | before)}

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of JSON types; the old content is base64."""
        before = None if self.before is None else b64encode(self.before).decode()
        return {
            "path": os.fspath(self.path),
            "before": before,
            "after": self.after,
            "mtime_ns": self.mtime_ns,
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> TextChange:
        """Return the change from the dictionary that ``to_dict`` made.

        Raises:
            ConfigError: a field is unknown, missing or of another type.
            ValueError: the old content is not base64.
        """
        what = "a text's change"
        check_row(what, record, path="text", before="text?", after="text", mtime_ns="whole?")
        before = None if record["before"] is None else b64decode(record["before"], validate=True)
        return cls(Path(record["path"]), before, record["after"], mtime_ns=record["mtime_ns"])

    def describe(self) -> str:
        """Return what the change does, for people."""
        return f"{'writes' if self.before is None else 'changes'} {self.path.name}"

    def apply(self) -> tuple[str, ...]:
        """Write the new content as ``replace_file`` does."""
        assert self.content is not None  # noqa: S101 - a change read from a journal is only undone
        return replace_file(self.path, self.content, expected=self.state, calls=self.calls)

    def undo(self) -> tuple[str, ...]:
        """Bring the former content back, or remove the file if there was none.

        Raises:
            FileChangedError: somebody changed it since, or deleted what had been there before.
        """
        found = read_if_there(self.path, calls=self.calls)
        if found is None:
            if self.before is not None:
                raise FileChangedError(
                    str(self.path), "it is gone; what it was before is in the journal only"
                )
            return ()
        content, state = found
        if content == self.before:
            return ()
        if sha256(content) != self.after:
            raise FileChangedError(str(self.path), "another program changed it since, so it stays unchanged")
        if self.before is None:
            remove_file(self.path, expected=state, calls=self.calls)
            return ()
        return replace_file(self.path, self.before, expected=state, mtime_ns=self.mtime_ns, calls=self.calls)


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

    def undo(self) -> tuple[str, ...]:
        """Move back the moved files; skip files deleted since.

        Raises:
            FileChangedError: a former name was taken by another file.
            OSError: the system refused.
        """
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


def _was_never_moved(source: Path, target: Path, inode: int) -> bool:
    """Return whether a file still has its old name while another file has the new one."""
    return is_there(source) and not same_entry(source, target) and source.lstat().st_ino == inode


def _check_names(moves: Iterable[tuple[Path, Path]]) -> None:
    """Refuse a name that another file has, before anything is moved."""
    for source, target in moves:
        if is_there(target) and is_there(source) and not same_entry(source, target):
            raise FileChangedError(
                str(source), f"another file is called {target.name} meanwhile; give that another name"
            )


@dataclass(frozen=True)
class OutputChange:
    """Replace a result file of a whole album.

    Attributes:
        path: the file.
        after: digest of what is written into it.
        before: digest of what autotag had written there earlier; empty when there was no file.
        part: the hidden file beside it that holds the content; None once read from a journal.
        state: of the earlier file; None when there was none.
        calls: the operating system.
    """

    path: Path
    after: str
    before: str = ""
    part: PartFile | None = field(default=None, repr=False, compare=False)
    state: FileState | None = field(default=None, repr=False, compare=False)
    calls: SystemCalls = field(default=SYSTEM, repr=False, compare=False)

    kind = "output"

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return the one file that changes."""
        return (self.path,)

    @property
    def digests(self) -> Mapping[Path, frozenset[str]]:
        """Return the SHA-256 of the content before and after."""
        return {self.path: frozenset({self.before, self.after})}

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of JSON types."""
        return {"path": os.fspath(self.path), "after": self.after, "before": self.before}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> OutputChange:
        """Return the change from the dictionary that ``to_dict`` made.

        Raises:
            ConfigError: a field is unknown, missing or of another type.
        """
        what = "a change of a file of results"
        check_row(what, record, path="text", after="text", before="text")
        return cls(Path(record["path"]), record["after"], record["before"])

    def describe(self) -> str:
        """Return what the change does, for people."""
        return f"writes {self.path.name}"

    def apply(self) -> tuple[str, ...]:
        """Move the hidden file to its place.

        Raises:
            FileChangedError: another program changed the file since; it stays unchanged.
            MetadataError: the hidden file reads back with other content.
        """
        assert self.part is not None  # noqa: S101 - a change read from a journal is only undone
        if digest_of(self.part.path) != self.after:
            raise MetadataError(str(self.path), "the content read back differs from what was written")
        self.part.place(self.state, self.path)
        self.part.discard()  # here, so that what it replaced is gone before the step counts as taken
        with suppress(OSError):
            self.calls.sync_folder(self.path.parent)
        return ()

    def undo(self) -> tuple[str, ...]:
        """Remove it.

        Raises:
            FileChangedError: another program changed it since, so it stays unchanged.
        """
        state = state_of(self.path, calls=self.calls)
        if state is None:
            return ()
        found = digest_of(self.path)
        if found == self.before:
            return ()
        if found != self.after:
            raise FileChangedError(str(self.path), "another program changed it since, so it stays unchanged")
        remove_file(self.path, expected=state, calls=self.calls)
        return ()


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


def read_if_there(path: Path, *, calls: SystemCalls = SYSTEM) -> tuple[bytes, FileState] | None:
    """Return content and state of a file, or None when it does not exist.

    Raises:
        FileChangedError: it changed while autotag read it.
        MetadataError: it cannot be read.
    """
    try:
        return read_with_state(path, calls=calls)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MetadataError(str(path), f"it cannot be read: {error.strerror}") from error


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
