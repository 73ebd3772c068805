"""Files that somebody names in a config: found whatever the name, and read whole if they end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike


def named_path(name: str | PathLike[str]) -> Path:
    """Return the path that a user names, ``~`` resolved where that can be done."""
    return Path(os.path.expanduser(name))  # noqa: PTH111 - Path.expanduser raises where there is no such user


def is_file(path: Path) -> bool:
    """Return whether there is such a file; for a name that no file can have there is none."""
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises for such names


def is_folder(path: Path) -> bool:
    """Return whether there is such a folder; for a name that no folder can have there is none."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises for such names


def read_bounded(path: str | PathLike[str], *, most: int) -> bytes:
    """Return the content of a file or a pipe.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        OSError: it cannot be read, is a device, or has more bytes; ``strerror`` says so in words.
    """
    try:
        opened = open(path, "rb")  # noqa: PTH123, SIM115 - a path of any kind, closed below
    except ValueError as error:  # a null byte, or letters that no file name can have
        raise OSError(errno.EINVAL, "it is not a name that a file can have", os.fspath(path)) from error
    with opened as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise OSError(errno.EINVAL, "it is a device, not a file", os.fspath(path))
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", os.fspath(path))
    return content
