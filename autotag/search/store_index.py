"""``StoreIndex``: photographs that can be searched, in a database server."""

from __future__ import annotations

import os
from dataclasses import KW_ONLY, dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from platformdirs import user_cache_path

from autotag.config.checks import whole_number
from autotag.errors import ConfigError, SearchIndexError
from autotag.metadata.keywords import fold
from autotag.records import Tag
from autotag.search.ann_cache import NEEDED_RECALL
from autotag.search.fusion import ANY_WORD, EVERY_WORD, reciprocal_ranks
from autotag.search.hits import Hit
from autotag.search.incoming import facts_of, id_or_path, put_in_groups, stored_path, unit_embedding
from autotag.search.picture_cache import PictureCache
from autotag.search.queries import QueryEncoder, checked_query, refuse_encoder
from autotag.search.store import TABLE, Conditions, StoredPhoto, StoreEncoder, open_store
from autotag.search.text_query import TextQuery

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from os import PathLike
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from autotag.images.reading import ImageInput
    from autotag.protocols import ImageTextEncoder
    from autotag.records import Result
    from autotag.search.filters import Filter
    from autotag.search.known import Known
    from autotag.search.photo_facts import PhotoFacts
    from autotag.search.queries import By
    from autotag.search.store import VectorStore

Item = TypeVar("Item")

_DEPTH = 200  # entries of each ranking that are joined
_TOGETHER = 256  # photographs that are changed together
_SEPARATOR = os.fsencode(os.sep)
_KEYWORD = "keyword"
_MEASURED = 200  # photographs, and texts, that an approximate search is measured with
_NEAREST = 10
_EFFORTS = (100, 200, 400, 1000)
_ROUNDING = 1e-5  # of a cosine


@dataclass(frozen=True, slots=True)
class StoreGate:
    """What an approximate search of a store was measured to find.

    Attributes:
        effort: candidates that it keeps while it searches (``hnsw.ef_search``, ``hnsw_ef``).
        image_recall: part of the ten nearest that were found, for vectors of photographs, in [0, 1].
        text_recall: the same for vectors of captions and tags.
        image_queries: queries measured.
        text_queries: the same.
    """

    effort: int
    image_recall: float
    text_recall: float
    image_queries: int
    text_queries: int

    @property
    def passed(self) -> bool:
        """Whether both recalls are at least 0.98."""
        return min(self.image_recall, self.text_recall) >= NEEDED_RECALL


