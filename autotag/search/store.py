"""``VectorStore``: photographs and their vectors in a database server, where many machines read and write."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, NoReturn, Protocol, runtime_checkable

from autotag.config import registry
from autotag.errors import ConfigError
from autotag.metadata.keywords import fold
from autotag.search.queries import check_encoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from autotag.records import Tag
    from autotag.search.filters import Filter
    from autotag.search.known import Known

TABLE = "photo"
"""The table or collection where none is named."""


@dataclass(frozen=True, slots=True)
class StoredPhoto:
    """A photograph as a store keeps it.

    Attributes:
        path: absolute, or a URL; the key.
        _: what follows is named.
        size: width, height of the upright original in pixels.
        caption: the best one.
        tags: the models' tags, best first; text, score and source are kept.
        keywords: what people wrote into the file.
        taken: local time, ``"2020-05-17T14:03:59"``, or None.
        camera: make and model.
        latitude: degrees, north is positive.
        longitude: degrees, east is positive.
        bytes: size of the file.
        mtime_ns: when it was changed last.
        digest: of its pixels.
        error: why it failed, or None.
        offline: whether its folder was not there.
        sidecars: stamp of its sidecars, see ``PhotoFacts``.
        concepts: the vocabulary's labels of tags in other languages, in normal form (``fold``); a store finds
            them as it finds tags. One that is a tag or keyword, too, need not come back.
        vector: (D,) of length 1, or None; float16 is kept.
    """

    path: str
    _: KW_ONLY
    size: tuple[int, int] = (0, 0)
    caption: str = ""
    tags: tuple[Tag, ...] = ()
    keywords: tuple[str, ...] = ()
    taken: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    bytes: int | None = None
    mtime_ns: int | None = None
    digest: str | None = None
    error: str | None = None
    offline: bool = False
    sidecars: str = ""
    concepts: tuple[str, ...] = ()
    vector: NDArray[np.float32] | NDArray[np.float16] | None = None


@dataclass(frozen=True, slots=True)
class StoreEncoder:
    """The encoder of a store's vectors.

    Attributes:
        id: of the encoder and its weights (``ImageTextEncoder.id``); vectors of another one are refused.
        dimension: of its vectors.
        name: by which it can be loaded for queries, or empty.
    """

    id: str
    dimension: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a photograph must meet to be found, all of it.

    Attributes:
        filter: tags, folder, dates, camera, place.
        phrases: each must stand in its caption, tags, keywords or file name.
        unwanted: words or phrases that must not stand there, none of them.
        other_than: ids of photographs that are not to be found.
    """

    filter: Filter | None = None
    phrases: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    other_than: tuple[int, ...] = ()


ANYTHING = Conditions()
"""Conditions that every photograph meets."""


