"""Where an album's photographs come from: folders, globs, lists of files, zip archives."""

from __future__ import annotations

import logging
import os
import zipfile
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from glob import has_magic, iglob
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, cast

from autotag.errors import ConfigError, ImageReadError, install_hint
from autotag.files.file_states import lies_in
from autotag.images.raw_files import RAW_SUFFIXES, can_read_raw, is_raw
from autotag.images.reading import IMAGE_SUFFIXES, find_images, is_hidden

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from autotag.images.reading import ImageInput

_ZIP_FILE_BYTES = 2**31
_ZIP_ANY_RATIO = 2**26  # bytes up to which a file in an archive may be packed as well as it likes
_ZIP_RATIO = 100  # pictures are packed already; a plain BMP of one colour is not worth gigabytes of memory
_logger = logging.getLogger("autotag")


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph of an album.

    Attributes:
        name: its path relative to the album, with ``/``; in the system's encoding where it is not UTF-8.
        image: what the pipeline reads.
        path: the file; None for one inside an archive.
    """

    name: str
    image: ImageInput = field(repr=False)
    path: Path | None


@dataclass(frozen=True)
class Album:
    """Keep where the photographs of one run are.

    Attributes:
        root: the folder that they are in; for an archive, the one that it is in.
        key: what the state of this album is kept under: the folder or the archive.
        is_archive: whether photographs are inside an archive, where nothing is written.
    """

    root: Path
    key: Path
    is_archive: bool
    _find: Callable[[], Iterator[Photo]] = field(repr=False)

    def photos(self) -> Iterator[Photo]:
        """Yield every photograph once, in a stable order, searched lazily."""
        return self._find()

    def check_not_empty(self) -> None:
        """Refuse an album without a photograph.

        Raises:
            ConfigError: there is none.
        """
        if next(self.photos(), None) is None:
            raise ConfigError(f"no image found in {str(self.key)!r}.")

    def linked(self) -> frozenset[str]:
        """Return the real paths of photographs that are links."""
        files = (photo.path for photo in self.photos() if photo.path is not None)
        return frozenset(os.path.realpath(path) for path in files if path.is_symlink())

    def linked_folders(self) -> tuple[Path, ...]:
        """Return the folders of photographs that only links lead to, resolved, as they are outside."""
        folders = {photo.path.parent for photo in self.photos() if photo.path is not None}
        real = sorted({Path(os.path.realpath(folder)) for folder in folders})
        return tuple(folder for folder in real if not lies_in(folder, self.root))

    def photo(self, name: str) -> Photo:
        """Return a photograph by its name."""
        if self.is_archive:
            return Photo(name, cast("BinaryIO", ZipImage(self.key, name)), None)
        path = self.root / name
        return Photo(name, path, path)


class ZipImage:
    """A picture inside a zip archive, read when the pipeline asks for it.

    Attributes:
        name: the archive and the path inside it.
    """

    def __init__(self, archive: Path, inner: str) -> None:
        self._archive = archive
        self._inner = inner
        self.name = f"{archive}/{inner}"

    def read(self, size: int = -1) -> bytes:
        """Return the whole file, or its first ``size`` bytes.

        Raises:
            OSError: the archive is damaged, encrypted, or packed in a way that Python cannot unpack; or the
                file unpacks to far more than pictures do.
        """
        try:
            with zipfile.ZipFile(self._archive) as archive, archive.open(self._inner) as file:
                _check_ratio(archive.getinfo(self._inner))
                return file.read(size if size >= 0 else _ZIP_FILE_BYTES)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, KeyError) as error:
            raise OSError(f"the archive cannot be read: {error}") from error


def _check_ratio(packed: zipfile.ZipInfo) -> None:
    """Refuse a decompression bomb; unpacking never exceeds the size that the archive states."""
    if packed.file_size > max(_ZIP_ANY_RATIO, _ZIP_RATIO * packed.compress_size):
        raise OSError(
            f"it unpacks from {packed.compress_size:,} to {packed.file_size:,} bytes, too many for an image"
        )


def find_album(
    sources: Sequence[str | os.PathLike[str]],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    follow_symlinks: bool = False,
) -> Album:
    """Return the album that a user means.

    Args:
        sources: one folder, one zip archive, or any number of files and globs (``photos/**/*.jpg``). One
            missing picture among several is reported as one failure; if all are missing, an error is raised.
        include: glob patterns as for ``find_images``; a photograph in a folder or archive has to match one
            of them.
        exclude: glob patterns; what matches one is left out.
        follow_symlinks: whether to enter folders that links lead to, each folder once.

    Raises:
        ConfigError: sources cannot be combined, an archive is invalid, or nothing is found.
        ImageReadError: a source does not exist.
    """
    paths = [Path(source) for source in sources]
    if not paths:
        raise ConfigError("an album needs a folder, a zip archive, files or a glob.")
    if len(paths) == 1 and paths[0].suffix.lower() == ".zip" and paths[0].is_file():
        return _zip_album(paths[0], include, exclude)
    if len(paths) == 1 and paths[0].is_dir():
        return _folder_album(paths[0], include, exclude, follow_symlinks=follow_symlinks)
    return _listed_album(paths, include, exclude, follow_symlinks=follow_symlinks)


def _folder_album(
    folder: Path, include: Sequence[str], exclude: Sequence[str], *, follow_symlinks: bool
) -> Album:
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - what is journalled holds in any working folder
    start = len(os.path.join(folder, ""))  # noqa: PTH118

    def find() -> Iterator[Photo]:
        found = find_images(
            folder, include=include, exclude=exclude, follow_symlinks=follow_symlinks, raw=True
        )
        for path in _with_readable_raw(found):
            yield Photo(path.as_posix()[start:], path, path)

    return Album(folder, folder.resolve(), False, find)


def _with_readable_raw(paths: Iterator[Path]) -> Iterator[Path]:
    """Yield the files; skip RAW files that cannot be read, with one warning."""
    readable = can_read_raw()
    said = False
    for path in paths:
        if readable or not is_raw(path.name):
            yield path
        elif not said:
            said = True
            _logger.warning("RAW files such as %s are left out; they need: %s", path, install_hint("raw"))


def _listed_album(
    paths: Sequence[Path], include: Sequence[str], exclude: Sequence[str], *, follow_symlinks: bool
) -> Album:
    is_list = any(map(os.path.lexists, paths)) and len(paths) > 1
    pictures = partial(_files, include=include, exclude=exclude, follow_symlinks=follow_symlinks)
    found = ([path] if is_list and _is_gone(path) else pictures(path) for path in paths)
    files = list(dict.fromkeys(chain.from_iterable(found)))
    if not files:
        raise ConfigError(f"no image found in {', '.join(map(str, paths))}.")
    absolute = [Path(os.path.abspath(path)) for path in files]  # noqa: PTH100 - links are not followed
    root = Path(os.path.commonpath([path.parent for path in absolute]))

    def find() -> Iterator[Photo]:
        for path in absolute:
            yield Photo(path.relative_to(root).as_posix(), path, path)

    return Album(root, root.resolve(), False, find)


def _is_gone(path: Path) -> bool:
    """Return whether a path names a missing picture."""
    is_picture = path.suffix.lower() in IMAGE_SUFFIXES | RAW_SUFFIXES and not has_magic(str(path))
    return is_picture and not os.path.lexists(path)


def _files(
    path: Path, *, include: Sequence[str], exclude: Sequence[str], follow_symlinks: bool
) -> Iterator[Path]:
    """Return the pictures of one of several sources."""
    if path.suffix.lower() == ".zip" and path.is_file():
        raise ConfigError(
            f"the archive {str(path)!r} must be the only path: an archive is an album of its own."
        )
    if has_magic(str(path)) and not path.exists():
        found = (Path(one) for one in sorted(iglob(str(path), recursive=True)))  # noqa: PTH207 - also absolute
        small = [tuple(map(str.lower, patterns)) for patterns in (include, exclude)]
        pictures = [one for one in found if one.is_file() and _is_wanted(PurePosixPath(one), *small)]
        if not pictures:
            raise ImageReadError(str(path), "no picture fits this pattern")
        return iter(pictures)
    found_here = find_images(
        path, include=include, exclude=exclude, follow_symlinks=follow_symlinks, raw=True
    )
    return _with_readable_raw(found_here)


def _zip_album(path: Path, include: Sequence[str], exclude: Sequence[str]) -> Album:
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted({one.filename for one in archive.infolist() if not one.is_dir()})
    except (OSError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{str(path)!r} is not a readable zip archive: {error}") from error
    small = [tuple(map(str.lower, patterns)) for patterns in (include, exclude)]
    kept = [name for name in names if _is_wanted(PurePosixPath(name), *small)]

    def find() -> Iterator[Photo]:
        for name in kept:
            yield Photo(name, cast("BinaryIO", ZipImage(path, name)), None)

    return Album(Path(os.path.abspath(path.parent)), path.resolve(), True, find)  # noqa: PTH100


def _is_wanted(path: PurePosixPath, include: tuple[str, ...], exclude: tuple[str, ...]) -> bool:
    """Return whether a file is a picture that the patterns select, as in ``find_images``."""
    if path.suffix.lower() not in IMAGE_SUFFIXES | RAW_SUFFIXES or any(map(is_hidden, path.parts)):
        return False
    around = [path, *(parent for parent in path.parents if parent.name)]
    if any(_matches(one, exclude) for one in around):
        return False
    return not include or _matches(path, include)


def _matches(path: PurePosixPath, patterns: tuple[str, ...]) -> bool:
    name, whole = path.name.lower(), path.as_posix().lower()
    return any(fnmatchcase(name, pattern) or fnmatchcase(whole, pattern) for pattern in patterns)


def album_root(sources: Sequence[str | os.PathLike[str]]) -> tuple[Path, Path]:
    """Return folder and key (see ``Album``) of an album, without searching for photographs.

    Raises:
        ImageReadError: it does not exist.
    """
    paths = [Path(source) for source in sources]
    if len(paths) == 1 and paths[0].is_dir():
        return Path(os.path.abspath(paths[0])), paths[0].resolve()  # noqa: PTH100 - links are not followed
    album = find_album(sources)
    return album.root, album.key
