"""Replacing a file so that, whatever happens at whatever moment, it is the old one or the whole new one.

The new content is written to a hidden file in the same folder, brought to the disk, read again and compared;
then it takes the place of the old file in one step. Every call to the operating system goes through
``SystemCalls``, so that tests can stop it anywhere.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autotag.errors import FileBusyError, FileChangedError, MetadataError

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_NAME = 200  # characters of a name that still has room for what is put around it
_WRITE_MODE = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK)
_NOT_SUPPORTED = (errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS)


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells whether a file is still the one that was read.

    Attributes:
        size: bytes.
        mtime_ns: time of the last change, nanoseconds since 1970.
        inode: number of the file on its device.
        device: number of the device.
    """

    size: int
    mtime_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, found: os.stat_result) -> FileState:
        return cls(found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev)


class SystemCalls:
    """The operating system, as far as files are changed. Tests override single methods."""

    def open(self, path: Path, flags: int, mode: int) -> int:
        return os.open(path, flags, mode)

    def lock(self, descriptor: int) -> bool:
        """Takes the lock of an open file; False when another process has it. Ends with the descriptor.

        Where the file system has no locks (some network shares), everyone gets one: then the checks of the
        file's state, before and after writing, are what keeps two runs apart.
        """
        if sys.platform == "win32":
            return True  # there, an open file cannot be opened for replacement by another run
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            if error.errno not in _NO_LOCKS:
                raise
        return True

    def stat(self, path: Path) -> os.stat_result:
        return os.stat(path)  # noqa: PTH116 - beside fstat

    def fstat(self, descriptor: int) -> os.stat_result:
        return os.fstat(descriptor)

    def truncate(self, descriptor: int) -> None:
        os.ftruncate(descriptor, 0)

    def write(self, descriptor: int, content: memoryview) -> int:
        return os.write(descriptor, content)

    def fsync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def copy_attributes(self, source: Path, found: os.stat_result, descriptor: int) -> None:
        """Mode; owner and extended attributes as far as they may be set."""
        if sys.platform != "win32":
            with suppress(PermissionError):
                os.fchown(descriptor, found.st_uid, found.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(found.st_mode))
        _copy_extended_attributes(source, descriptor)

    def set_times(self, path: Path, found: os.stat_result) -> None:
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))

    def replace(self, source: Path, target: Path) -> None:
        os.replace(source, target)  # noqa: PTH105 - beside the others

    def unlink(self, path: Path) -> None:
        os.unlink(path)  # noqa: PTH108 - beside the others

    def sync_folder(self, folder: Path) -> None:
        """Brings the names in a folder to the disk, where folders can be opened."""
        if sys.platform == "win32":
            return
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)


SYSTEM = SystemCalls()


def state_of(path: Path, *, calls: SystemCalls = SYSTEM) -> FileState | None:
    """The state of a file, links followed; None when there is none."""
    try:
        return FileState.of(calls.stat(path))
    except FileNotFoundError:
        return None


def read_with_state(path: Path, *, calls: SystemCalls = SYSTEM) -> tuple[bytes, FileState]:
    """A file's content, and the state that it had before and after it was read.

    Raises:
        FileChangedError: it changed meanwhile.
        OSError: it cannot be read.
    """
    before = FileState.of(calls.stat(path))
    content = calls.read(path)
    if state_of(path, calls=calls) != before or len(content) != before.size:
        raise FileChangedError(str(path), "it changed while it was read")
    return content, before


