"""Atomic replacement of files: after a crash at any moment, a file is either old or completely new.

The new content is written to a hidden file in the same folder, fsynced, read back and compared; then it
replaces the old file in one step. Where the system can exchange two files (Linux), the replaced file is
checked before it is deleted: if another program edited it at the last moment, it is put back.
Every call to the operating system goes through ``autotag.files.system_calls``.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from autotag.errors import FileBusyError, FileChangedError, MetadataError
from autotag.files.file_states import FileState, objection_to_writing
from autotag.files.hidden_files import hidden_path, kept_beside
from autotag.files.system_calls import SYSTEM, SystemCalls, is_there

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_TO_LOCK = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def replace_file(
    path: Path,
    content: bytes,
    *,
    expected: FileState | None,
    verify: Callable[[bytes], None] | None = None,
    touch: bool = False,
    mtime_ns: int | None = None,
    calls: SystemCalls = SYSTEM,
) -> tuple[str, ...]:
    """Replace the content of a file, or create a file.

    A symbolic link is kept: the file that it points to is replaced. Mode and times are kept, and owner and
    extended attributes where the system permits it.

    Args:
        path: the file.
        content: the whole new content.
        expected: the state in which the file was read; None if it did not exist.
        verify: called with the content that was read back from the disk; raises an error to stop.
        touch: whether the file gets the current time as its time of change.
        mtime_ns: the time of change to set instead, in nanoseconds since 1970.
        calls: the system calls.

    Returns:
        Warnings: other hard links keep the old content, or the folder could not be fsynced.

    Raises:
        FileChangedError: the file is not in the expected state; it is unchanged.
        FileBusyError: another run is writing it.
        MetadataError: it is read-only, or a broken link, or reading back gives other content.
        OSError: a system call failed; it names the file, which is unchanged.
    """
    reason = objection_to_writing(path)
    if reason is not None:
        raise MetadataError(str(path), reason)
    target = Path(os.path.realpath(path))
    try:
        with (
            _kept_to_ourselves(target, expected, calls),
            PartFile(target, private=expected is not None, calls=calls) as part,
        ):
            found = _in_state(target, expected, calls)
            part.write(content)
            if found is not None:
                calls.copy_attributes(target, found, part.descriptor)
            times = _times(found, touch=touch, mtime_ns=mtime_ns)
            if times is not None:
                calls.set_times(part.path, *times)
            calls.fsync(part.descriptor)
            _check_read_back(target, calls.read(part.path), content, verify)
            part.place(expected)
    except OSError as error:
        error.filename = error.filename or str(target)  # a full disk names no file
        raise
    return _warnings(target, found, calls)


def remove_file(path: Path, *, expected: FileState, calls: SystemCalls = SYSTEM) -> None:
    """Delete a file if it is in the expected state.

    The file is renamed first and checked under the new name, so that an edit in between is not lost.

    Raises:
        FileChangedError: it is in another state; it is unchanged.
        FileBusyError: another run is writing it.
        MetadataError: it is read-only.
        OSError: a system call failed; the file is unchanged.
    """
    reason = objection_to_writing(path)
    if reason is not None:
        raise MetadataError(str(path), reason)
    with _kept_to_ourselves(path, expected, calls):
        _in_state(path, expected, calls)
        aside = hidden_path(path, "swap")
        calls.rename_new(path, aside)
        try:
            _in_state(aside, expected, calls, named=path)
            calls.unlink(aside)
        except BaseException:
            _put_back(aside, path, calls)
            raise
    with suppress(OSError):
        calls.sync_folder(path.parent)


class PartFile:
    """Keep a hidden file beside a target, which it replaces when it is complete; a context manager.

    Its name cannot be guessed, and no link is followed when it is created. On exit it is deleted unless it
    was placed; after a kill it remains until ``clear_leftovers``.

    Args:
        target: the file to be replaced or created, links resolved.
        private: whether only its owner may read it, until it gets another mode.
        calls: the system calls.

    Raises:
        OSError: it cannot be created.
    """

    def __init__(self, target: Path, *, private: bool = False, calls: SystemCalls = SYSTEM) -> None:
        self.target, self._calls = target, calls
        self.path = hidden_path(target, "part")
        self.descriptor = calls.open(self.path, _NEW_FILE, 0o600 if private else 0o666)
        self._is_open, self._is_gone = True, False

    def write(self, content: bytes) -> None:
        """Append the content to the hidden file."""
        left = memoryview(content)
        while left:
            left = left[self._calls.write(self.descriptor, left) :]

    def stream(self, *, binary: bool, errors: str = "backslashreplace") -> IO[Any]:
        """Open a stream into the file, which the caller closes; text is UTF-8, line ends are unchanged."""
        if binary:
            return os.fdopen(os.dup(self.descriptor), "wb")
        return os.fdopen(os.dup(self.descriptor), "w", encoding="utf-8", errors=errors, newline="")

    def sync(self) -> None:
        """Fsync the file."""
        self._calls.fsync(self.descriptor)

    def replace(self, *, durable: bool = True) -> None:
        """Replace the target in any state; of several writers the last wins.

        Args:
            durable: whether to fsync the folder.

        Raises:
            OSError: a system call failed; the target is unchanged.
        """
        self._close()  # Windows cannot move an open file
        self._calls.replace(self.path, self.target)
        self._is_gone = True
        if durable:
            with suppress(OSError):
                self._calls.sync_folder(self.target.parent)

    def place(self, expected: FileState | None, target: Path | None = None) -> None:
        """Replace the target if it is in the expected state.

        Args:
            expected: the state of the file to replace; None if the target must not exist.
            target: another target in the same folder.

        Raises:
            FileChangedError: the target is in another state; it is unchanged.
            OSError: a system call failed; the target is unchanged.
        """
        target = target or self.target
        self._close()  # Windows cannot move an open file
        try:
            if expected is None:
                self._calls.rename_new(self.path, target)
                self._is_gone = True
            else:
                self._exchange(target, expected)
        except FileExistsError as error:
            raise FileChangedError(
                str(target), "another program made a file of this name during the run"
            ) from error

    def _exchange(self, target: Path, expected: FileState) -> None:
        """Exchange this file with the target and check the old one, which ``discard`` then deletes."""
        ours = FileState.of(self._calls.lstat(self.path))
        swap = self.path.with_name(self.path.name.removesuffix("part").removesuffix("swap") + "swap")
        if swap != self.path:
            self._calls.rename_new(self.path, swap)
            self.path = swap
        _in_state(target, expected, self._calls)
        try:
            if not self._calls.exchange(swap, target):
                self._calls.replace(swap, target)
                self._is_gone = True
            else:
                _in_state(swap, expected, self._calls, named=target)
        except BaseException as error:
            self._exchange_back(target, ours)
            if isinstance(error, FileNotFoundError):
                raise FileChangedError(str(target), "it no longer exists") from error
            raise

    def _exchange_back(self, target: Path, ours: FileState) -> None:
        """Put the target's old file back; a file of another program is always kept."""
        if self._is_gone or self._is(ours):
            return
        with suppress(OSError):
            self._calls.exchange(self.path, target)
        if not self._is(ours):
            kept = kept_beside(self.path, target, self._calls)
            self._is_gone = True
            raise FileChangedError(str(target), f"it changed since it was read; the change is in {kept.name}")

    def _is(self, state: FileState) -> bool:
        try:
            return FileState.of(self._calls.lstat(self.path)) == state
        except FileNotFoundError:
            return True  # it was placed, then interrupted

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            with suppress(OSError):
                self._calls.close(self.descriptor)

    def __enter__(self) -> PartFile:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, OSError):
            error.filename = error.filename or str(self.target)  # a full disk names no file
        self.discard()

    def discard(self) -> None:
        """Delete the hidden file: the new one if it was not placed, else the one that it replaced."""
        self._close()
        if not self._is_gone:
            self._is_gone = True
            with suppress(OSError):
                self._calls.unlink(self.path)


