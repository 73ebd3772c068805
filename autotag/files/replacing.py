"""Replacing a file so that, whatever happens at whatever moment, it is the old one or the whole new one.

The new content is written to a hidden file in the same folder, brought to the disk, read again and compared;
then it takes the place of the old file in one step. Where the system can exchange two files (Linux), what
came out of that place is looked at before it goes: an edit by another program in the last moment is put back.
Every call to the operating system goes through ``SystemCalls``, so that tests can stop it anywhere.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import secrets
import stat
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Literal, cast

from autotag.errors import FileBusyError, FileChangedError, MetadataError

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

_LONGEST_NAME = 180  # bytes of a name that still has room for what is put around it
_TOKEN = 8  # bytes that nobody can guess
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_TO_LOCK = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EBADF)
_NO_HARD_LINKS = (
    errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES, errno.EINVAL,
)  # fmt: skip
_NOT_SUPPORTED = (errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS)
_NO_RENAMEAT2 = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM)
_AT_FDCWD, _NOREPLACE, _EXCHANGE = -100, 1, 2  # of linux/fcntl.h and linux/fs.h
_HIDDEN = re.compile(r"\.(.+)\.[0-9a-f]{16}\.autotag-(part|swap)", re.DOTALL)


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
        """Take the lock of an open file; False when another process has it. It ends with the descriptor.

        Where the file system has no locks (some network shares), everyone gets one: then the checks of the
        file's state, before and after writing, are what keeps two runs apart.
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
        return os.stat(path)  # noqa: PTH116 - beside fstat

    def lstat(self, path: Path) -> os.stat_result:
        return os.lstat(path)

    def fstat(self, descriptor: int) -> os.stat_result:
        return os.fstat(descriptor)

    def write(self, descriptor: int, content: memoryview) -> int:
        return os.write(descriptor, content)

    def fsync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def copy_attributes(self, source: Path, found: os.stat_result, descriptor: int) -> None:
        """Copy the mode; owner and extended attributes as far as they may be set."""
        if sys.platform != "win32":
            with suppress(PermissionError):
                os.fchown(descriptor, found.st_uid, found.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(found.st_mode))
        _copy_extended_attributes(source, descriptor)

    def set_times(self, path: Path, atime_ns: int, mtime_ns: int) -> None:
        os.utime(path, ns=(atime_ns, mtime_ns))

    def replace(self, source: Path, target: Path) -> None:
        os.replace(source, target)  # noqa: PTH105 - beside the others

    def exchange(self, source: Path, target: Path) -> bool:
        """Let two files change places in one step; False where the system cannot do that."""
        return _renameat2(source, target, _EXCHANGE)

    def rename_new(self, source: Path, target: Path) -> None:
        """Give a file a name that no file has.

        Raises:
            FileExistsError: the name is taken.
            OSError: the system refused.
        """
        if not _renameat2(source, target, _NOREPLACE):
            _rename_by_link(source, target)

    def unlink(self, path: Path) -> None:
        os.unlink(path)  # noqa: PTH108 - beside the others

    def sync_folder(self, folder: Path) -> None:
        """Bring the names in a folder to the disk, where folders can be opened."""
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


def _renameat2(source: Path, target: Path, flags: int) -> bool:
    """Rename as Linux can do it; False where system or file system cannot."""
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
    """The function of the C library; None where there is none."""
    if sys.platform != "linux":
        return None
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return call


def _rename_by_link(source: Path, target: Path) -> None:
    """Give a file a new name by way of a hard link, which never takes a name that is taken."""
    if sys.platform == "win32":
        os.rename(source, target)  # noqa: PTH104 - there, it refuses a name that is taken
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