@dataclass(eq=False)
class StoreIndex:
    """Photographs that can be searched, in a database server. Opened by ``StoreIndex.open``.

    It is used as ``Index`` is, by many machines at once. Searches look at every vector until
    ``accelerate`` was run. An object belongs to one thread at a time.

    Attributes:
        store: where the photographs are.
        encoder: what embeds queries: a model's name, an object, or None for the one whose name the store
            keeps.
        device: where it runs, see ``Pipeline``.
    """

    store: VectorStore
    _: KW_ONLY
    encoder: str | ImageTextEncoder | None = None
    device: str = "auto"
    _queries: QueryEncoder = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._queries = QueryEncoder(self.store.name, self.store.about, self.encoder, self.device)

    @classmethod
    def open(
        cls,
        url: str,
        *,
        table: str = TABLE,
        encoder: str | ImageTextEncoder | None = None,
        device: str = "auto",
        create: bool = True,
    ) -> StoreIndex:
        """Open a store; use it in a ``with`` block, or ``close`` it.

        Args:
            url: see ``open_store``.
            table: or collection.
            encoder: what embeds queries; by default the encoder whose name the store keeps. One whose vectors
                the store does not hold is refused when it is first asked.
            device: where the encoder runs.
            create: whether to make the table where there is none.

        Raises:
            ConfigError: the URL's scheme is not known, or a package is missing.
            SearchIndexError: the server cannot be reached or refuses, or the table has another shape.
        """
        return cls(open_store(url, table=table, create=create), encoder=encoder, device=device)

    def close(self) -> None:
        """Close the connection, if the store opened it."""
        self.store.close()

    def __enter__(self) -> StoreIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return self.store.count()

    # ---- writing

    def add(
        self,
        results: Iterable[Result],
        *,
        facts: Mapping[str, PhotoFacts] | None = None,
        encoder_name: str | None = None,
    ) -> int:
        """Put results in, replacing what was there under the same path, and return how many.

        They are written by the dozen, so that what is killed in between loses little and breaks nothing.

        Args:
            results: see ``Index.add``.
            facts: by a result's source, what is known about its file; where it is missing, the file is read.
            encoder_name: by which the encoder of the results can be loaded for queries.

        Raises:
            SearchIndexError: a vector is of another encoder than those in the store, or writing fails.
        """

        def put_group(group: list[Result]) -> None:
            rows: dict[str, StoredPhoto] = {}
            encoder: StoreEncoder | None = None
            for result in group:
                made_by, photo = self._arrived(result, facts or {}, encoder_name or "")
                if None not in (made_by, encoder) and made_by != encoder:
                    refuse_encoder(self.store.name, str(made_by), str(encoder))
                encoder = encoder or made_by
                rows[photo.path] = photo
            self.store.upsert(list(rows.values()), encoder=encoder)

        return put_in_groups(results, put_group)

    def _arrived(
        self, result: Result, facts: Mapping[str, PhotoFacts], encoder_name: str
    ) -> tuple[StoreEncoder | None, StoredPhoto]:
        found = unit_embedding(result, self.store.name)
        photo = _stored(result, facts.get(result.source) or facts_of(result))
        if found is None:
            return None, photo
        encoder_id, vector = found
        return StoreEncoder(encoder_id, len(vector), encoder_name), replace(photo, vector=vector)

    def remove(self, *photos: int | str | PathLike[str]) -> int:
        """Forget photographs, by path or id, and return how many were there. No file is touched."""
        named = list(map(id_or_path, photos))
        paths = [os.fsdecode(one) for one in named if isinstance(one, bytes)]
        ids = [one for one in named if isinstance(one, int)]
        return self.store.delete([*ids, *self.store.ids(paths).values()])

    def known(self, images: Sequence[str], roots: Sequence[Path]) -> dict[bytes, Known]:
        """Return what is known of these images and of all photographs below the roots; see ``Updatable``."""
        folders = [_path(root) for root in roots]
        beginnings = tuple(stored_path(folder).rstrip(_SEPARATOR) + _SEPARATOR for folder in folders)
        single = [_path(image) for image in images if not stored_path(image).startswith(beginnings)]
        return {stored_path(path): known for path, known in self.store.known(single, folders)}

    def change(
        self,
        *,
        gone: Sequence[int],
        offline: Sequence[int],
        back: Sequence[int],
        facts: Sequence[tuple[int, str, PhotoFacts]],
    ) -> None:
        """Change photographs by id; see ``Updatable``.

        Raises:
            SearchIndexError: the server refuses.
        """
        if gone:
            self.store.delete(gone)
        for ids, mark in ((offline, True), (back, False)):
            for some in _parts(ids):
                self._put([replace(photo, offline=mark) for photo in self.store.photos(some).values()])
        self._rename({photo: _path(image) for photo, image, _ in facts})
        for some_facts in _parts(facts):
            ids_of = self.store.ids([_path(image) for _, image, _ in some_facts])
            photos = self.store.photos(list(ids_of.values()))
            known = {_path(image): one for _, image, one in some_facts}
            self._put([_with_facts(photo, known[photo.path]) for photo in photos.values()])

    def _rename(self, paths: Mapping[int, str]) -> None:
        """Put photographs under other paths, without a time of change until their new facts are written.

        So a run that is killed in between leaves photographs whose facts the next run reads.
        """
        for some in _parts(paths):
            kept = self.store.photos(some)
            moved = [photo for photo in some if photo in kept and kept[photo].path != paths[photo]]
            self._put([replace(kept[photo], mtime_ns=None) for photo in moved])
            for photo in moved:
                self.store.rename(photo, paths[photo])

    def _put(self, photos: Sequence[StoredPhoto]) -> None:
        about = self.store.about()
        encoder = None
        if "encoder" in about:
            encoder = StoreEncoder(about["encoder"], int(about["dimension"]), about["encoder_name"])
        self.store.upsert(photos, encoder=encoder)

    # ---- reading

    def digests(self, photos: Sequence[int]) -> dict[int, str]:
        """Return id -> digest of the pixels; without missing ones and files that were not read."""
        kept = self.store.photos(photos)
        return {photo: one.digest for photo, one in kept.items() if one.digest is not None}

    @property
    def pictures(self) -> PictureCache:
        """Where thumbnails of all stores are kept on this machine: the user's cache folder of autotag."""
        return PictureCache(user_cache_path("autotag", appauthor=False) / "store-pictures")

    def about(self) -> dict[str, str]:
        """Return the facts that the store keeps: encoder, encoder_name, dimension, generation ..."""
        return self.store.about()

    def remember(self, facts: Mapping[str, str]) -> None:
        """Keep facts about the index, replacing those of the same names.

        Raises:
            SearchIndexError: the server refuses.
        """
        self.store.remember(facts)

    def stats(self) -> dict[str, object]:
        """Return numbers of photographs and vectors, the encoder, and the effort of an approximate search."""
        about = self.about()
        effort = about.get("effort")
        return {
            "photos": self.store.count(),
            "vectors": self.store.count(vectors=True),
            "encoder": about.get("encoder"),
            "dimension": int(about.get("dimension", 0)),
            "generation": self.store.generation(),
            "approximate": {"effort": int(effort), "recall": float(about["recall"])} if effort else None,
        }

    def search(
        self,
        text: str | None = None,
        *,
        image: ImageInput | None = None,
        like: int | None = None,
        without: str | None = None,
        filter: Filter | None = None,  # noqa: A002 - the word that people look for
        top_k: int = 20,
        by: By = "both",
    ) -> list[Hit]:
        """Return the best matching photographs, best first; as ``Index.search``, whose arguments these are.

        Raises:
            ConfigError: there is nothing to search for, or an option is wrong.
            SearchIndexError: the encoder is not the store's, or the server refuses.
            ImageReadError: the image cannot be read.
            ModelError: the encoder cannot be loaded.
        """
        top_k = whole_number("top_k", top_k)
        query = checked_query(text, by, top_k, without)
        like = None if like is None else whole_number("like", like)
        if query is None and image is None and like is None and filter is None:
            raise ConfigError("nothing to search for; give words, an image, a photograph, or a filter.")
        top_k = top_k if top_k <= _DEPTH else min(top_k, max(_DEPTH, len(self)))
        by = self._queries.chosen(by, query, (image, like), self.__len__)
        resembled = None if like is None else self._vector_of(like)
        vectors = self._queries.vectors(query if by != "words" else None, image, resembled, without)
        conditions = Conditions(
            filter,
            phrases=query.quoted if query is not None else (),
            unwanted=TextQuery.parse(without).wanted if without else (),
            other_than=() if like is None else (like,),
        )
        words = query.wanted if query is not None and by != "vectors" else ()
        depth = max(_DEPTH, top_k) if len(vectors) + bool(words) > 1 else top_k
        effort = int(self.about().get("effort") or 0) or None
        rankings = [self.store.search(vector, depth, conditions, effort=effort) for vector in vectors]
        cosines: dict[int, float] = {}
        for ranking in rankings:
            for photo, cosine in ranking:
                cosines[photo] = max(cosine, cosines.get(photo, -1.0))
        ranked = [[photo for photo, _ in ranking] for ranking in rankings]
        weights = [1.0] * len(ranked)
        if words:
            ranked.append(self.store.search_words(words, depth, conditions))
            weights.append(1.0)
            if len(words) > 1:
                ranked.append(self.store.search_words(words, depth, conditions, every=True))
                weights[-1:] = ANY_WORD, EVERY_WORD
        if not ranked:
            ranked, weights = [self.store.newest(depth, conditions)], [1.0]
        best = list(reciprocal_ranks(ranked, weights).items())[:top_k]
        ids = [photo for photo, _ in best]
        photos = self.store.photos(ids)
        matched = self.store.matched_words(words, ids) if words else {}
        return [
            _hit(photo, photos[photo], score, cosines.get(photo), matched.get(photo, ()))
            for photo, score in best
            if photo in photos  # another program may have deleted it
        ]

    def _vector_of(self, photo: int) -> NDArray[np.float32]:
        found = self.store.photos([photo]).get(photo)
        if found is None or found.vector is None:
            raise SearchIndexError(self.store.name, f"no photograph has the id {photo} and a vector.")
        return found.vector.astype(np.float32)

    # ---- approximate search

    def accelerate(self) -> StoreGate:
        """Build an approximate search (HNSW), and use it if it finds enough.

        200 photographs, drawn at random, and their captions or tags serve as queries, and are searched
        exactly, too. The number of candidates is raised until 0.98 of the ten nearest are found for both. If
        that cannot be reached, searches stay exact.

        Raises:
            SearchIndexError: there are no vectors, no texts to measure with, or the server refuses.
            ModelError: the encoder cannot be loaded.
        """
        sample = self.store.photos(self.store.sample(_MEASURED))
        texts = list(dict.fromkeys(filter(None, map(_text_of, sample.values()))))
        if not texts:
            raise SearchIndexError(
                self.store.name, "it has no photograph with a vector and a caption to measure searches with."
            )
        images = [one.vector.astype(np.float32) for one in sample.values() if one.vector is not None]
        queries = [images, list(self._queries.texts(texts))]
        exact = [[self.store.search(vector, _NEAREST + 1) for vector in some] for some in queries]
        self.store.build_approximate()
        for effort in _EFFORTS:
            recalls = [
                float(np.mean([self._recall(*pair, effort) for pair in zip(some, nearest, strict=True)]))
                for some, nearest in zip(queries, exact, strict=True)
            ]
            gate = StoreGate(effort, recalls[0], recalls[1], len(images), len(texts))
            if gate.passed:
                break
        used = str(gate.effort) if gate.passed else ""
        self.store.remember({"effort": used, "recall": f"{min(recalls):.4f}"})
        return gate

    def _recall(
        self, vector: NDArray[np.float32], nearest: Sequence[tuple[int, float]], effort: int
    ) -> float:
        """Return the part of the nearest that an approximate search finds, or others as near as the last."""
        found = self.store.search(vector, len(nearest), effort=effort)
        least = nearest[-1][1] - _ROUNDING
        return sum(cosine >= least for _, cosine in found) / len(nearest)


