"""Files that are made or replaced beside photographs: changes that can be journalled first and undone."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotag.albums.state.folder_names import FILM_SUFFIXES, PICTURE_SUFFIXES
from autotag.config.checks import check_row
from autotag.errors import FileChangedError, MetadataError
from autotag.files.file_states import FileState, digest_of, read_with_state, sha256, state_of
from autotag.files.replacing import PartFile, remove_file, replace_file
from autotag.files.system_calls import SYSTEM, SystemCalls

if TYPE_CHECKING:
    from collections.abc import Mapping


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
