"""Files as they are found: their state and content, where they lie, and whether they may be written."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from autotag.errors import FileChangedError, MetadataError
from autotag.files.system_calls import SYSTEM, SystemCalls


@dataclass(frozen=True, slots=True)
class FileState:
    """The state of a file, to detect whether it changed since it was read.

    Attributes:
        size: in bytes.
        mtime_ns: time of the last change, in nanoseconds since 1970.
        inode: the inode number.
        device: the device number.
    """

    size: int
    mtime_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, found: os.stat_result) -> FileState:
        """Return the state from the result of a ``stat`` call."""
        return cls(found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev)


def state_of(path: Path, *, calls: SystemCalls = SYSTEM) -> FileState | None:
    """Return the state of a file, links followed; None if it does not exist."""
    try:
        return FileState.of(calls.stat(path))
    except FileNotFoundError:
        return None


def read_with_state(path: Path, *, calls: SystemCalls = SYSTEM) -> tuple[bytes, FileState]:
    """Return a file's content and its state, which is the same before and after reading.

    Raises:
        FileChangedError: it changed while autotag read it.
        MetadataError: it is a pipe, a device or a folder.
        OSError: it cannot be read.
    """
    found = calls.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise MetadataError(str(path), "it is not a regular file")
    before = FileState.of(found)
    content = calls.read(path)
    if state_of(path, calls=calls) != before or len(content) != before.size:
        raise FileChangedError(str(path), "it changed while autotag read it")
    return content, before


def objection_to_writing(path: Path) -> str | None:
    """Return why a file may not be replaced, as the end of a sentence; None if it may.

    A read-only file is never replaced, even by a user who has the right to.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        found = None
    except OSError as error:
        return f"it cannot be opened: {error.strerror}"
    if found is None and path.is_symlink():
        return "it is a link to a file that does not exist"
    if found is not None and not stat.S_ISREG(found.st_mode):
        return "it is not a regular file"
    if found is not None and (not found.st_mode & 0o222 or not os.access(path, os.W_OK)):
        return "it is read-only"
    if not os.access(Path(os.path.realpath(path)).parent, os.W_OK):
        return "its folder is read-only"
    return None


def unwritable_folder(path: Path) -> Path | None:
    """Return what keeps a file or folder that is not there from being made; None if nothing does.

    It is the nearest place above it that exists, if that is not a folder or cannot be written.
    """
    above = path.absolute().parents
    nearest = next((folder for folder in above if os.path.exists(folder)), above[-1])  # noqa: PTH110 - names of any length
    return None if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK) else nearest


def lies_in(path: Path, folder: Path) -> bool:
    """Return True if a file lies in a folder, after links of both are resolved."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def sha256(content: bytes) -> str:
    """Return the SHA-256 digest in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def digest_of(path: Path) -> str:
    """Return the SHA-256 digest of a file, which is read in pieces; "" if the file does not exist."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
