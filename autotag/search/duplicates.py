"""Finds photographs that are there more than once, and bursts, and says which one of each to keep."""

from __future__ import annotations

import math
import mmap
import os
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache, partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np
from PIL import Image

from autotag.config.checks import check_number, shown
from autotag.errors import ConfigError, ImageReadError
from autotag.files.file_states import digest_of
from autotag.images.decoding import DECODER_ERRORS
from autotag.images.reading import read_image
from autotag.search.duplicate_photos import Listener, read_files, read_index
from autotag.search.picture_cache import cache_beside
from autotag.search.same_picture import (
    LEAST_PAGE,
    PAGE_SIDE,
    coarse_likeness,
    grey_thumbnail,
    is_flat,
    same_page,
    same_pictures,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from autotag.search.duplicate_photos import PhotoFile
    from autotag.search.index import Index

    _Places: TypeAlias = NDArray[np.int64]
    _Rank: TypeAlias = tuple[int, float, bool, float, bytes]

Same = Literal["bytes", "pixels", "picture"]
Kind = Literal["bytes", "pixels", "picture", "burst"]
BURST_SECONDS = 2.0
"""The longest pause between two photographs of a burst."""

_SECONDS_TO_1970 = 62135596800.0  # since the year 1
_PAGES = 256  # thumbnails of pages in memory, 64 kB each
_MOST_OPEN = 8  # chains of photographs that may be bursts; bounds the work where all times are the same
_NEAR_COSINE = 0.85  # of the vectors of two photographs of a burst
_NEAR_COARSE = 0.6  # correlation of their coarse thumbnails, where there are no vectors
_FILM = (b"ftyp", b"mpvd")  # begin the film that follows a JPEG, and the box of a HEIC that holds one
_FIRST_BOX = 12  # bytes: every HEIC begins with a box of this kind
_ONE_PICTURE = (".jpg", ".jpeg", ".mpo", ".heic", ".heif")


@dataclass(frozen=True, slots=True)
class Copy:
    """A photograph in a group.

    Attributes:
        path: where it is.
        kind: how it is related to the first of its group: ``"bytes"`` (the same file), ``"pixels"`` (the
            same but for metadata), ``"picture"`` (the same picture at another size, quality or brightness, or
            slightly cropped), ``"burst"``; None for the first itself.
        size: width, height of the upright picture in pixels.
        bytes: size of the file.
        taken: local time, ``"2020-05-17T14:03:59"``, or None.
        keywords: what people wrote into it or its sidecar.
        digest: of its pixels, see ``autotag.metadata.pixel_digest``.
        likeness: of its details and those of the first, in [0.8, 1], where the kind is ``"picture"``.
    """

    path: str
    kind: Kind | None
    size: tuple[int, int]
    bytes: int
    taken: str | None = None
    keywords: tuple[str, ...] = ()
    digest: str = field(default="", repr=False)
    likeness: float | None = None

    def to_dict(self) -> dict[str, object]:
        """Return JSON types."""
        return {
            "path": self.path,
            "kind": self.kind,
            "likeness": None if self.likeness is None else round(self.likeness, 4),
            "size": list(self.size),
            "bytes": self.bytes,
            "taken": self.taken,
            "keywords": list(self.keywords),
        }


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Photographs that are perhaps one too many.

    Attributes:
        kind: ``"copies"`` of one picture, or a ``"burst"``: different pictures of one moment.
        photos: two or more, the one to keep first: the largest; of equal ones that of the best quality (the
            least coarsely compressed), then one with people's keywords, then the oldest.
    """

    kind: Literal["copies", "burst"]
    photos: tuple[Copy, ...]

    @property
    def keep(self) -> Copy:
        """The one to keep."""
        return self.photos[0]

    @property
    def others(self) -> tuple[Copy, ...]:
        """The others, best first."""
        return self.photos[1:]

    def to_dict(self) -> dict[str, object]:
        """Return JSON types."""
        return {"kind": self.kind, "photos": [photo.to_dict() for photo in self.photos]}


def find_duplicates(
    images: Iterable[str | PathLike[str]],
    *,
    same: Same = "picture",
    bursts: bool = True,
    burst_seconds: float = BURST_SECONDS,
    failed: Callable[[ImageReadError], None] = lambda _error: None,
    seen: Callable[[], None] = lambda: None,
) -> list[DuplicateGroup]:
    """Return photographs that are there more than once as groups: copies, then bursts, large groups first.

    Every file is read once and decoded small; 4 kB for each are held in memory. A file with links to it
    counts once. Two photographs that were taken at different times are no copies, however alike they look.
    Nothing is deleted.

    Args:
        images: files.
        same: what copies share: all ``"bytes"``, all ``"pixels"`` (metadata may differ), or the
            ``"picture"`` (size, quality and brightness may differ, too, and it may be slightly cropped).
        bursts: whether to find bursts, too: photographs of one camera, taken shortly after one another, that
            look alike.
        burst_seconds: the longest pause between two photographs of a burst.
        failed: told about files that cannot be read; they are left out.
        seen: called after each file.

    Raises:
        ConfigError: an option is wrong, or ``images`` is one text.
    """
    if isinstance(images, str | bytes | PathLike):
        raise ConfigError(f"images is {shown(images)}; for a folder write find_images({shown(images)}).")
    options = _Options(same, bursts, burst_seconds)
    photos, grey = read_files(map(Path, images), Listener(failed, seen))
    return _grouped(photos, grey, options, failed, partial(_look_alike, grey))


def find_duplicates_in(
    index: Index,
    *,
    same: Same = "picture",
    bursts: bool = True,
    burst_seconds: float = BURST_SECONDS,
    failed: Callable[[ImageReadError], None] = lambda _error: None,
    seen: Callable[[], None] = lambda: None,
) -> list[DuplicateGroup]:
    """Return photographs of an index that are there more than once, as ``find_duplicates`` does.

    Each is decoded once; its small picture is kept beside the index, so that a later call reads only what is
    new. The looks of a burst are compared by the index's vectors. Photographs that are offline, on the web or
    failed are left out.

    Args:
        index: the index.
        same: see ``find_duplicates``.
        bursts: see ``find_duplicates``.
        burst_seconds: see ``find_duplicates``.
        failed: told about files that cannot be read, or changed since they were indexed; they are left out.
        seen: called after each photograph that was looked at.

    Raises:
        ConfigError: an option is wrong.
        SearchIndexError: the index cannot be read.
    """
    options = _Options(same, bursts, burst_seconds)
    photos, grey = read_index(index, cache_beside(index.path), Listener(failed, seen))
    return _grouped(photos, grey, options, failed, partial(_are_near, index, photos, grey))


@dataclass(frozen=True, slots=True)
class _Options:
    same: Same
    bursts: bool
    burst_seconds: float

    def __post_init__(self) -> None:
        if self.same not in get_args(Same):
            raise ConfigError(f"same={self.same!r} is not known; use {', '.join(get_args(Same))}.")
        check_number("burst_seconds", self.burst_seconds, least=0)


def _grouped(
    photos: Sequence[PhotoFile],
    grey: NDArray[np.uint8],
    options: _Options,
    failed: Callable[[ImageReadError], None],
    are_near: Callable[[int, int], bool],
) -> list[DuplicateGroup]:
    """Return copies, then bursts of what is left when only the best copy is kept.

    Args:
        photos: all.
        grey: (N, 64, 64), their thumbnails.
        options: what counts.
        failed: told about files that cannot be read.
        are_near: whether two photographs, by position, look alike.
    """
    ranks = _ranks(photos)
    copies = _copies(photos, grey, ranks, options.same, failed)
    found = [DuplicateGroup("copies", tuple(group)) for group in copies.values()]
    if options.bursts:
        second = {copy.path for group in copies.values() for copy in group[1:]}
        left = [place for place, photo in enumerate(photos) if photo.path not in second]
        found += _bursts(photos, left, ranks, options.burst_seconds, are_near)
    return sorted(found, key=lambda group: (group.kind != "copies", -len(group.photos), group.keep.path))


def _ranks(photos: Sequence[PhotoFile]) -> list[_Rank]:
    """Return what orders photographs, the one to keep first."""
    return [
        (
            -photo.size[0] * photo.size[1],
            photo.coarseness,
            not photo.keywords,
            _moment(photo.taken) if photo.taken else _SECONDS_TO_1970 + photo.mtime_ns / 1e9,
            os.fsencode(photo.path),
        )
        for photo in photos
    ]


def _copies(
    photos: Sequence[PhotoFile],
    grey: NDArray[np.uint8],
    ranks: Sequence[_Rank],
    same: Same,
    failed: Callable[[ImageReadError], None],
) -> dict[int, list[Copy]]:
    """Return the groups of copies by the position of the one to keep."""
    order = sorted(range(len(photos)), key=ranks.__getitem__)
    by_digest: dict[str, list[int]] = defaultdict(list)
    for place in order:
        by_digest[photos[place].digest].append(place)
    sets = list(by_digest.values())
    contents = {place: content for places in sets for place, content in _contents(photos, places, failed)}
    if same == "bytes":
        by_content: dict[str, list[int]] = defaultdict(list)
        for place in order:
            by_content[contents.get(place, f"of {place}")].append(place)
        sets = list(by_content.values())
    best = [places[0] for places in sets]
    firsts = {}
    if same == "picture":
        kept = [photos[place] for place in best]
        firsts = same_pictures(grey[best], _apart(kept), _closer_look(kept, grey[best], failed))
    groups: dict[int, list[Copy]] = {}
    for number, places in enumerate(sets):
        first, likeness = firsts.get(number, (number, None))
        group = groups.setdefault(best[first], [_copy(photos[best[first]], None, None)])
        for place in places:
            if place == best[first]:
                continue
            is_equal = contents.get(place, "") == contents.get(best[first])
            kind: Kind = "picture" if first != number else "bytes" if is_equal else "pixels"
            group.append(_copy(photos[place], kind, likeness))
    whole = {place: _without_more(group) for place, group in groups.items() if len(group) > 1}
    return {place: group for place, group in whole.items() if len(group) > 1}


def _without_more(group: list[Copy]) -> list[Copy]:
    """Return the group without files that hold more than the picture that was compared.

    Those of the same bytes as the first stay.
    """
    keep, *others = group
    return [keep, *(copy for copy in others if copy.kind == "bytes" or not _holds_more(copy.path))]


def _holds_more(path: str) -> bool:
    """Return whether a file has several pages or frames, or a film (a motion photo).

    The second picture of an MPO does not count.
    """
    if path.lower().endswith(_ONE_PICTURE):
        with (
            suppress(OSError),
            Path(path).open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return any(content.find(mark, _FIRST_BOX) != -1 for mark in _FILM)
        return False
    try:
        with Image.open(path) as image:
            return bool(getattr(image, "is_animated", False))
    except DECODER_ERRORS:
        return False


def _copy(photo: PhotoFile, kind: Kind | None, likeness: float | None) -> Copy:
    return Copy(
        photo.path, kind, photo.size, photo.bytes, photo.taken, photo.keywords, photo.digest, likeness
    )


def _contents(
    photos: Sequence[PhotoFile], places: Sequence[int], failed: Callable[[ImageReadError], None]
) -> Iterator[tuple[int, str]]:
    """Yield position and digest of the whole file of each that has the size of another."""
    by_size: dict[int, list[int]] = defaultdict(list)
    for place in places:
        by_size[photos[place].bytes].append(place)
    for same_size in by_size.values():
        for place in same_size if len(same_size) > 1 else ():
            path = photos[place].path
            try:
                found = digest_of(Path(path))
            except OSError as error:
                failed(ImageReadError(path, error.strerror or str(error)))
            else:
                if found:
                    yield place, found


def _apart(photos: Sequence[PhotoFile]) -> Callable[[_Places, _Places], NDArray[np.bool_]]:
    """Return a function that says which pairs of photographs were taken at different times."""
    seconds = np.array([_second(photo.taken) for photo in photos], dtype=np.float64)
    parts = np.array([_part(photo.taken) for photo in photos], dtype=np.float64)

    def are_apart(ones: _Places, others: _Places) -> NDArray[np.bool_]:
        apart = np.abs(seconds[ones] - seconds[others]) > 0  # False for NaN
        return np.asarray(apart | (np.abs(parts[ones] - parts[others]) > 0))

    return are_apart


def _closer_look(
    photos: Sequence[PhotoFile], grey: NDArray[np.uint8], failed: Callable[[ImageReadError], None]
) -> Callable[[int, int], bool]:
    """Return a function that says whether two photographs that are alike also show the same text.

    Only pictures on a flat ground that are large enough to hold text are read again for it.
    """

    @lru_cache(maxsize=_PAGES)
    def page(place: int) -> NDArray[np.uint8]:
        return grey_thumbnail(read_image(photos[place].path, target_size=PAGE_SIDE).image, PAGE_SIDE)

    def is_same(one: int, other: int) -> bool:
        if min(*photos[one].size, *photos[other].size) < LEAST_PAGE:
            return True
        if not (is_flat(grey[one]) or is_flat(grey[other])):
            return True
        try:
            return same_page(page(one), page(other))
        except ImageReadError as error:
            failed(error)
            return False

    return is_same


def _second(taken: str | None) -> float:
    """Return the seconds from the year 1 to a time, without its fraction; NaN for None."""
    if taken is None:
        return math.nan
    return (datetime.fromisoformat(taken[:19]) - datetime(1, 1, 1)).total_seconds()


def _part(taken: str | None) -> float:
    """Return the fraction of a second; NaN where it is not known."""
    return float(f"0{taken[19:]}") if taken and taken[19:] else math.nan


def _bursts(
    photos: Sequence[PhotoFile],
    left: Sequence[int],
    ranks: Sequence[_Rank],
    pause: float,
    are_near: Callable[[int, int], bool],
) -> Iterator[DuplicateGroup]:
    """Yield chains of photographs of one camera, each shortly after the one before and like it.

    Two cameras of one model may shoot at once, so that several chains are open.
    """
    moments = {place: _moment(photos[place].taken) for place in left if photos[place].taken}
    order = sorted(moments, key=lambda place: (photos[place].camera or "", moments[place], place))
    chains: list[list[int]] = []
    is_open: list[list[int]] = []
    for place in order:
        is_open = [
            chain
            for chain in is_open[-_MOST_OPEN:]
            if photos[chain[-1]].camera == photos[place].camera
            and moments[place] - moments[chain[-1]] <= pause
        ]
        chain = next((chain for chain in reversed(is_open) if are_near(chain[-1], place)), None)
        if chain is None:
            chain = []
            chains.append(chain)
        else:
            is_open.remove(chain)
        chain.append(place)
        is_open.append(chain)  # the one that was continued last is asked first
    for chain in chains:
        if len(chain) > 1:
            first, *others = sorted(chain, key=ranks.__getitem__)
            copies = [_copy(photos[first], None, None)]
            copies += [_copy(photos[other], "burst", None) for other in others]
            yield DuplicateGroup("burst", tuple(copies))


def _moment(taken: str | None) -> float:
    part = _part(taken)
    return _second(taken) + (0.0 if math.isnan(part) else part)


def _look_alike(grey: NDArray[np.uint8], one: int, other: int) -> bool:
    return coarse_likeness(grey[one], grey[other]) >= _NEAR_COARSE


def _are_near(
    index: Index, photos: Sequence[PhotoFile], grey: NDArray[np.uint8], one: int, other: int
) -> bool:
    """Return whether the vectors of two photographs are near; without vectors, whether they look alike."""
    rows = index.execute("SELECT value FROM vector WHERE photo IN (?, ?)", (photos[one].id, photos[other].id))
    if len(rows) < 2:
        return _look_alike(grey, one, other)
    first, second = (np.frombuffer(row[0], dtype="<f2").astype(np.float32) for row in rows)
    return float(first @ second) >= _NEAR_COSINE