def is_there(path: Path) -> bool:
    """Whether there is an entry of this name; a link is not followed.

    Raises:
        OSError: that cannot be known: the disk is broken, a network share is away.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def lies_in(path: Path, folder: Path) -> bool:
    """Whether a file, links resolved, lies in a folder, links resolved."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


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
        MetadataError: it is a pipe, a device or a folder.
        OSError: it cannot be read.
    """
    found = calls.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise MetadataError(str(path), "it is not a regular file")
    before = FileState.of(found)
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
    if found is None and path.is_symlink():
        return "it is a link to a file that is not there"
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
    mtime_ns: int | None = None,
    calls: SystemCalls = SYSTEM,
) -> tuple[str, ...]:
    """Put new content in the place of a file, or make a new file.

    A symbolic link stays one: the file that it leads to is replaced. Mode and times stay, owner and extended
    attributes where the system lets them.

    Args:
        path: the file.
        content: all of it.
        expected: the state in which the file was read; None when there was none.
        verify: called with the content as it was read back from the disk; raises what it finds wrong.
        touch: whether the file gets a new time of change.
        mtime_ns: the time of change that it gets instead, nanoseconds since 1970.
        calls: the operating system.

    Returns:
        Warnings: that hard links part ways, that the folder could not be synced.

    Raises:
        FileChangedError: the file is not in the expected state; it is left as it is.
        FileBusyError: another run is at it.
        MetadataError: it is read-only, or a link to nothing, or what was written does not read back.
        OSError: the system refused; the file is as it was.
    """
    reason = objection_to_writing(path)
    if reason is not None:
        raise MetadataError(str(path), reason)
    target = Path(os.path.realpath(path))
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
    return _warnings(target, found, calls)


def remove_file(path: Path, *, expected: FileState, calls: SystemCalls = SYSTEM) -> None:
    """Delete a file that is still in the expected state.

    It is taken out of its place first and looked at there, so that no edit is lost in between.

    Raises:
        FileChangedError: it is not; it is left as it is.
        FileBusyError: another run is at it.
        MetadataError: it is read-only.
        OSError: the system refused; the file is as it was.
    """
    reason = objection_to_writing(path)
    if reason is not None:
        raise MetadataError(str(path), reason)
    with _kept_to_ourselves(path, expected, calls):
        _in_state(path, expected, calls)
        aside = _hidden(path, "swap")
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
    """A hidden file beside a target, whose place it takes when it is whole; a context manager.

    Nobody can guess its name, and no link is followed when it is made. It goes unless it was placed; after a
    kill it stays, until ``clear_leftovers``.

    Args:
        target: the file to be replaced or made, links resolved.
        private: whether only its owner may read it, until it gets another mode.
        calls: the operating system.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, target: Path, *, private: bool = False, calls: SystemCalls = SYSTEM) -> None:
        self.target, self._calls = target, calls
        self.path = _hidden(target, "part")
        self.descriptor = calls.open(self.path, _NEW_FILE, 0o600 if private else 0o666)
        self._is_open, self._is_gone = True, False

    def write(self, content: bytes) -> None:
        """Write all of it."""
        left = memoryview(content)
        while left:
            left = left[self._calls.write(self.descriptor, left) :]

    def stream(self, *, binary: bool, errors: str = "backslashreplace") -> IO[Any]:
        """A stream into the file, to be closed by the caller; text is UTF-8 with line ends as they are."""
        if binary:
            return os.fdopen(os.dup(self.descriptor), "wb")
        return os.fdopen(os.dup(self.descriptor), "w", encoding="utf-8", errors=errors, newline="")

    def sync(self) -> None:
        """Bring it to the disk."""
        self._calls.fsync(self.descriptor)

    def replace(self) -> None:
        """Put it in its place whatever is there; of several writers the last wins.

        Raises:
            OSError: the system refused; the file is as it was.
        """
        self._close()  # Windows moves no open file
        self._calls.replace(self.path, self.target)
        self._is_gone = True
        with suppress(OSError):
            self._calls.sync_folder(self.target.parent)

    def place(self, expected: FileState | None, target: Path | None = None) -> None:
        """Put it where it belongs, if what is there is as expected.

        Args:
            expected: the state of the file that it replaces; None when there is to be none.
            target: another place in the same folder.

        Raises:
            FileChangedError: there is another file; it is left as it is.
            OSError: the system refused; the file is as it was.
        """
        target = target or self.target
        self._close()  # Windows moves no open file
        try:
            if expected is None:
                self._calls.rename_new(self.path, target)
                self._is_gone = True
            else:
                self._exchange(target, expected)
        except FileExistsError as error:
            raise FileChangedError(str(target), "another file of this name appeared meanwhile") from error

    def _exchange(self, target: Path, expected: FileState) -> None:
        """Take the place of a file, and look at what came out of it; that goes with ``discard``."""
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
                raise FileChangedError(str(target), "it is gone") from error
            raise

    def _exchange_back(self, target: Path, ours: FileState) -> None:
        """Put back what came out of the target's place; what is not ours is kept in any case."""
        if self._is_gone or self._is(ours):
            return
        with suppress(OSError):
            self._calls.exchange(self.path, target)
        if not self._is(ours):
            kept = _kept_beside(self.path, target, self._calls)
            self._is_gone = True
            raise FileChangedError(str(target), f"it changed since it was read; that is in {kept.name} now")

    def _is(self, state: FileState) -> bool:
        try:
            return FileState.of(self._calls.lstat(self.path)) == state
        except FileNotFoundError:
            return True  # it was placed, and interrupted then

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            with suppress(OSError):
                self._calls.close(self.descriptor)

    def __enter__(self) -> PartFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def discard(self) -> None:
        """Remove it unless it was placed, or what it replaced."""
        self._close()
        if not self._is_gone:
            self._is_gone = True
            with suppress(OSError):
                self._calls.unlink(self.path)


