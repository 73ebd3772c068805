"""Write result files whole or not at all, and recognise files that autotag wrote."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager, suppress
from hashlib import sha256
from itertools import chain
from typing import IO, TYPE_CHECKING, Any

from autotag.errors import ConfigError, FileChangedError
from autotag.files.file_states import digest_of, state_of
from autotag.files.hidden_files import numbered
from autotag.files.replacing import PartFile
from autotag.files.user_folders import user_cache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from autotag.files.file_states import FileState

_logger = logging.getLogger("autotag")


@contextmanager
def open_output(path: Path, *, streams: bool, binary: bool = False) -> Iterator[IO[Any]]:
    """Open a stream that writes to a file.

    If another program writes the file during the block, its file is kept. The results then go to a file
    beside it with a number in its name, and the log ``"autotag"`` gets a warning.

    Args:
        path: the file; a link is followed. A pipe or device is written to directly.
        streams: True if the output is usable at any time; it then goes straight to the file. Otherwise it
            goes to a hidden file beside it, which is renamed when the block ends without an exception.
        binary: True for a stream of bytes, False for UTF-8 text.

    Raises:
        ConfigError: the file cannot be written, because the disk is full or for another reason.
        BrokenPipeError: the file is a pipe, and its reader closed it.
    """
    with naming_failures(repr(str(path))):
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
        with PartFile(target) as part:
            with part.stream(binary=binary) as stream:
                yield stream
            _place(part, replaced)


@contextmanager
def naming_failures(output: str) -> Iterator[None]:
    """Turn the system's errors into one that names the output.

    Raises:
        ConfigError: in place of an ``OSError``.
        BrokenPipeError: the output is a pipe, and its reader closed it.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror or error}.") from error


def _place(part: PartFile, replaced: FileState | None) -> None:
    """Replace the file that was there at first, or write beside a newer one, and remember the digest."""
    part.sync()
    for target in chain([part.target], numbered(part.target)):
        try:
            part.place(replaced if target == part.target else None, target)
        except FileChangedError:
            continue
        if target != part.target:
            _logger.warning(
                "%s was written by another program meanwhile and is kept; the results are in %s",
                part.target,
                target.name,
            )
        _remember(target)
        return


def check_replaceable(path: Path, *, overwrite: bool) -> None:
    """Refuse to replace a file that somebody else wrote or changed, unless ``overwrite`` is True.

    Raises:
        ConfigError: the file exists and is not as ``open_output`` wrote it.
    """
    if not overwrite and not _is_as_left(path):
        raise ConfigError(
            f"{str(path)!r} exists, and autotag did not write this version; name another --output, or use "
            "--overwrite."
        )


def _is_as_left(path: Path) -> bool:
    """Return True if a file is as ``open_output`` wrote it, or is empty, a pipe or a device."""
    if not path.is_file() or path.stat().st_size == 0:
        return True
    with suppress(OSError):
        return _record(path).read_text(encoding="utf-8") == digest_of(path)
    return False


def _remember(path: Path) -> None:
    """Store a file's digest; if that fails, the file later counts as somebody else's."""
    if path.is_file():
        with suppress(OSError):
            record = _record(path)
            record.parent.mkdir(parents=True, exist_ok=True)
            record.write_text(digest_of(path), encoding="utf-8")


def _record(path: Path) -> Path:
    """Return the path of the file that stores an output's digest."""
    return user_cache() / "outputs" / sha256(os.fsencode(path.resolve())).hexdigest()


def _opened(path: Path, *, binary: bool) -> IO[Any]:
    """Open for writing: line ends are not changed, and characters that cannot be encoded are escaped."""
    if binary:
        return path.open("wb")
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
