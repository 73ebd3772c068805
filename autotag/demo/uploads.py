"""Read what people upload: photographs, and zips of them, which may be hostile.

A zip is never unpacked to the disk: each member is read into memory, up to a limit that does not trust the
size that the zip states. What cannot be read is an error of that file; the others go on.
"""

from __future__ import annotations

import lzma
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from autotag.config.checks import check_count
from autotag.images.reading import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import IO

_END = b"PK\x05\x06"
_END_SIZE = 22
_LOCATOR = b"PK\x06\x07"
_LOCATOR_SIZE = 20
_LONGEST_COMMENT = 2**16
_MOST_DIRECTORY = 8 * 2**20
_MOST_NAME = 240
_ZIP = b"PK\x03\x04"
_MEMBER_ERRORS = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError, RuntimeError,
    ValueError,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadLimits:
    """Limit what one upload may hold.

    Attributes:
        max_images: images, in files and zips together.
        max_image_bytes: bytes of one image file.
        max_bytes: bytes of all files together, as uploaded and as unpacked.

    Raises:
        ConfigError: a limit is out of range.
    """

    max_images: int = 1000
    max_image_bytes: int = 32 * 2**20
    max_bytes: int = 512 * 2**20

    def __post_init__(self) -> None:
        for name in ("max_images", "max_image_bytes", "max_bytes"):
            check_count(f"upload_limits.{name}", getattr(self, name), most=2**40)


@dataclass(frozen=True, slots=True)
class Upload:
    """One file of an upload.

    Attributes:
        name: a relative path with ``/``, different from all others of the upload.
        content: the file; empty if it is refused.
        error: why it is refused, or None.
    """

    name: str
    content: bytes = b""
    error: str | None = None


class _RefusedError(Exception):
    """One file is refused; the text says why."""


def read_uploads(files: Iterable[tuple[str, Path]], limits: UploadLimits) -> Iterator[Upload]:
    """Yield every image in files and zips, one after another, or why it is refused.

    Args:
        files: what the user calls it, and where it is.
        limits: beyond them, files are refused.
    """
    budget = _Budget(limits)
    for called, path in files:
        name = PurePosixPath(called.replace("\\", "/")).name
        try:
            is_zip = _begins_as_zip(path) or name.lower().endswith(".zip")
            if is_zip:
                yield from _members(name, path, budget)
            else:
                with path.open("rb") as file:
                    yield budget.named(name, budget.read(file))
        except (_RefusedError, zipfile.BadZipFile, OSError) as error:
            reason = (
                f"this zip cannot be read: {error}" if isinstance(error, zipfile.BadZipFile) else str(error)
            )
            yield budget.refused(name, reason)


def count_uploads(files: Iterable[tuple[str, Path]], limits: UploadLimits) -> int:
    """Return how many images and refusals ``read_uploads`` will yield, without reading images."""
    count = 0
    for called, path in files:
        try:
            if _begins_as_zip(path) or called.lower().endswith(".zip"):
                with _opened(path) as archive:
                    count += sum(not _is_left_out(member) for member in archive.infolist())
                continue
        except (_RefusedError, zipfile.BadZipFile, OSError):
            pass
        count += 1
    return min(count, limits.max_images + 1)


class _Budget:
    """What is left of the limits, and the names that are taken."""

    def __init__(self, limits: UploadLimits) -> None:
        self._limits = limits
        self._left = limits.max_bytes
        self._taken: set[str] = set()

    @property
    def is_full(self) -> bool:
        return len(self._taken) >= self._limits.max_images

    def read(self, file: IO[bytes]) -> bytes:
        """Return a file's content, and take it off the bytes that are left."""
        most = min(self._limits.max_image_bytes, self._left)
        content = file.read(most + 1)
        if len(content) > self._limits.max_image_bytes:
            raise _RefusedError(f"the file has more than {self._limits.max_image_bytes / 2**20:g} MiB")
        if len(content) > most:
            raise _RefusedError(f"the files together have more than {self._limits.max_bytes / 2**20:g} MiB")
        self._left -= len(content)
        return content

    def named(self, name: str, content: bytes) -> Upload:
        if self.is_full:
            raise _RefusedError(f"there are more than {self._limits.max_images} images; send the rest later")
        return Upload(self._unique(name), content)

    def refused(self, name: str, reason: str) -> Upload:
        return Upload(self._unique(name), error=f"{name}: {reason}")

    def _unique(self, name: str) -> str:
        path = PurePosixPath(name)
        number = 1
        while name.casefold() in self._taken:
            number += 1
            name = str(path.with_name(f"{path.stem} ({number}){path.suffix}"))
        self._taken.add(name.casefold())
        return name


def _members(called: str, path: Path, budget: _Budget) -> Iterator[Upload]:
    with _opened(path) as archive:
        for member in archive.infolist():
            if _is_left_out(member):
                continue
            if budget.is_full:
                raise _RefusedError("it holds more images than may be sent at once; the rest is left out")
            shown = f"{called}/{_printable(member.filename)}"
            try:
                name = _safe_name(member.filename)
                yield budget.named(name, _member(archive, member, budget))
            except _RefusedError as error:
                yield budget.refused(shown, str(error))
            except _MEMBER_ERRORS as error:
                yield budget.refused(shown, f"it cannot be unpacked: {error or type(error).__name__}")


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, budget: _Budget) -> bytes:
    if member.flag_bits & 1:
        raise _RefusedError("it is encrypted; send it without a password")
    if PurePosixPath(member.filename).suffix.lower() == ".zip":
        raise _RefusedError("a zip in a zip is not opened")
    if PurePosixPath(member.filename).suffix.lower() not in IMAGE_SUFFIXES:
        raise _RefusedError("it is not an image, by its name")
    with archive.open(member) as file:
        return budget.read(file)


def _is_left_out(member: zipfile.ZipInfo) -> bool:
    """Return whether a member is a folder, or what file managers leave behind."""
    parts = PurePosixPath(member.filename.replace("\\", "/")).parts
    return member.is_dir() or not parts or parts[-1].startswith(".") or parts[0] == "__MACOSX"


def _safe_name(name: str) -> str:
    """Return a member's name as a relative path.

    Raises:
        _RefusedError: it leads out of the zip, or no file could be called so.
    """
    parts = name.replace("\\", "/").split("/")
    kept = "/".join(part for part in parts if part not in {"", "."})
    if parts[0] == "" or ".." in parts or kept[1:2] == ":":  # such as C:
        raise _RefusedError("its path leads out of the zip")
    if not name.isprintable() or any(len(part.encode("utf-8", "replace")) > _MOST_NAME for part in parts):
        raise _RefusedError("its name has control characters or is too long")
    return kept


def _printable(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name)[:_MOST_NAME]


def _begins_as_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_ZIP)) == _ZIP


def _opened(path: Path) -> zipfile.ZipFile:
    """Open a zip, unless its table of contents alone would fill the memory.

    Raises:
        _RefusedError: it would.
        BadZipFile: it is not a zip.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _LONGEST_COMMENT - _END_SIZE - _LOCATOR_SIZE))
        tail = file.read()
    place = tail.rfind(_END)
    if place < 0 or len(tail) < place + _END_SIZE:
        raise zipfile.BadZipFile("it is not a zip, or its end is missing")
    directory = int.from_bytes(tail[place + 12 : place + 16], "little")
    if directory > _MOST_DIRECTORY or tail[max(0, place - _LOCATOR_SIZE) :].startswith(_LOCATOR):
        raise _RefusedError("the zip lists too many files; send smaller ones")
    return zipfile.ZipFile(path)
