"""The system calls that change files, all in one class, so that tests can interrupt a change anywhere."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

if sys.platform != "win32":
    import fcntl

_NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EBADF)
_NO_HARD_LINKS = (
    errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES, errno.EINVAL,
)  # fmt: skip
_NOT_SUPPORTED = (errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS)
_NO_RENAMEAT2 = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM)
_AT_FDCWD, _NOREPLACE, _EXCHANGE = -100, 1, 2  # from linux/fcntl.h and linux/fs.h


class SystemCalls:
    """Make the system calls that change files. Tests override single methods."""

    def open(self, path: Path, flags: int, mode: int) -> int:
        """Open a file and return its descriptor."""
        return os.open(path, flags, mode)

    def lock(self, descriptor: int) -> bool:
        """Lock an open file; return False if another process holds the lock. Closing the file unlocks it.

        Where the file system has no locks (some network shares), this returns True. Then only the checks of
        the file's state before and after writing keep two runs apart.
        """
        if sys.platform == "win32":
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            if error.errno not in _NO_LOCKS:
                raise
        return True

    def stat(self, path: Path) -> os.stat_result:
        """Return the status of a file; follow links."""
        return os.stat(path)  # noqa: PTH116 - beside fstat

    def lstat(self, path: Path) -> os.stat_result:
        """Return the status of a file or link; do not follow links."""
        return os.lstat(path)

    def fstat(self, descriptor: int) -> os.stat_result:
        """Return the status of an open file."""
        return os.fstat(descriptor)

    def write(self, descriptor: int, content: memoryview) -> int:
        """Write to an open file and return the number of bytes written, which may be fewer."""
        return os.write(descriptor, content)

    def fsync(self, descriptor: int) -> None:
        """Sync an open file to disk."""
        os.fsync(descriptor)

    def read(self, path: Path) -> bytes:
        """Return the whole content of a file."""
        return path.read_bytes()

    def copy_attributes(self, source: Path, found: os.stat_result, descriptor: int) -> None:
        """Copy the mode, and the owner and extended attributes where that is permitted."""
        if sys.platform != "win32":
            with suppress(PermissionError):
                os.fchown(descriptor, found.st_uid, found.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(found.st_mode))
        _copy_extended_attributes(source, descriptor)

    def set_times(self, path: Path, atime_ns: int, mtime_ns: int) -> None:
        """Set the access and modification times, in nanoseconds since 1970."""
        os.utime(path, ns=(atime_ns, mtime_ns))

    def replace(self, source: Path, target: Path) -> None:
        """Rename a file and overwrite the target."""
        os.replace(source, target)  # noqa: PTH105 - beside the others

    def exchange(self, source: Path, target: Path) -> bool:
        """Exchange two files in one step; return False if the system cannot."""
        return _renameat2(source, target, _EXCHANGE)

    def rename_new(self, source: Path, target: Path) -> None:
        """Rename a file without overwriting another.

        Raises:
            FileExistsError: the name is taken.
            OSError: the system refused.
        """
        if not _renameat2(source, target, _NOREPLACE):
            _rename_by_link(source, target)

    def unlink(self, path: Path) -> None:
        """Delete a file."""
        os.unlink(path)  # noqa: PTH108 - beside the others

    def sync_folder(self, folder: Path) -> None:
        """Fsync a folder, where the system allows folders to be opened."""
        if sys.platform == "win32":
            return
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self, descriptor: int) -> None:
        """Close a descriptor."""
        os.close(descriptor)


SYSTEM = SystemCalls()


def _renameat2(source: Path, target: Path, flags: int) -> bool:
    """Call Linux's ``renameat2``; return False if the system or file system does not support it."""
    call = _linux_renameat2()
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_RENAMEAT2:
        return False
    raise OSError(number, os.strerror(number), os.fspath(source), None, os.fspath(target))


@cache
def _linux_renameat2() -> Any:
    """Return ``renameat2`` of the C library, or None if it is missing."""
    if sys.platform != "linux":
        return None
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return call


def _rename_by_link(source: Path, target: Path) -> None:
    """Rename a file by a hard link, because that never overwrites a file."""
    if sys.platform == "win32":
        os.rename(source, target)  # noqa: PTH104 - on Windows, it refuses a name that is taken
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if is_there(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(target)) from error
        os.rename(source, target)  # noqa: PTH104 - beside link
        return
    os.unlink(source)  # noqa: PTH108 - beside link


def _copy_extended_attributes(source: Path, descriptor: int) -> None:
    """Copy extended attributes (tags, access lists), where the system and the file system have them."""
    if sys.platform != "linux":
        return
    with suppress(OSError):
        for name in os.listxattr(source):
            try:
                os.setxattr(descriptor, name, os.getxattr(source, name))
            except OSError as error:
                if error.errno not in _NOT_SUPPORTED:
                    raise


def is_there(path: Path) -> bool:
    """Return True if the path exists; a link is not followed.

    Raises:
        OSError: it cannot be determined: the disk is broken, or a network share is offline.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
