"""``QdrantStore``: a collection of Qdrant."""

from __future__ import annotations

import os
import time
import uuid
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from autotag.errors import ConfigError, SearchIndexError, install_hint
from autotag.search.store import (
    ANYTHING,
    TABLE,
    Conditions,
    StoredPhoto,
    StoreEncoder,
    encoder_facts,
    refuse_unnamed_encoder,
)
from autotag.search.stored_text import path_to_text
from autotag.search.stores.qdrant_filters import filter_of, has_phrase, listed
from autotag.search.stores.qdrant_points import (
    FACTS,
    VECTOR,
    id_of,
    known_of,
    lemmas_of,
    matching_words,
    number_of,
    payload_of,
    photo_of,
    texts_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from qdrant_client import QdrantClient
    from qdrant_client.http.models import Filter as QdrantFilter

    from autotag.search.known import Known

KEY_VARIABLE = "QDRANT_API_KEY"
"""The environment variable of the API key."""

_MARK = {"made_by": "autotag"}
_INDEXED = "indexed"  # in the metadata once the payload indexes are there
_OLDEST = (1, 20)  # the first version with text ranking and prefix matching as they are used here
_TIMEOUT = 60  # seconds
_TOGETHER = 256  # points that are asked for together


@dataclass(eq=False)
class QdrantStore:
    """Photographs in a collection of Qdrant 1.20 or newer.

    Made with a client of the caller's, or by ``open``.

    Every call is a request of its own: there are no transactions. Two programs that write the same
    photograph at once leave the later one's.

    Attributes:
        client: of qdrant-client.
        table: the collection's name.
        create: whether to make the collection where it is missing.

    Raises:
        ConfigError: qdrant-client is not installed, or the name is empty.
        SearchIndexError: there is no collection and ``create`` is False, autotag did not make it, or the
            server is too old.
    """

    client: QdrantClient
    table: str = TABLE
    _: KW_ONLY
    create: bool = True
    url: str = "qdrant://..."
    _owns: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        _package()
        if not self.table:
            raise ConfigError("table is empty; name a collection.")
        with self._asked():
            self._prepare()

    @classmethod
    def open(cls, url: str, *, table: str = TABLE, create: bool = True) -> QdrantStore:
        """Connect to a server over HTTP; ``close`` ends the connection.

        Args:
            url: ``qdrant://HOST:6333``, or ``qdrant+https://HOST:6333``. The API key is read from the
                environment variable ``QDRANT_API_KEY``.
            table: the collection's name.
            create: whether to make the collection where it is missing.

        Raises:
            ConfigError: qdrant-client is not installed, or the URL is wrong.
            SearchIndexError: the server cannot be reached, see also the class.
        """
        qdrant = _package()
        host = _host(url)
        scheme = "https" if url.startswith("qdrant+https:") else "http"
        client = qdrant.QdrantClient(
            url=f"{scheme}://{host}",
            api_key=os.environ.get(KEY_VARIABLE) or None,
            timeout=_TIMEOUT,
            check_compatibility=False,  # the version is checked below, with an error
        )
        try:
            return cls(client, table, create=create, url=url, _owns=True)
        except BaseException:
            client.close()
            raise

    @property
    def name(self) -> str:
        """The server and the collection."""
        return f"{self.url}, collection {self.table}"

    def close(self) -> None:
        """Close the connection, if ``open`` made it."""
        if self._owns:
            self.client.close()

    # ---- writing

    def upsert(self, photos: Sequence[StoredPhoto], *, encoder: StoreEncoder | None = None) -> None:
        """Put photographs in, replacing those with the same paths; see ``VectorStore``."""
        with self._asked():
            self._check_encoder(photos, encoder)
            self._put(photos)
            self._count_change()

    def _check_encoder(self, photos: Sequence[StoredPhoto], encoder: StoreEncoder | None) -> None:
        having = next((photo for photo in photos if photo.vector is not None), None)
        if having is None:
            return
        if encoder is None:
            refuse_unnamed_encoder(having)
        new = encoder_facts(self.name, self.about(), encoder)
        if not new:
            return
        self._make_vector(encoder)
        self.remember(new)
        encoder_facts(self.name, self.about(), encoder)  # another program may have been first

    def _make_vector(self, encoder: StoreEncoder) -> None:
        """Make the vector of a collection without an encoder, in which no photograph can have one.

        A program that was killed may have made it already, of another dimension.
        """
        from qdrant_client import models

        vectors = self.client.get_collection(self.table).config.params.vectors
        made = vectors.get(VECTOR) if isinstance(vectors, dict) else None
        if made is not None and made.size == encoder.dimension:
            return
        if made is not None:
            encoder_facts(self.name, self.about(), encoder)  # it may be another program's by now
            self.client.delete_vector_name(self.table, VECTOR)
        dense = models.DenseVectorConfig(
            size=encoder.dimension,
            distance=models.Distance.COSINE,
            datatype=models.VectorStorageDatatype.FLOAT16,
        )
        self.client.create_vector_name(self.table, VECTOR, models.DenseVectorNameConfig(dense=dense))

    def _put(self, photos: Sequence[StoredPhoto]) -> None:
        from qdrant_client import models

        points = [
            models.PointStruct(
                id=str(id_of(photo.path)),
                payload=payload_of(photo),
                vector={} if photo.vector is None else {VECTOR: photo.vector.astype(np.float32).tolist()},
            )
            for photo in photos
        ]
        if points:
            self.client.upsert(self.table, points, wait=True)

    def delete(self, ids: Sequence[int]) -> int:
        """Forget photographs, and return how many were there."""
        from qdrant_client import models

        with self._asked():
            there = [str(point.id) for point in self._points(ids, payload=False)]
            if there:
                self.client.delete(self.table, models.PointIdsList(points=list(there)), wait=True)
                self._count_change()
            return len(there)

    def rename(self, photo: int, path: str) -> None:
        """Put a photograph under another path, replacing what was there; its id changes."""
        from qdrant_client import models

        kept = self.photos([photo]).get(photo)
        if kept is None:
            raise SearchIndexError(self.name, f"no photograph has the id {photo}.")
        with self._asked():
            self._put([replace(kept, path=path)])
            if id_of(path).int != photo:
                old = models.PointIdsList(points=[str(uuid.UUID(int=photo))])
                self.client.delete(self.table, old, wait=True)
            self._count_change()

    def remember(self, facts: Mapping[str, str]) -> None:
        """Keep facts in the collection's metadata, replacing those of the same names."""
        with self._asked():
            self.client.update_collection(self.table, metadata=dict(facts))

    def _count_change(self) -> None:
        generation = max(self.generation() + 1, time.time_ns() // 1000)  # programs do not count alike
        self.client.update_collection(self.table, metadata={"generation": str(generation)})

    def build_approximate(self) -> None:
        """Do nothing: the server builds and keeps an HNSW index by itself."""

    # ---- reading

    def search(
        self,
        vector: NDArray[np.float32],
        k: int,
        conditions: Conditions = ANYTHING,
        *,
        effort: int | None = None,
    ) -> list[tuple[int, float]]:
        """Return id and cosine of the nearest photographs; see ``VectorStore``."""
        from qdrant_client import models

        if "encoder" not in self.about():
            return []
        params = models.SearchParams(exact=True) if effort is None else models.SearchParams(hnsw_ef=effort)
        with self._asked():
            found = self.client.query_points(
                self.table,
                query=vector.astype(np.float32).tolist(),
                using=VECTOR,
                query_filter=filter_of(conditions),
                search_params=params,
                limit=k,
                with_payload=False,
            ).points
        hits = [(number_of(point.id), max(-1.0, min(1.0, float(point.score)))) for point in found]
        return sorted(hits, key=lambda hit: (-hit[1], hit[0]))

    def search_words(
        self, words: Sequence[str], k: int, conditions: Conditions = ANYTHING, *, every: bool = False
    ) -> list[int]:
        """Return photographs whose texts have any, or every one, of the words or phrases, by BM25."""
        from qdrant_client import models

        terms = [term for term in map(lemmas_of, words) if term]
        if not terms:
            return []
        wanted = filter_of(conditions)
        if every:
            wanted.must = [*listed(wanted.must), *map(has_phrase, terms)]
        else:
            wanted.should = [has_phrase(term) for term in terms]
        with self._asked():
            found = self.client.query_points(
                self.table,
                query=models.TextQuery(text=models.TextQueryInput(query=" ".join(terms))),
                using="words",
                query_filter=wanted,
                limit=k,
                with_payload=False,
            ).points
        return [number_of(point.id) for point in found]

    def matched_words(self, words: Sequence[str], ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
        """Return id -> words of its texts that the words or phrases match, in their order, each once."""
        terms = [term.split() for term in map(lemmas_of, words) if term]
        found = {
            photo: tuple(dict.fromkeys(matching_words(texts_of(kept), terms)))
            for photo, kept in self.photos(ids).items()
        }
        return {photo: matches for photo, matches in found.items() if matches}

    def newest(self, k: int, conditions: Conditions = ANYTHING) -> list[int]:
        """Return photographs by the time at which they were taken, newest first, those without one last."""
        from qdrant_client import models

        newest = models.OrderBy(key="taken", direction=models.Direction.DESC)
        wanted = filter_of(conditions)
        with self._asked():
            found = list(islice(self._scroll(wanted, order_by=newest, most=k), k))
            if len(found) < k:
                without = models.IsEmptyCondition(is_empty=models.PayloadField(key="taken"))
                wanted.must = [*listed(wanted.must), without]
                found += islice(self._scroll(wanted, most=k), k - len(found))
        return [number_of(point.id) for point in found]

    def photos(self, ids: Sequence[int]) -> dict[int, StoredPhoto]:
        """Return photographs by id; missing ones are left out."""
        with self._asked():
            found = self._points(ids, vectors=True)
        return {number_of(point.id): photo_of(point.payload or {}, point.vector) for point in found}

    def ids(self, paths: Sequence[str]) -> dict[str, int]:
        """Return path -> id of those of the paths that are there."""
        numbers = {id_of(path).int: path for path in paths}
        with self._asked():
            found = self._points(list(numbers), payload=False)
        return {numbers[number_of(point.id)]: number_of(point.id) for point in found}

    def known(self, paths: Sequence[str], folders: Sequence[str]) -> Iterator[tuple[str, Known]]:
        """Yield path and facts of those of the paths that are there, and of all photographs below folders."""
        from qdrant_client import models

        with self._asked():
            for point in self._points([id_of(path).int for path in paths], payload=list(FACTS)):
                yield known_of(point)
            for folder in folders:
                start = models.MatchPrefix(prefix=path_to_text(folder.rstrip(os.sep) + os.sep))
                below = models.Filter(must=[models.FieldCondition(key="path", match=start)])
                for point in self._scroll(below, payload=list(FACTS)):
                    yield known_of(point)

    def sample(self, count: int) -> list[int]:
        """Return ids of photographs with a vector, drawn at random."""
        from qdrant_client import models

        if "encoder" not in self.about():
            return []
        with self._asked():
            found = self.client.query_points(
                self.table,
                query=models.SampleQuery(sample=models.Sample.RANDOM),
                query_filter=models.Filter(must=[models.HasVectorCondition(has_vector=VECTOR)]),
                limit=count,
                with_payload=False,
            ).points
        return [number_of(point.id) for point in found]

    def count(self, *, vectors: bool = False) -> int:
        """Return how many photographs there are, or how many with a vector."""
        from qdrant_client import models

        flag = models.FieldCondition(key="has_vector", match=models.MatchValue(value=True))
        wanted = models.Filter(must=[flag]) if vectors else None
        with self._asked():
            return int(self.client.count(self.table, count_filter=wanted, exact=True).count)

    def generation(self) -> int:
        """Return a number that grows with every change; 0 before the first."""
        return int(self.about().get("generation", 0))

    def about(self) -> dict[str, str]:
        """Return the collection's metadata."""
        with self._asked():
            return dict(self.client.get_collection(self.table).config.metadata or {})

    # ---- requests

    def _points(
        self, ids: Sequence[int], *, payload: bool | list[str] = True, vectors: bool = False
    ) -> list[Any]:
        wanted = [str(uuid.UUID(int=photo)) for photo in ids if 0 <= photo < 2**128]
        found: list[Any] = []
        for first in range(0, len(wanted), _TOGETHER):
            found += self.client.retrieve(
                self.table, wanted[first : first + _TOGETHER], with_payload=payload, with_vectors=vectors
            )
        return found

    def _scroll(
        self,
        wanted: QdrantFilter,
        *,
        payload: bool | list[str] = False,
        order_by: Any = None,
        most: int | None = None,
    ) -> Iterator[Any]:
        """Yield points; in an order only the first ``most``, as Qdrant continues no ordered list."""
        offset = None
        while True:
            points, offset = self.client.scroll(
                self.table,
                scroll_filter=wanted,
                limit=_TOGETHER if most is None else most,
                offset=offset,
                order_by=order_by,
                with_payload=payload,
            )
            yield from points
            if offset is None or order_by is not None:
                return

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Turn errors of the client into ours.

        Raises:
            SearchIndexError: in their place.
        """
        from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

        try:
            yield
        except ResponseHandlingException as error:
            raise SearchIndexError(self.name, f"the server cannot be reached: {error}") from error
        except UnexpectedResponse as error:
            if error.status_code in {401, 403}:
                reason = f"the server wants another API key; set {KEY_VARIABLE}."
            else:
                reason = f"the server refuses: {_told(error)}"
            raise SearchIndexError(self.name, reason) from error

    # ---- the collection

    def _prepare(self) -> None:
        version = str(self.client.info().version)
        if tuple(map(int, version.split(".")[:2])) < _OLDEST:
            raise SearchIndexError(self.name, f"the server is Qdrant {version}; update it to 1.20 or newer.")
        if not self.client.collection_exists(self.table):
            if not self.create:
                raise SearchIndexError(
                    self.name,
                    "there is no such collection; `autotag index FOLDER --store URL --table NAME` makes it.",
                )
            self.client.create_collection(self.table, vectors_config={}, metadata=dict(_MARK))
        about = self.about()
        if _MARK.items() - about.items():
            raise SearchIndexError(
                self.name,
                "another program made this collection; choose another name (--table NAME, table=...).",
            )
        if self.create and _INDEXED not in about:  # new, or left by a program that was killed
            self._make_indexes()
            self.remember({_INDEXED: "yes"})

    def _make_indexes(self) -> None:
        from qdrant_client import models

        prefixes = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, prefix=True)
        text = models.TextIndexParams(type=models.TextIndexType.TEXT, phrase_matching=True, scoring=True)
        schemas: dict[str, Any] = {
            "path": prefixes,
            "camera_folded": prefixes,
            "labels": models.PayloadSchemaType.KEYWORD,
            "taken": models.PayloadSchemaType.DATETIME,
            "place": models.PayloadSchemaType.GEO,
            "has_vector": models.PayloadSchemaType.BOOL,
            "words": text,
        }
        for name, schema in schemas.items():
            self.client.create_payload_index(self.table, name, schema, wait=True)


def _package() -> Any:
    try:
        import qdrant_client
    except ImportError as error:
        raise ConfigError(f"Qdrant needs: {install_hint('qdrant')}") from error
    return qdrant_client


def _host(url: str) -> str:
    """Return host and port of a URL.

    Raises:
        ConfigError: it has other parts, or none; it is not told, as it may hold a key.
    """
    parts = urlsplit(url)
    if not parts.netloc or "@" in url or parts.path.strip("/") or parts.query:
        raise ConfigError(
            f"write qdrant://HOST:PORT or qdrant+https://HOST:PORT, and the API key into {KEY_VARIABLE}."
        )
    return parts.netloc


def _told(error: Any) -> str:
    """Return what the server says about an error, without its headers."""
    content = error.content
    return content.decode("utf-8", "replace")[:300] if isinstance(content, bytes) else str(error)[:300]
