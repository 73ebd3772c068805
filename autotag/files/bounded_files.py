"""Finds and reads files named by users: any name is accepted, and the size is bounded."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike


def named_path(name: str | PathLike[str]) -> Path:
    """Return a user's file name as a path; ``~`` is expanded if the user exists."""
    return Path(os.path.expanduser(name))  # noqa: PTH111 - Path.expanduser raises where there is no such user


def is_file(path: Path) -> bool:
    """Return True if the file exists; an invalid name gives False."""
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises for such names


def is_folder(path: Path) -> bool:
    """Return True if the folder exists; an invalid name gives False."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises for such names


def read_bounded(path: str | PathLike[str], *, most: int) -> bytes:
    """Return the content of a file or a pipe.

    Args:
        path: the file.
        most: the largest allowed size, in bytes.

    Raises:
        OSError: it cannot be read, is a device, or is larger than ``most``; ``strerror`` gives the reason.
    """
    try:
        opened = open(path, "rb")  # noqa: PTH123, SIM115 - a path of any kind, closed below
    except ValueError as error:  # a null byte, or characters that a file name cannot have
        raise OSError(errno.EINVAL, "it is not a name that a file can have", os.fspath(path)) from error
    with opened as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise OSError(errno.EINVAL, "it is a device, not a file", os.fspath(path))
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", os.fspath(path))
    return content
