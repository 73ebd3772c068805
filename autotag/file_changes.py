"""Changes to files of an album that can be written down beforehand, stopped anywhere, and taken back."""

from __future__ import annotations

import errno
import os
from base64 import b64decode, b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotag.errors import ConfigError, FileChangedError, MetadataError
from autotag.metadata.safe_files import (
    SYSTEM,
    FileState,
    SystemCalls,
    part_path,
    read_with_state,
    remove_file,
    replace_file,
    sha256,
    state_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from autotag.protocols import FileChange

_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES)


@dataclass(frozen=True)
class TextChange:
    """A small file beside a photograph that is made or replaced.

    Attributes:
        path: the file.
        before: what was in it; None when there was none.
        after: digest of what will be in it.
        content: what will be in it; None once read from a journal, for undoing needs it no more.
        state: in which it was read; None when there was none.
        calls: the operating system.
    """

    path: Path
    before: bytes | None
    after: str
    content: bytes | None = None
    state: FileState | None = None
    calls: SystemCalls = field(default=SYSTEM, repr=False, compare=False)

    kind = "text"

    @classmethod
    def planned(cls, path: Path, content: bytes, *, before: tuple[bytes, FileState] | None) -> TextChange:
        """A change of what ``read_if_there`` found to ``content``."""
        old, state = before or (None, None)
        return cls(path, old, sha256(content), content, state)

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self.path,)

    def to_dict(self) -> dict[str, Any]:
        before = None if self.before is None else b64encode(self.before).decode()
        return {"path": os.fspath(self.path), "before": before, "after": self.after}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> TextChange:
        before = None if record["before"] is None else b64decode(record["before"])
        return cls(Path(record["path"]), before, record["after"])

    def describe(self) -> str:
        return f"{'writes' if self.before is None else 'changes'} {self.path.name}"

    def apply(self) -> tuple[str, ...]:
        """Puts the new content in its place, as ``replace_file`` does."""
        assert self.content is not None  # noqa: S101 - a change read from a journal is only undone
        return replace_file(self.path, self.content, expected=self.state, calls=self.calls)

    def undo(self) -> tuple[str, ...]:
        """Brings the former content back, or removes the file if there was none.

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
            raise FileChangedError(str(self.path), "somebody changed it since; it is left as it is")
        if self.before is None:
            remove_file(self.path, expected=state, calls=self.calls)
            return ()
        return replace_file(self.path, self.before, expected=state, calls=self.calls)


@dataclass(frozen=True)
class RenameChange:
    """Files that get new names in their folder together: a photograph and what belongs to it.

    Attributes:
        moves: old and new path of each; the photograph is the first.
        calls: the operating system.
    """

    moves: tuple[tuple[Path, Path], ...]
    calls: SystemCalls = field(default=SYSTEM, repr=False, compare=False)

    kind = "rename"

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(path for move in self.moves for path in move)

    def to_dict(self) -> dict[str, Any]:
        return {"moves": [[os.fspath(source), os.fspath(target)] for source, target in self.moves]}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> RenameChange:
        return cls(tuple((Path(source), Path(target)) for source, target in record["moves"]))

    def describe(self) -> str:
        (source, target), *others = self.moves
        along = f", and {len(others)} more with it" if others else ""
        return f"renames {source.name} to {target.name}{along}"

    def apply(self) -> tuple[str, ...]:
        """Moves what is not moved yet."""
        self._check(self.moves)
        for source, target in self.moves:
            move(source, target)
        return self._synced()

    def undo(self) -> tuple[str, ...]:
        """Moves back what was moved; what was deleted since stays so."""
        back = [(target, source) for source, target in reversed(self.moves) if os.path.lexists(target)]
        self._check(back)
        for source, target in back:
            move(source, target)
        missing = [target for source, target in self.moves if not os.path.lexists(source)]
        return (*(f"{path}: it is gone." for path in missing), *self._synced())

    def has_begun(self) -> bool:
        """Whether one of the files has its new name already."""
        return any(os.path.lexists(target) for _, target in self.moves)

    def _check(self, moves: Sequence[tuple[Path, Path]]) -> None:
        """Refuses, before anything is moved, a name that is taken by another file."""
        for source, target in moves:
            if os.path.lexists(target) and os.path.lexists(source) and not same_entry(source, target):
                raise FileChangedError(str(source), f"another file is called {target.name} meanwhile")

    def _synced(self) -> tuple[str, ...]:
        try:
            self.calls.sync_folder(self.moves[0][1].parent)
        except OSError as error:
            return (f"its folder could not be synced ({error.strerror}); after a power cut it may be old",)
        return ()


@dataclass(frozen=True)
class OutputChange:
    """A file of results of a whole album, which autotag makes and replaces as a whole.

    Attributes:
        path: the file.
        after: digest of what is written into it.
        calls: the operating system.
    """

    path: Path
    after: str
    calls: SystemCalls = field(default=SYSTEM, repr=False, compare=False)

    kind = "output"

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self.path,)

    def to_dict(self) -> dict[str, Any]:
        return {"path": os.fspath(self.path), "after": self.after}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> OutputChange:
        return cls(Path(record["path"]), record["after"])

    def describe(self) -> str:
        return f"writes {self.path.name}"

    def apply(self) -> tuple[str, ...]:
        """Puts the hidden file that was written beside it in its place.

        Raises:
            FileChangedError: that is not what was written.
        """
        part = part_path(self.path)
        if digest_of(part) != self.after:
            raise FileChangedError(str(self.path), "what was written does not read back the same")
        self.calls.replace(part, self.path)
        self.calls.sync_folder(self.path.parent)
        return ()

    def undo(self) -> tuple[str, ...]:
        """Removes it, if it is as this change left it."""
        state = state_of(self.path, calls=self.calls)
        if state is not None and digest_of(self.path) == self.after:
            remove_file(self.path, expected=state, calls=self.calls)
        return ()


_KINDS: dict[str, Any] = {change.kind: change for change in (TextChange, RenameChange, OutputChange)}


def to_record(change: FileChange) -> dict[str, Any]:
    """A change as JSON types, with the name of its kind."""
    return {"kind": change.kind, **change.to_dict()}


def from_record(record: Mapping[str, Any]) -> FileChange:
    """The inverse of ``to_record``, as far as undoing goes.

    Raises:
        ConfigError: nothing is known of this kind of change.
    """
    if record["kind"] == "metadata":
        from autotag.writers.xmp_writer import XmpChange

        return XmpChange.from_dict(record)
    if record["kind"] not in _KINDS:
        raise ConfigError(f"a change of kind {record['kind']!r} is not known to this version of autotag.")
    change: FileChange = _KINDS[record["kind"]].from_dict(record)
    return change


def relocated(record: Mapping[str, Any], moves: Mapping[str, str]) -> dict[str, Any]:
    """A record as ``to_record`` gives it, for files in folders that were moved.

    Args:
        record: of a change of any kind.
        moves: where folders were -> where they are.
    """

    def now(path: str) -> str:
        for old, new in moves.items():
            if path.startswith(old.rstrip(os.sep) + os.sep):
                return new + path[len(old) :]
        return path

    found = dict(record)
    if "path" in found:
        found["path"] = now(found["path"])
    if "moves" in found:
        found["moves"] = [[now(path) for path in move] for move in found["moves"]]
    if "change" in found:
        files = [{**one, "path": now(one["path"])} for one in found["change"]["files"]]
        found["change"] = {**found["change"], "path": now(found["change"]["path"]), "files": files}
    return found


def read_if_there(path: Path, *, calls: SystemCalls = SYSTEM) -> tuple[bytes, FileState] | None:
    """Content and state of a file, or None when there is none.

    Raises:
        FileChangedError: it changed while it was read.
        MetadataError: it cannot be read.
    """
    try:
        return read_with_state(path, calls=calls)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MetadataError(str(path), f"it cannot be read: {error.strerror}") from error


def move(source: Path, target: Path) -> bool:
    """Gives a file another name, never one that is taken; False when that was done already.

    Where the file system has hard links, both names exist for a moment, so that none is ever overwritten.

    Raises:
        FileChangedError: neither is there, or another file has the name.
        OSError: the system refused.
    """
    if not os.path.lexists(source):
        if not os.path.lexists(target):
            raise FileChangedError(str(source), "it is gone")
        return False
    if os.path.lexists(target):
        if not same_entry(source, target):
            raise FileChangedError(str(source), f"another file is called {target.name} meanwhile")
        if {source.name, target.name} <= set(os.listdir(target.parent)):  # noqa: PTH208 - names as they are
            source.unlink()  # a run was killed between the two steps below
        else:
            source.rename(target)  # one name, where the file system does not tell letters or accents apart
        return True
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        source.rename(target)
        return True
    source.unlink()
    return True


def same_entry(one: Path, other: Path) -> bool:
    """Whether two names lead to one file, links not followed."""
    first, second = one.lstat(), other.lstat()
    return (first.st_ino, first.st_dev) == (second.st_ino, second.st_dev)


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content, a piece at a time; empty when there is none."""
    import hashlib

    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def clear_leftovers(change: FileChange) -> None:
    """Removes the hidden file that a killed run may have left beside the files of a change."""
    for path in change.paths:
        with suppress(OSError):
            part_path(Path(os.path.realpath(path))).unlink(missing_ok=True)