@contextmanager
def appearing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a stream into a file, which is replaced and fsynced when the block ends without an error.

    Until then the old file stays. Use this for autotag's own files, which any process may rewrite: of several
    writers the last wins. Use ``replace_file`` for the user's files.

    Args:
        path: the file.
        durable: whether to fsync. Without it, a power failure may leave a file that is empty or cut short;
            whoever reads it has to see that.

    Raises:
        OSError: a system call failed; the file is unchanged.
    """
    with PartFile(path) as part:
        with part.stream(binary=True) as stream:
            yield cast("BinaryIO", stream)
            stream.flush()
            if durable:
                part.sync()
        part.replace(durable=durable)


@contextmanager
def placing(path: Path, expected: FileState | None) -> Iterator[BinaryIO]:
    """Open a stream into a file, which is placed and fsynced when the block ends without an error.

    Use this for autotag's own files that several runs write at once: of several writers the first wins, and
    the others get an error.

    Args:
        path: the file.
        expected: the state of the file to replace; None if the file must not exist.

    Raises:
        FileChangedError: the file is in another state; it is unchanged.
        OSError: a system call failed; the file is unchanged.
    """
    with PartFile(path) as part:
        with part.stream(binary=True) as stream:
            yield cast("BinaryIO", stream)
        part.sync()
        part.place(expected)
    with suppress(OSError):
        SYSTEM.sync_folder(path.parent)


@contextmanager
def _kept_to_ourselves(target: Path, expected: FileState | None, calls: SystemCalls) -> Iterator[None]:
    """Hold the lock of an existing file, so that two runs do not write it at once."""
    if expected is None or sys.platform == "win32":  # Windows cannot replace an open file
        yield
        return
    try:
        descriptor = calls.open(target, _TO_LOCK, 0)
    except FileNotFoundError as error:
        raise FileChangedError(str(target), "it no longer exists") from error
    try:
        if not calls.lock(descriptor):
            raise FileBusyError(str(target), "another run is writing it")
        yield
    finally:
        with suppress(OSError):
            calls.close(descriptor)


def _in_state(
    place: Path, expected: FileState | None, calls: SystemCalls, *, named: Path | None = None
) -> os.stat_result | None:
    """Refuse a file that is not in the expected state; return its ``lstat`` result, or None."""
    try:
        found = calls.lstat(place)
    except FileNotFoundError:
        found = None
    if (None if found is None else FileState.of(found)) != expected:
        raise FileChangedError(str(named or place), "it changed since it was read")
    return found


def _times(found: os.stat_result | None, *, touch: bool, mtime_ns: int | None) -> tuple[int, int] | None:
    """Return the times (access, change) to set, in nanoseconds; None for the current time."""
    if mtime_ns is not None:
        return (mtime_ns if found is None else found.st_atime_ns), mtime_ns
    return None if found is None or touch else (found.st_atime_ns, found.st_mtime_ns)


def _check_read_back(
    target: Path, again: bytes, content: bytes, verify: Callable[[bytes], None] | None
) -> None:
    if again != content:
        raise MetadataError(str(target), "the content read back differs from what was written")
    if verify is not None:
        verify(again)


def _warnings(target: Path, found: os.stat_result | None, calls: SystemCalls) -> tuple[str, ...]:
    warnings = []
    if found is not None and found.st_nlink > 1:
        warnings.append(f"it had {found.st_nlink} hard links; the others keep the old content")
    try:
        calls.sync_folder(target.parent)
    except OSError as error:
        warnings.append(f"its folder was not synced ({error.strerror}); a power cut may restore the old file")
    return tuple(warnings)


def _put_back(aside: Path, path: Path, calls: SystemCalls) -> None:
    """Rename a file back to its old name, or to a numbered one if that is taken."""
    if is_there(aside):
        kept = kept_beside(aside, path, calls, first=True)
        if kept != path:
            raise FileChangedError(str(path), f"another file took its name; the old file is now {kept.name}")
