"""What a search for duplicates knows about each photograph, read from files or from an index."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from autotag.errors import ImageReadError
from autotag.images.reading import read_image
from autotag.pipeline.reading_ahead import ReadAhead
from autotag.search.compression import UNKNOWN, coarseness
from autotag.search.photo_facts import read_content, stored_time
from autotag.search.same_picture import SIDE, grey_thumbnail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from autotag.search.index import Index
    from autotag.search.picture_cache import Look, PictureCache

_Read = TypeVar("_Read")
_AHEAD = 64


@dataclass(frozen=True, slots=True)
class PhotoFile:
    """Facts about the file of a photograph.

    Attributes:
        path: where it is.
        size: width, height of the upright picture in pixels.
        bytes: size of the file.
        mtime_ns: when it was changed last.
        digest: of its pixels, see ``pixel_digest``.
        taken: local time, see ``Shot``, or None.
        camera: make and model, or None.
        keywords: what people wrote into it or its sidecar.
        coarseness: of its compression, see ``coarseness``.
        id: in an index; else 0.
    """

    path: str
    size: tuple[int, int]
    bytes: int
    mtime_ns: int
    digest: str
    taken: str | None
    camera: str | None
    keywords: tuple[str, ...]
    coarseness: float = UNKNOWN
    id: int = 0


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told about the reading: errors of files that are left out, and each file when it is read."""

    failed: Callable[[ImageReadError], None]
    seen: Callable[[], None]


def read_files(paths: Iterable[Path], listener: Listener) -> tuple[list[PhotoFile], NDArray[np.uint8]]:
    """Return the facts about files and their grey thumbnails, (N, 64, 64); a file with links counts once."""
    photos: list[PhotoFile] = []
    pixels = bytearray()
    for read in _reads(_once(paths)):
        listener.seen()
        if isinstance(read, ImageReadError):
            listener.failed(read)
        else:
            photos.append(read[0])
            pixels += read[1].tobytes()
    return photos, np.frombuffer(pixels, dtype=np.uint8).reshape(-1, SIDE, SIDE)


def read_index(
    index: Index, cache: PictureCache, listener: Listener
) -> tuple[list[PhotoFile], NDArray[np.uint8]]:
    """Return the same from an index and the cache beside it, into which missing thumbnails are put.

    Photographs that are offline, on the web or failed are left out.
    """
    photos = _unchanged(_indexed(index), listener)
    grey = np.zeros((len(photos), SIDE, SIDE), dtype=np.uint8)
    places: dict[str, list[int]] = defaultdict(list)
    for place, photo in enumerate(photos):
        places[photo.digest].append(place)
    found: set[str] = set()
    for digest, thumbnail, coarse in _looks(photos, places, cache, listener):
        found.add(digest)
        for place in places[digest]:
            grey[place] = thumbnail
            photos[place] = replace(photos[place], coarseness=coarse)
    cache.forget_looks(places)
    kept = [place for place, photo in enumerate(photos) if photo.digest in found]
    return [photos[place] for place in kept], grey[kept] if len(kept) < len(photos) else grey


def _looks(
    photos: Sequence[PhotoFile], places: dict[str, list[int]], cache: PictureCache, listener: Listener
) -> Iterator[Look]:
    """Yield what the cache has, then what is read from the files of the others, which is put there."""
    due = dict(places)
    for look in cache.looks(list(places)):
        listener.seen()
        del due[look[0]]
        yield look
    made: list[Look] = []
    for read in _reads(Path(photos[same[0]].path) for same in due.values()):
        listener.seen()
        if isinstance(read, ImageReadError):
            listener.failed(read)
        elif read[0].digest in due:  # else it changed just now
            made.append((read[0].digest, read[1], read[0].coarseness))
            yield made[-1]
        if len(made) >= _AHEAD:
            cache.keep_looks(made)
            made.clear()
    cache.keep_looks(made)


def _indexed(index: Index) -> list[PhotoFile]:
    keywords: dict[int, list[str]] = defaultdict(list)
    for photo, text in index.execute("SELECT photo, text FROM tag WHERE source = 'keyword' ORDER BY place"):
        keywords[photo].append(text)
    rows = index.execute(
        "SELECT id, path, width, height, bytes, mtime_ns, digest, taken, camera FROM photo "
        "WHERE digest IS NOT NULL AND error IS NULL AND NOT offline ORDER BY id"
    )
    photos = []
    for photo, path, width, height, size, mtime_ns, digest, taken, camera in rows:
        facts = os.fsdecode(path), (width, height), size, mtime_ns, digest, taken, camera
        photos.append(PhotoFile(*facts, keywords=tuple(keywords[photo]), id=photo))
    return photos


def _unchanged(photos: Sequence[PhotoFile], listener: Listener) -> list[PhotoFile]:
    """Return the photographs whose files are as they were indexed, each file once."""
    by_path = {Path(photo.path): photo for photo in photos}
    found: list[PhotoFile] = []
    for path in _once(by_path):
        photo = by_path[path]
        try:
            facts = path.stat()
        except OSError as error:
            listener.failed(ImageReadError(photo.path, error.strerror or str(error)))
            continue
        if (facts.st_size, stored_time(facts.st_mtime_ns)) == (photo.bytes, photo.mtime_ns):
            found.append(photo)
        else:
            reason = "it changed since it was indexed; run `autotag index` first"
            listener.failed(ImageReadError(photo.path, reason))
    return found


def _once(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield each file under one name: its own rather than a link's, so that no file seems to be its copy."""
    links: list[Path] = []
    found: set[tuple[int, int]] = set()
    for path in paths:
        if path.is_symlink():
            links.append(path)
        elif _is_new(path, found):
            yield path
    yield from (path for path in links if _is_new(path, found))


def _is_new(path: Path, found: set[tuple[int, int]]) -> bool:
    try:
        facts = path.stat()
    except OSError:
        return True  # reading it says why
    file = (facts.st_dev, facts.st_ino)
    if file in found:
        return False
    found.add(file)
    return True


def _reads(paths: Iterable[Path]) -> Iterator[tuple[PhotoFile, NDArray[np.uint8]] | ImageReadError]:
    workers = min(8, (os.cpu_count() or 1) + 1)
    return _taken_out(ReadAhead(paths, _read, workers=workers, ahead=_AHEAD))


def _taken_out(reads: ReadAhead[Any, _Read]) -> Iterator[_Read | ImageReadError]:
    try:
        while not reads.exhausted:
            read = reads.ready()
            if read is None:
                reads.wait()
            else:
                yield read
    finally:
        reads.close()
    if reads.error is not None:
        raise reads.error


def _read(path: Path, reserve: Callable[[int], None]) -> tuple[PhotoFile, NDArray[np.uint8]]:
    content, facts = read_content(path)
    read = read_image(content, target_size=SIDE, source=str(path), reserve=reserve)
    grey = grey_thumbnail(read.image)
    reserve(grey.nbytes)
    found = PhotoFile(
        path=str(path),
        size=read.size,
        bytes=facts.bytes,
        mtime_ns=facts.mtime_ns,
        digest=facts.digest,
        taken=facts.shot.taken,
        camera=facts.shot.camera,
        keywords=facts.keywords,
        coarseness=coarseness(content),
    )
    return found, grey