@runtime_checkable
class VectorStore(Protocol):
    """Keeps photographs with vectors and searches them. Made by ``open_store``, or with a connection.

    Ids are the store's own. An object belongs to one thread at a time. Methods raise ``SearchIndexError``
    when the server refuses or cannot be reached.
    """

    @property
    def name(self) -> str:
        """The server and the table, without a password, for messages."""
        ...

    def upsert(self, photos: Sequence[StoredPhoto], *, encoder: StoreEncoder | None = None) -> None:
        """Put photographs in, all or nothing, replacing those with the same paths.

        Args:
            photos: none twice.
            encoder: of the vectors; needed where a photograph has one. The first one decides.

        Raises:
            SearchIndexError: the store's vectors are of another encoder.
        """
        ...

    def delete(self, ids: Sequence[int]) -> int:
        """Forget photographs, and return how many were there."""
        ...

    def rename(self, photo: int, path: str) -> None:
        """Put a photograph under another path, replacing what was there."""
        ...

    def search(
        self,
        vector: NDArray[np.float32],
        k: int,
        conditions: Conditions = ANYTHING,
        *,
        effort: int | None = None,
    ) -> list[tuple[int, float]]:
        """Return id and cosine of the nearest photographs, nearest first; fewer than ``k`` only if there are.

        Args:
            vector: (D,) of length 1.
            k: photographs at most.
            conditions: which may be found.
            effort: None to look at every vector; a number for an approximate search with so many candidates.
        """
        ...

    def search_words(
        self, words: Sequence[str], k: int, conditions: Conditions = ANYTHING, *, every: bool = False
    ) -> list[int]:
        """Return photographs whose texts have any, or every one, of the words or phrases, best first."""
        ...

    def matched_words(self, words: Sequence[str], ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
        """Return id -> words of its texts that the words or phrases match, in their order, each once."""
        ...

    def newest(self, k: int, conditions: Conditions = ANYTHING) -> list[int]:
        """Return photographs by the time at which they were taken, newest first, those without one last."""
        ...

    def photos(self, ids: Sequence[int]) -> dict[int, StoredPhoto]:
        """Return photographs by id; missing ones are left out."""
        ...

    def ids(self, paths: Sequence[str]) -> dict[str, int]:
        """Return path -> id of those of the paths that are there."""
        ...

    def known(self, paths: Sequence[str], folders: Sequence[str]) -> Iterator[tuple[str, Known]]:
        """Yield path and facts of those of the paths that are there, and of all photographs below folders."""
        ...

    def sample(self, count: int) -> list[int]:
        """Return ids of photographs with a vector, drawn at random."""
        ...

    def count(self, *, vectors: bool = False) -> int:
        """Return how many photographs there are, or how many with a vector."""
        ...

    def generation(self) -> int:
        """Return a number that grows with every change; 0 before the first."""
        ...

    def about(self) -> dict[str, str]:
        """Return facts that are kept: encoder, encoder_name, dimension, generation, and remembered ones."""
        ...

    def remember(self, facts: Mapping[str, str]) -> None:
        """Keep facts, replacing those of the same names."""
        ...

    def build_approximate(self) -> None:
        """Build what an approximate search needs, if the store does not keep it by itself."""
        ...

    def close(self) -> None:
        """Close the connection, if the store opened it."""
        ...


def open_store(url: str, *, table: str = TABLE, create: bool = True) -> VectorStore:
    """Open a store by its URL; the scheme decides which.

    Args:
        url: ``postgresql://user@host/database``, ``qdrant://host:6333``, ``qdrant+https://host``.
        table: of Postgres, with a schema before it if need be (``gallery.photo``); or collection of Qdrant.
        create: whether to make the table where there is none.

    Raises:
        ConfigError: the URL's scheme is not known, or a package is missing.
        SearchIndexError: the server cannot be reached or refuses, or the table has another shape.
    """
    return store_opener(url)(url, table=table, create=create)


def store_opener(url: str) -> Callable[..., VectorStore]:
    """Return what opens a store with a URL; nothing is connected.

    Raises:
        ConfigError: its scheme is not known.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        known = ", ".join(f"{name}://" for name in registry.names("store"))
        raise ConfigError(f"a store is named by a URL that begins with one of {known}")
    opener: Callable[..., VectorStore] = registry.resolve("store", scheme)
    return opener


def other_labels(labels: Iterable[str], texts: Iterable[str]) -> tuple[str, ...]:
    """Return those of a photograph's labels that are the normal form of no tag or keyword: its concepts."""
    known = {fold(text) for text in texts if text}
    return tuple(label for label in labels if label and label not in known)


def encoder_facts(where: str, about: Mapping[str, str], encoder: StoreEncoder) -> dict[str, str]:
    """Return the facts to keep about the first encoder; none when it is the store's.

    Raises:
        SearchIndexError: the store's vectors are of another one.
    """
    if "encoder" not in about:
        return {
            "encoder": encoder.id,
            "encoder_name": encoder.name,
            "dimension": str(encoder.dimension),
        }
    check_encoder(where, about, encoder.id, encoder.dimension)
    return {}


def refuse_unnamed_encoder(photo: StoredPhoto) -> NoReturn:
    """Say that a vector without its encoder cannot be kept.

    Raises:
        ConfigError: always.
    """
    raise ConfigError(
        f"{photo.path!r} has a vector; name its encoder: upsert(..., encoder=StoreEncoder(...))."
    )
