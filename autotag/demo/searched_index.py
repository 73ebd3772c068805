"""An index that visitors of the page search, one after another."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING

from autotag.errors import SearchIndexError
from autotag.images.reading import read_image
from autotag.search import Filter, Index, StoreIndex
from autotag.search.filters import read_place
from autotag.search.store import TABLE, store_opener
from autotag.search.thumbnails import thumbnails_of

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from autotag.search import Hit
    from autotag.search.queries import By

SHOWN = 1024
"""Pixels of the longer side of a photograph that is shown alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is searched for, as people write it; the options of ``autotag search``, empty for those not given.

    Attributes:
        words: to find by meaning and by text.
        image: an image file to resemble.
        like: the id of a photograph of the index to resemble.
        without: words that are not wanted.
        tags: separated by commas.
        folder, since, until, camera: see ``Filter``.
        near: ``52.52,13.405,5``.
        by: whether vectors, words or both count for the words.
        top: photographs at most.
    """

    words: str = ""
    image: bytes | None = None
    like: int | None = None
    without: str = ""
    tags: str = ""
    folder: str = ""
    since: str = ""
    until: str = ""
    camera: str = ""
    near: str = ""
    by: By = "both"
    top: int = 20

    @property
    def filter(self) -> Filter | None:
        """Return the conditions; None without any.

        Raises:
            ConfigError: a date or the place is wrong.
        """
        wanted = Filter(
            tags=tuple(tag for part in self.tags.split(",") if (tag := part.strip())),
            folder=self.folder.strip() or None,
            since=self.since.strip() or None,
            until=self.until.strip() or None,
            camera=self.camera.strip() or None,
            near=read_place(self.near) if self.near.strip() else None,
        )
        only_without = self.without.strip() and not (self.words.strip() or self.image or self.like)
        return None if wanted == Filter() and not only_without else wanted


@dataclass(frozen=True, slots=True)
class StorePlace:
    """A database server in which an index is.

    Attributes:
        url: see ``open_store``.
        table: or collection.

    Raises:
        ConfigError: the URL's scheme is not known.
    """

    url: str
    table: str = TABLE

    def __post_init__(self) -> None:
        store_opener(self.url)


@dataclass(eq=False)
class SearchedIndex:
    """An index, opened when it is first asked and again when another file takes its place.

    Attributes:
        place: the file, or the database server.
        device: where its encoder runs, see ``Pipeline``.
    """

    place: Path | StorePlace
    _: KW_ONLY
    device: str = "auto"
    _opened: tuple[Index | StoreIndex, tuple[int, int]] | None = field(init=False, repr=False, default=None)
    _turn: threading.Lock = field(init=False, repr=False, default_factory=threading.Lock)

    def search(self, question: Question) -> tuple[list[Hit], list[bytes | str]]:
        """Return the best matching photographs, and a JPEG of each or why there is none.

        Raises:
            ConfigError: there is nothing to search for, an option is wrong, or the store needs a package.
            SearchIndexError: the file is missing or damaged, the server refuses or cannot be reached, or
                another encoder than the index's was loaded.
            ImageReadError: the image cannot be read.
            ModelError: the encoder cannot be loaded.
        """
        wanted = question.filter
        with self._turn:
            index = self._index()
            hits = index.search(
                question.words.strip() or None,
                image=question.image,
                like=question.like,
                without=question.without.strip() or None,
                filter=wanted,
                top_k=question.top,
                by=question.by,
            )
            return hits, thumbnails_of(index, hits, index.pictures)

    def count(self) -> int:
        """Return how many photographs there are.

        Raises:
            ConfigError, SearchIndexError: see ``search``.
        """
        with self._turn:
            return len(self._index())

    def close(self) -> None:
        """Close the file or the connection."""
        with self._turn:
            self._close()

    def _index(self) -> Index | StoreIndex:
        file = self._file()
        if self._opened is None or self._opened[1] != file:
            self._close()
            self._opened = self._open(), file
        elif isinstance(self._opened[0], StoreIndex):
            with suppress(SearchIndexError):  # a connection that broke since is made again by the next call
                self._opened[0].about()
        return self._opened[0]

    def _open(self) -> Index | StoreIndex:
        if isinstance(self.place, StorePlace):
            url, table = self.place.url, self.place.table
            return StoreIndex.open(url, table=table, device=self.device, create=False)
        return Index.open(self.place, device=self.device, create=False)

    def _file(self) -> tuple[int, int]:
        """Return what tells the file from another one under the same path."""
        if isinstance(self.place, StorePlace):
            return 0, 0
        try:
            found = self.place.stat()
        except OSError:
            return 0, 0  # to open it says what is wrong
        return found.st_dev, found.st_ino

    def _close(self) -> None:
        if self._opened is not None:
            self._opened[0].close()
            self._opened = None


def enlarged(hit: Hit) -> Image.Image:
    """Return a photograph that a search found, upright, its longer side at most 1024 pixels.

    Raises:
        ImageReadError: it cannot be read, or is on the web.
    """
    image = read_image(hit.path, target_size=SHOWN // 2).image
    image.thumbnail((SHOWN, SHOWN))
    return image
