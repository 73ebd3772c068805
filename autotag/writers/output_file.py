"""A file of results that is whole or not there."""

from __future__ import annotations

from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from autotag.errors import ConfigError
from autotag.metadata.safe_files import PartFile, state_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def open_output(path: Path, *, streams: bool, binary: bool = False) -> Iterator[IO[Any]]:
    """A stream whose contents end up in a file.

    Args:
        path: the file; a link is followed. A pipe or device is written to directly.
        streams: whether what was written so far is of use at any time. It then goes straight to the
            file. Otherwise it goes to a hidden file beside it, which takes its place when the block
            ends, also when it ends by an exception after something was written.
        binary: whether the stream takes bytes; else UTF-8 text.

    Raises:
        ConfigError: the file cannot be opened for writing.
        FileChangedError: another program wrote it in the moment of replacing; it is left as it is.
    """
    if streams or (path.exists() and not path.is_file()):
        with _opened(path, binary=binary) as stream:
            yield stream
        return
    target = path.resolve()
    with _part_of(target) as part:
        try:
            with part.stream(binary=binary) as stream:
                yield stream
        except BaseException:
            if part.path.stat().st_size:
                _place(part)
            raise
        _place(part)


def _part_of(target: Path) -> PartFile:
    try:
        return PartFile(target)
    except OSError as error:
        raise ConfigError(f"cannot write {str(target)!r}: {error.strerror}.") from error


def _place(part: PartFile) -> None:
    """Put what was written in the place of what is there now."""
    part.sync()
    part.place(state_of(part.target))


def _opened(path: Path, *, binary: bool) -> IO[Any]:
    """Open for results of any kind: line ends as they are written, and no character that cannot be."""
    try:
        if binary:
            return path.open("wb")
        return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
    except OSError as error:
        raise ConfigError(f"cannot write {str(path)!r}: {error.strerror}.") from error