@contextmanager
def appearing(path: Path) -> Iterator[BinaryIO]:
    """Give a stream into a file that is there, whole and on the disk, when the block ends without an error.

    What was there stays until then. This is for files of autotag's own, which any process may write again: of
    several writers the last wins. ``replace_file`` is for files of others.

    Raises:
        OSError: the system refused; the file is as it was.
    """
    with PartFile(path) as part:
        with part.stream(binary=True) as stream:
            yield cast("BinaryIO", stream)
            stream.flush()
            part.sync()
        part.replace()


def numbered(path: Path) -> Iterator[Path]:
    """Names for what cannot have this one: ``tags (2).csv``, ``tags (3).csv`` ..."""
    for number in count(2):
        yield path.with_name(f"{path.stem} ({number}){path.suffix}")


def clear_leftovers(files: Mapping[Path, Collection[str]], *, calls: SystemCalls = SYSTEM) -> tuple[str, ...]:
    """Remove the hidden files that killed runs left beside files.

    One that may hold what another program wrote in the moment of the kill is made visible instead.

    Args:
        files: each with the digests of what it was and is to be, which may go.
        calls: the operating system.

    Returns:
        What the user should know, as whole sentences.
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


def _hidden_files(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """Our hidden files in a folder, each with the name that it stands for and its kind."""
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
        kept = _kept_beside(found, Path(os.path.realpath(path)), calls, first=True)
        return (f"{kept}: a run was killed while another program wrote {path.name}; this is what it wrote.",)
    return ()


def _hidden(target: Path, kind: Literal["part", "swap"]) -> Path:
    """A name that nobody can guess, in the folder of the target."""
    return target.with_name(f".{_visible_part(target.name)}.{secrets.token_hex(_TOKEN)}.autotag-{kind}")


def _visible_part(name: str) -> str:
    """What hidden files of a file have of its name."""
    if len(os.fsencode(name)) > _LONGEST_NAME:
        return hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return name


@contextmanager
def _kept_to_ourselves(target: Path, expected: FileState | None, calls: SystemCalls) -> Iterator[None]:
    """Hold the lock of a file that is there, so that two runs do not write it at once."""
    if expected is None or sys.platform == "win32":  # there, a file that is open cannot be replaced
        yield
        return
    try:
        descriptor = calls.open(target, _TO_LOCK, 0)
    except FileNotFoundError as error:
        raise FileChangedError(str(target), "it is gone") from error
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
    """Refuse a file that is not in the expected state, and say what the system knows of it."""
    try:
        found = calls.lstat(place)
    except FileNotFoundError:
        found = None
    if (None if found is None else FileState.of(found)) != expected:
        raise FileChangedError(str(named or place), "it changed since it was read")
    return found


def _times(found: os.stat_result | None, *, touch: bool, mtime_ns: int | None) -> tuple[int, int] | None:
    """The times that a file gets; None for those of now."""
    if mtime_ns is not None:
        return (mtime_ns if found is None else found.st_atime_ns), mtime_ns
    return None if found is None or touch else (found.st_atime_ns, found.st_mtime_ns)


def _check_read_back(
    target: Path, again: bytes, content: bytes, verify: Callable[[bytes], None] | None
) -> None:
    if again != content:
        raise MetadataError(str(target), "what was written does not read back the same")
    if verify is not None:
        verify(again)


def _warnings(target: Path, found: os.stat_result | None, calls: SystemCalls) -> tuple[str, ...]:
    warnings = []
    if found is not None and found.st_nlink > 1:
        warnings.append(f"it had {found.st_nlink} hard links; the others keep the old content")
    try:
        calls.sync_folder(target.parent)
    except OSError as error:
        warnings.append(f"its folder could not be synced ({error.strerror}); after a power cut it may be old")
    return tuple(warnings)


def _put_back(aside: Path, path: Path, calls: SystemCalls) -> None:
    """Give a file that was taken out its place again, or a name beside it if that is taken."""
    if is_there(aside):
        kept = _kept_beside(aside, path, calls, first=True)
        if kept != path:
            raise FileChangedError(
                str(path), f"another file took its place meanwhile; it is in {kept.name} now"
            )


def _kept_beside(hidden: Path, target: Path, calls: SystemCalls, *, first: bool = False) -> Path:
    """Make a hidden file visible, under the target's own name if ``first`` and free, else a numbered one."""
    if first:
        with suppress(FileExistsError):
            calls.rename_new(hidden, target)
            return target
    for name in numbered(target):
        with suppress(FileExistsError):
            calls.rename_new(hidden, name)
            return name
    raise AssertionError("numbers do not end")  # pragma: no cover


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


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content, a piece at a time; empty when there is none."""
    import hashlib

    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