def _path(source: str | PathLike[str]) -> str:
    return os.fsdecode(stored_path(source))


def _parts(items: Iterable[Item]) -> Iterator[list[Item]]:
    following = iter(items)
    while some := list(islice(following, _TOGETHER)):
        yield some


def _stored(result: Result, facts: PhotoFacts | None) -> StoredPhoto:
    photo = StoredPhoto(
        _path(result.source),
        size=result.size,
        caption=result.caption,
        tags=result.tags,
        concepts=tuple(dict.fromkeys(fold(tag.concept) for tag in result.tags if tag.concept)),
        error=result.error,
    )
    return photo if facts is None else _with_facts(photo, facts)


def _with_facts(photo: StoredPhoto, facts: PhotoFacts) -> StoredPhoto:
    return replace(
        photo,
        keywords=facts.keywords,
        taken=facts.shot.taken,
        camera=facts.shot.camera,
        latitude=facts.shot.latitude,
        longitude=facts.shot.longitude,
        bytes=facts.bytes,
        mtime_ns=facts.mtime_ns,
        digest=facts.digest,
        offline=False,
        sidecars=facts.sidecars,
    )


def _hit(photo: int, found: StoredPhoto, score: float, cosine: float | None, words: Sequence[str]) -> Hit:
    return Hit(
        id=photo,
        path=found.path,
        score=score,
        caption=found.caption,
        tags=(*found.tags, *(Tag(word, 0.0, _KEYWORD) for word in found.keywords)),
        size=found.size,
        taken=found.taken,
        cosine=cosine,
        words=tuple(words),
        offline=found.offline,
    )


def _text_of(photo: StoredPhoto) -> str:
    return photo.caption or ", ".join(tag.text for tag in photo.tags)