def objection_to_writing(path: Path) -> str | None:
    """Why a file may not be replaced, as the end of a sentence; None when it may.

    A read-only file stays so, also for those who could write to it nevertheless.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        found = None
    except OSError as error:
        return f"it cannot be looked at: {error.strerror}"
    if found is not None and not stat.S_ISREG(found.st_mode):
        return "it is not a regular file"
    if found is not None and (not found.st_mode & 0o222 or not os.access(path, os.W_OK)):
        return "it is read-only"
    if not os.access(Path(os.path.realpath(path)).parent, os.W_OK):
        return "its folder is read-only"
    return None


def replace_file(
    path: Path,
    content: bytes,
    *,
    expected: FileState | None,
    verify: Callable[[bytes], None] | None = None,
    touch: bool = False,
    calls: SystemCalls = SYSTEM,
) -> tuple[str, ...]:
    """Puts new content in the place of a file, or makes a new file.

    A symbolic link stays one: the file that it leads to is replaced. Mode and times stay, owner and extended
    attributes where the system lets them.

    Args:
        path: the file.
        content: all of it.
        expected: the state in which the file was read; None when there was none.
        verify: called with the content as it was read back from the disk; raises what it finds wrong.
        touch: whether the file gets a new time of change.
        calls: the operating system.

    Returns:
        Warnings: that hard links part ways, that the folder could not be synced.

    Raises:
        FileChangedError: the file is not in the expected state; it is left as it is.
        FileBusyError: another run is at it.
        MetadataError: it is read-only, or what was written does not read back.
        OSError: the system refused; the file is as it was.
    """
    target = Path(os.path.realpath(path))
    reason = objection_to_writing(target)
    if reason is not None:
        raise MetadataError(str(path), reason)
    work = _Replacement(target, part_path(target), expected, calls)
    return work.run(content, verify, touch=touch)


def remove_file(path: Path, *, expected: FileState, calls: SystemCalls = SYSTEM) -> None:
    """Deletes a file that is still in the expected state.

    Raises:
        FileChangedError: it is not.
        MetadataError: it is read-only.
        OSError: the system refused.
    """
    reason = objection_to_writing(path)
    if reason is not None:
        raise MetadataError(str(path), reason)
    if state_of(path, calls=calls) != expected:
        raise FileChangedError(str(path), "it changed since it was read")
    calls.unlink(path)
    with suppress(OSError):
        calls.sync_folder(path.parent)


def part_path(target: Path) -> Path:
    """The hidden file that the new content is written to. One per file, so that it serves as a lock too.

    A run that was killed leaves it behind; the next one takes it over.
    """
    name = target.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return target.with_name(f".{name}.autotag-part")


class _Replacement:
    """One replacement on its way. After an error its hidden file is gone, after a kill it may stay."""

    def __init__(self, target: Path, part: Path, expected: FileState | None, calls: SystemCalls) -> None:
        self._target = target
        self._part = part
        self._expected = expected
        self._calls = calls
        self._written = False

    def run(self, content: bytes, verify: Callable[[bytes], None] | None, *, touch: bool) -> tuple[str, ...]:
        """Writes, syncs, compares, and puts it in the place of the target; answers with warnings."""
        descriptor = self._open_part()
        try:
            found = self._check_target()
            self._write(descriptor, content)
            if found is not None:
                self._calls.copy_attributes(self._target, found, descriptor)
            if found is not None and not touch:
                self._calls.set_times(self._part, found)
            self._calls.fsync(descriptor)
            self._check_part(content, verify)
            self._check_target()
            self._calls.replace(self._part, self._target)
            self._written = True
        except BaseException:
            if not self._written:
                with suppress(OSError):
                    self._calls.unlink(self._part)
            raise
        finally:
            with suppress(OSError):
                self._calls.close(descriptor)
        return self._warnings(found)

    def _open_part(self) -> int:
        """The hidden file, empty and locked, whether new or left behind by a killed run."""
        mode = 0o600 if self._expected is not None else 0o666
        descriptor = self._calls.open(self._part, _WRITE_MODE, mode)
        try:
            self._own(descriptor)
        except BaseException as error:
            with suppress(OSError):
                if not isinstance(error, FileBusyError):
                    self._calls.unlink(self._part)
            with suppress(OSError):
                self._calls.close(descriptor)
            raise
        return descriptor

    def _own(self, descriptor: int) -> None:
        if not self._calls.lock(descriptor):
            raise FileBusyError(str(self._target), "another run is writing it")
        ours = self._calls.fstat(descriptor)
        theirs = state_of(self._part, calls=self._calls)
        if theirs is None or (theirs.inode, theirs.device) != (ours.st_ino, ours.st_dev):
            raise FileBusyError(str(self._target), "another run has just written it")
        self._calls.truncate(descriptor)

    def _check_target(self) -> os.stat_result | None:
        try:
            found = self._calls.stat(self._target)
        except FileNotFoundError:
            found = None
        if (None if found is None else FileState.of(found)) != self._expected:
            raise FileChangedError(str(self._target), "it changed since it was read")
        return found

    def _write(self, descriptor: int, content: bytes) -> None:
        left = memoryview(content)
        while left:
            left = left[self._calls.write(descriptor, left) :]

    def _check_part(self, content: bytes, verify: Callable[[bytes], None] | None) -> None:
        again = self._calls.read(self._part)
        if again != content:
            raise MetadataError(str(self._target), "what was written does not read back the same")
        if verify is not None:
            verify(again)

    def _warnings(self, found: os.stat_result | None) -> tuple[str, ...]:
        warnings = []
        if found is not None and found.st_nlink > 1:
            warnings.append(f"it had {found.st_nlink} hard links; the others keep the old content")
        try:
            self._calls.sync_folder(self._target.parent)
        except OSError as error:
            warnings.append(
                f"its folder could not be synced ({error.strerror}); after a power cut it may be old"
            )
        return tuple(warnings)


def _copy_extended_attributes(source: Path, descriptor: int) -> None:
    """Finder tags, access lists and the like, where system and file system have them."""
    if sys.platform != "linux":
        return
    with suppress(OSError):
        for name in os.listxattr(source):
            try:
                os.setxattr(descriptor, name, os.getxattr(source, name))
            except OSError as error:
                if error.errno not in _NOT_SUPPORTED:
                    raise


def sha256(content: bytes) -> str:
    """The digest in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
