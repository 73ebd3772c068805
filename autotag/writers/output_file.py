"""A file of results that is whole or not there, and whether a file is one that autotag left."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager, suppress
from hashlib import sha256
from itertools import chain
from typing import IO, TYPE_CHECKING, Any

from autotag.errors import ConfigError, FileChangedError
from autotag.files.replacing import PartFile, digest_of, numbered, state_of
from autotag.files.user_folders import user_cache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from autotag.files.replacing import FileState

_logger = logging.getLogger("autotag")


@contextmanager
def open_output(path: Path, *, streams: bool, binary: bool = False) -> Iterator[IO[Any]]:
    """A stream whose contents end up in a file.

    Args:
        path: the file; a link is followed. A pipe or device is written to directly.
        streams: whether what was written so far is of use at any time. It then goes straight to the
            file. Otherwise it goes to a hidden file beside it, which takes its place when the block
            ends, also when it ends by an exception after something was written.
        binary: whether the stream takes bytes; else UTF-8 text.

    What another program put there while the block ran is left as it is: the results then go beside it, under
    a name with a number, and the log ``"autotag"`` says so.

    Raises:
        ConfigError: the file cannot be opened for writing.
    """
    if streams or (path.exists() and not path.is_file()):
        stream = _opened(path, binary=binary)
        try:
            with stream:
                yield stream
        finally:
            _remember(path)
        return
    target = path.resolve()
    replaced = state_of(target)
    with _part_of(target) as part:
        try:
            with part.stream(binary=binary) as stream:
                yield stream
        except BaseException:
            if part.path.stat().st_size:
                _place(part, replaced)
            raise
        _place(part, replaced)


def _part_of(target: Path) -> PartFile:
    try:
        return PartFile(target)
    except OSError as error:
        raise ConfigError(f"cannot write {str(target)!r}: {error.strerror}.") from error


def _place(part: PartFile, replaced: FileState | None) -> None:
    """Put what was written in the place of what was there at first, or beside another, and remember it."""
    part.sync()
    for target in chain([part.target], numbered(part.target)):
        try:
            part.place(replaced if target == part.target else None, target)
        except FileChangedError:
            continue
        if target != part.target:
            _logger.warning(
                "%s was written by another program meanwhile and stays as it is; the results are in %s",
                part.target,
                target.name,
            )
        _remember(target)
        return


def check_replaceable(path: Path, *, overwrite: bool) -> None:
    """Refuse to replace a file that somebody else wrote or changed, unless that is asked for.

    Raises:
        ConfigError: the file is there, and not as ``open_output`` left it.
    """
    if not overwrite and not _is_as_left(path):
        raise ConfigError(
            f"{str(path)!r} is there already and not as autotag left it; "
            "name another --output, or say --overwrite."
        )


def _is_as_left(path: Path) -> bool:
    """Return whether a file is as ``open_output`` left it, or holds nothing, as a pipe or device does."""
    if not path.is_file() or path.stat().st_size == 0:
        return True
    with suppress(OSError):
        return _record(path).read_text(encoding="utf-8") == digest_of(path)
    return False


def _remember(path: Path) -> None:
    """Put down how a file is left; where that cannot be done, the file counts as somebody else's."""
    if path.is_file():
        with suppress(OSError):
            record = _record(path)
            record.parent.mkdir(parents=True, exist_ok=True)
            record.write_text(digest_of(path), encoding="utf-8")


def _record(path: Path) -> Path:
    """Return the file that holds the digest of an output."""
    return user_cache() / "outputs" / sha256(os.fsencode(path.resolve())).hexdigest()


def _opened(path: Path, *, binary: bool) -> IO[Any]:
    """Open for results of any kind: line ends as they are written, and no character that cannot be."""
    try:
        if binary:
            return path.open("wb")
        return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
    except OSError as error:
        raise ConfigError(f"cannot write {str(path)!r}: {error.strerror}.") from error
