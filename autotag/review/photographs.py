"""The files behind a review: where each is now, whether it changed, and small pictures of it."""

from __future__ import annotations

import hashlib
import io
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from cachetools import LRUCache
from PIL import Image

from autotag.errors import ImageReadError
from autotag.files.file_states import lies_in
from autotag.files.replacing import appearing
from autotag.files.user_folders import delete_oldest, user_cache
from autotag.images.reading import read_image
from autotag.metadata.pixel_digest import pixel_digest

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from autotag.albums.plan import PlannedPhoto

Status = Literal["as planned", "changed", "missing"]
Size = Literal["small", "large"]

SIDES: dict[Size, int] = {"small": 320, "large": 960}
"""The longest side of each size, in pixels."""
_MEMORY = 64 * 2**20  # bytes of small pictures that are kept
_DISK = 512 * 2**20
_CLEARED_TO = 0.8  # part of the folder that stays when it has become too large
_LOOKED_AFTER = 1 / 16  # part of the folder that is written before it is looked at: that takes a while
_QUALITY = 82
_JPEG_END = b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class Located:
    """A photograph's file as it is now.

    Attributes:
        path: where it is; under its new name where the plan was applied.
        status: compared with what the plan was made from.
        version: changes whenever the file does; empty for one that is missing.
    """

    path: Path
    status: Status
    version: str = ""


class Photographs:
    """Find a plan's photographs again. Thread-safe.

    Args:
        album: the album's folder.
        lines: of the plan.
    """

    def __init__(self, album: Path, lines: list[PlannedPhoto]) -> None:
        self._album = album
        self._facts = [(one.file, one.size, one.mtime_ns, one.digest, one.rename_to) for one in lines]
        self._digests: LRUCache[tuple[int, int, int], str] = LRUCache(100_000)
        self._lock = threading.Lock()

    def located(self, photo: int) -> Located:
        """Return where a photograph is and whether it changed; one outside of the album is missing."""
        file, _, _, _, new_name = self._facts[photo]
        path = self._album / file
        found = self._found(photo, path)
        if found.status != "as planned" and new_name is not None:
            renamed = self._found(photo, path.with_name(new_name))
            return renamed if renamed.status == "as planned" else found
        return found

    def _found(self, photo: int, path: Path) -> Located:
        _, size, mtime_ns, digest, _ = self._facts[photo]
        try:
            if not lies_in(path.parent, self._album):
                return Located(path, "missing")
            facts = path.stat()
        except OSError:
            return Located(path, "missing")
        version = hashlib.sha256(f"{facts.st_size} {facts.st_mtime_ns} {path}".encode(errors="replace"))
        is_same = (facts.st_size, facts.st_mtime_ns) == (size, mtime_ns)
        is_same = is_same or self._digest(photo, path, facts) == digest
        return Located(path, "as planned" if is_same else "changed", version.hexdigest()[:16])

    def _digest(self, photo: int, path: Path, facts: os.stat_result) -> str:
        """Return the digest of a file without its metadata, which others may have changed."""
        key = (photo, facts.st_size, facts.st_mtime_ns)
        with self._lock:
            known = self._digests.get(key)
        if known is None:
            known = ""
            with suppress(OSError):
                known = pixel_digest(path.read_bytes())
            with self._lock:
                self._digests[key] = known
        return known


class Thumbnails:
    """Make small JPEGs of photographs, upright and without metadata. Thread-safe.

    They are kept in memory (64 MiB) and in the user's cache folder (512 MiB), under the state of the file
    that they are of.

    Args:
        folder: to keep them in; by default in ``autotag.files.user_folders.user_cache``.
        most_bytes: how much to keep there.
    """

    def __init__(self, folder: Path | None = None, *, most_bytes: int = _DISK) -> None:
        self._chosen, self._most = folder, most_bytes
        self._memory: LRUCache[str, bytes] = LRUCache(_MEMORY, getsizeof=len)
        self._lock = threading.Lock()
        self._written = 0  # bytes since the folder was looked at

    def kept(self, photo: Located, size: Size) -> bytes | None:
        """Return a picture that was made before, or None."""
        key = _key(photo, size)
        with self._lock:
            found = self._memory.get(key)
        if found is None:
            with suppress(OSError):
                content = self._path(key).read_bytes()
                found = content if content.endswith(_JPEG_END) else None  # a power failure cut it short
        return found

    def make(self, photo: Located, size: Size) -> bytes:
        """Return the picture, made now if need be.

        Raises:
            ImageReadError: the photograph cannot be read.
        """
        found = self.kept(photo, size)
        if found is None:
            found = _jpeg(photo.path, SIDES[size])
            self._keep_on_disk(_key(photo, size), found)
        with self._lock:
            if len(found) <= _MEMORY:
                self._memory[_key(photo, size)] = found
        return found

    @cached_property
    def _folder(self) -> Path:
        return self._chosen or user_cache() / "thumbnails"

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.jpg"

    def _keep_on_disk(self, key: str, content: bytes) -> None:
        """Keep a picture for the next review, where the disk allows it."""
        path = self._path(key)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with appearing(path, durable=False) as file:  # two fsyncs take longer than the picture
                file.write(content)
            with self._lock:
                self._written += len(content)
                is_due = self._written > self._most * _LOOKED_AFTER
                if is_due:
                    self._written = 0
            if is_due:
                delete_oldest(
                    self._folder,
                    "*/*.jpg",
                    above=int(self._most * (1 - _LOOKED_AFTER)),
                    down_to=int(self._most * _CLEARED_TO),
                )


def _key(photo: Located, size: Size) -> str:
    return hashlib.sha256(f"{photo.version} {size} {SIDES[size]}".encode()).hexdigest()[:32]


def _jpeg(path: Path, side: int) -> bytes:
    try:
        # Twice the target is 3/4 of ``side``, the height of a picture of 4:3: no such photograph is decoded
        # smaller than its picture, and most JPEGs at half the size that ``side`` itself would need.
        image = read_image(path, target_size=side * 3 // 8, allow_truncated=True).image
    except MemoryError as error:
        raise ImageReadError(str(path), "it needs more memory than there is") from error
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=1.0)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()
