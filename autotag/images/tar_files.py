"""Images inside of tar files, such as the shards of webdataset.

A tar file is read through once for the places of its images; each image then is read alone, from any thread.
Compressed tar files have no such places and are refused.
"""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from autotag.errors import ConfigError
from autotag.images.reading import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class TarImage:
    """An image inside of a tar file; an input of pipelines, like an open file.

    Attributes:
        tar: the tar file.
        member: the image's name in it.
        offset: where its bytes begin.
        size: how many there are.
    """

    tar: Path
    member: str
    offset: int
    size: int

    @property
    def name(self) -> str:
        """Return what the image is called in results: the tar file's path, then its name in it."""
        return f"{self.tar}/{self.member}"

    def __str__(self) -> str:
        return self.name

    def read(self, size: int = -1, /) -> bytes:
        """Return all bytes of the image, or the first ``size``."""
        wanted = self.size if size < 0 else min(size, self.size)
        with self.tar.open("rb") as stream:
            stream.seek(self.offset)
            return stream.read(wanted)


def is_tar(path: str | os.PathLike[str]) -> bool:
    """Return True if a path has the suffix of tar files; it need not exist."""
    return os.fspath(path).lower().endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst"))


def is_image(member: tarfile.TarInfo) -> bool:
    """Return True for a file with the suffix of images that is not hidden."""
    name = PurePosixPath(member.name)
    return member.isfile() and name.suffix.lower() in IMAGE_SUFFIXES and not name.name.startswith(".")


def images_in_tar(path: str | os.PathLike[str]) -> Iterator[TarImage]:
    """Yield the images in a tar file, in its order.

    Raises:
        ConfigError: the file cannot be read, is compressed, or is not a whole tar file.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if is_image(member):
                    yield TarImage(Path(path), member.name, member.offset_data, member.size)
    except tarfile.TarError as error:
        raise ConfigError(
            f"cannot read {os.fspath(path)!r} as a tar file without compression: {error}."
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot read {os.fspath(path)!r}: {error.strerror or error}.") from error
