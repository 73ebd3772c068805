"""``Index``: photographs, what was found in them, and their vectors, in one file that can be searched."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from autotag.config.checks import check_choice, whole_number
from autotag.errors import ConfigError, SearchIndexError
from autotag.records import Tag
from autotag.search.ann_cache import Kind, build, gate_of
from autotag.search.fusion import ANY_WORD, EVERY_WORD, reciprocal_ranks
from autotag.search.hits import Hit
from autotag.search.incoming import facts_of, id_or_path, put_in_groups
from autotag.search.index_writing import put, put_facts
from autotag.search.known import Known
from autotag.search.picture_cache import PictureCache, cache_beside
from autotag.search.queries import QueryEncoder, checked_query
from autotag.search.schema import MEMORY, about_of, connect, made, readable
from autotag.search.text_query import TextQuery
from autotag.search.vector_rows import IN_MEMORY, VectorRows, load_rows, stamp_of
from autotag.search.word_rankings import full_match_ranking, matched_words, newest, word_ranking

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from os import PathLike
    from types import TracebackType

    from numpy.typing import NDArray

    from autotag.images.reading import ImageInput
    from autotag.protocols import ImageTextEncoder
    from autotag.records import Result
    from autotag.search.ann_cache import Gate
    from autotag.search.filters import Filter
    from autotag.search.photo_facts import PhotoFacts
    from autotag.search.queries import By

    _FilterKey = tuple[int, tuple[str, ...], tuple[object, ...]]  # generation, conditions, parameters

_DEPTH = 1000  # entries of each ranking that are joined
_MEASURED = 200  # photographs, and texts, that an approximate search is measured with
_TOGETHER = 500  # most parameters of one query


@dataclass(eq=False)
class Index:
    """Photographs that can be searched, in one SQLite file. Opened by ``Index.open``.

    One index may be read by many programs while one writes it. An object belongs to one thread at a time.

    Attributes:
        path: the file.
        encoder: what embeds queries: a model's name, an object, or None for the one whose name the index
            keeps.
        device: where it runs, see ``Pipeline``.
        in_memory: vectors of so many photographs at most are held in memory; more are in a mapped file.
    """

    path: Path
    _: KW_ONLY
    encoder: str | ImageTextEncoder | None = None
    device: str = "auto"
    in_memory: int = IN_MEMORY
    _held: sqlite3.Connection = field(repr=False)
    _has_file: bool = field(init=False, repr=False, default=False)
    _queries: QueryEncoder = field(init=False, repr=False)
    _rows: tuple[int, VectorRows] | None = field(init=False, repr=False, default=None)
    _last_filter: tuple[_FilterKey, NDArray[np.int64]] | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        self._queries = QueryEncoder(str(self.path), self.about, self.encoder, self.device)

    @classmethod
    def open(
        cls,
        path: str | PathLike[str],
        *,
        encoder: str | ImageTextEncoder | None = None,
        device: str = "auto",
        create: bool = True,
        in_memory: int = IN_MEMORY,
    ) -> Index:
        """Open an index; use it in a ``with`` block, or ``close`` it.

        Args:
            path: the file.
            encoder: what embeds queries; by default the encoder whose name the index keeps. One whose vectors
                the index does not hold is refused when it is first asked.
            device: where the encoder runs.
            create: whether to make a new index where there is no file. The file appears with the first
                change, so that a run that ends before leaves nothing.
            in_memory: vectors of so many photographs at most are held in memory, as float32.

        Raises:
            SearchIndexError: it is not an index, it is damaged, of a newer autotag, cannot be read, or cannot
                be made.
        """
        file = Path(path) if os.fspath(path) == MEMORY else Path(path).absolute()
        connection = connect(file, create=create)
        return cls(file, encoder=encoder, device=device, in_memory=in_memory, _held=connection)

    @property
    def _connection(self) -> sqlite3.Connection:
        """The connection to the file; to an empty index in memory until this or another program makes it."""
        if not self._has_file and not self._held.in_transaction and self.path.exists():
            self._make()
        return self._held

    def _make(self) -> None:
        self._held = made(self.path, self._held)
        self._has_file = True

    def close(self) -> None:
        """Close the file."""
        self._held.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        with readable(self.path):
            return int(self._connection.execute("SELECT count(*) FROM photo").fetchone()[0])

    # ---- writing

    def add(
        self,
        results: Iterable[Result],
        *,
        facts: Mapping[str, PhotoFacts] | None = None,
        encoder_name: str | None = None,
    ) -> int:
        """Put results in, replacing what was there under the same path, and return how many.

        They are committed by the dozen, so that what is killed in between loses little and breaks nothing.

        Args:
            results: of a pipeline whose stages end with ``embed_images``; those without a vector are found by
                their words only. One with an error is kept with it.
            facts: by a result's source, what is known about its file; where it is missing, the file is read.
            encoder_name: by which the encoder of the results can be loaded for queries.

        Raises:
            SearchIndexError: a vector is of another encoder than those in the index, or writing fails; what
                was committed before stays.
        """

        def put_group(group: list[Result]) -> None:
            rows = [(result, (facts or {}).get(result.source) or facts_of(result)) for result in group]
            with self.writing() as generation:
                for result, known in rows:
                    put(
                        self._connection,
                        str(self.path),
                        result,
                        facts=known,
                        generation=generation,
                        encoder_name=encoder_name,
                    )

        return put_in_groups(results, put_group)

    def remove(self, *photos: int | str | PathLike[str]) -> int:
        """Forget photographs, by path or id, and return how many were there. No file is touched."""
        named = list(map(id_or_path, photos))
        with self.writing():
            return sum(
                self._connection.execute(
                    f"DELETE FROM photo WHERE {'id' if isinstance(one, int) else 'path'} = ?",  # noqa: S608 - ours
                    (one,),
                ).rowcount
                for one in named
                if not isinstance(one, int) or _is_id(one)
            )

    @contextmanager
    def writing(self) -> Iterator[int]:
        """Hold the write lock for one transaction, all or nothing, and give its generation.

        Raises:
            SearchIndexError: another program has been writing for half a minute, or the disk is full.
        """
        with readable(self.path):
            self._make()
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.execute(
                    "UPDATE about SET value = max(value + 1, ?) WHERE key = 'generation'",
                    (time.time_ns() // 1000,),  # a restored backup does not count as what it replaced did
                )
                yield int(self.about()["generation"])
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def change(
        self,
        *,
        gone: Sequence[int],
        offline: Sequence[int],
        back: Sequence[int],
        facts: Sequence[tuple[int, str, PhotoFacts]],
    ) -> None:
        """Change photographs by id, all or nothing; see ``Updatable``.

        Raises:
            SearchIndexError: see ``writing``.
        """
        with self.writing() as generation:
            self.execute_many("DELETE FROM photo WHERE id = ?", [(photo,) for photo in gone])
            self.execute_many("UPDATE photo SET offline = 1 WHERE id = ?", [(photo,) for photo in offline])
            self.execute_many("UPDATE photo SET offline = 0 WHERE id = ?", [(photo,) for photo in back])
            for photo, image, known in facts:
                put_facts(self._connection, photo, image, known, generation)

    # ---- reading

    def execute(self, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query in SQL.

        Raises:
            SearchIndexError: it fails.
        """
        with readable(self.path):
            return self._connection.execute(query, parameters).fetchall()

    def known(self, images: Sequence[str], roots: Sequence[Path]) -> dict[bytes, Known]:  # noqa: ARG002
        """Return what is known of every photograph, by path; see ``Updatable``."""
        vector = "EXISTS (SELECT 1 FROM vector WHERE photo = id)"
        query = f"SELECT path, {vector}, offline, id, bytes, mtime_ns, digest, error, sidecars FROM photo"  # noqa: S608 - ours
        rows = self.execute(query)
        return {
            path: Known(photo, size, mtime_ns, digest, bool(has_vector), error, bool(offline), sidecars)
            for path, has_vector, offline, photo, size, mtime_ns, digest, error, sidecars in rows
        }

    def remember(self, facts: Mapping[str, str]) -> None:
        """Keep facts about the index, replacing those of the same names.

        Raises:
            SearchIndexError: see ``writing``.
        """
        with self.writing():
            self.execute_many("INSERT OR REPLACE INTO about VALUES (?, ?)", facts.items())

    def execute_many(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement for each row of parameters, within ``writing``."""
        self._connection.executemany(statement, rows)

    def digests(self, photos: Sequence[int]) -> dict[int, str]:
        """Return id -> digest of the pixels; without missing ones and files that were not read."""
        query = "SELECT id, digest FROM photo WHERE digest IS NOT NULL AND id IN"
        with readable(self.path):
            return dict(self._rows_of(list(filter(_is_id, photos)), query))

    @property
    def pictures(self) -> PictureCache:
        """Where thumbnails are kept: ``FILE-pictures``, beside the index."""
        return cache_beside(self.path)

    def about(self) -> dict[str, str]:
        """Return the facts about the index: id, generation, encoder, encoder_name, dimension."""
        with readable(self.path):
            return about_of(self._connection)

    def stats(self) -> dict[str, object]:
        """Return numbers of photographs, vectors, failures and offline ones, the encoder, bytes on disk.

        ``approximate`` is what was measured when ``accelerate`` last built an approximate search, or None.
        """
        count = "SELECT count(*), count(error), coalesce(sum(offline), 0) FROM photo"
        with readable(self.path):
            photos, failed, offline = self._connection.execute(count).fetchone()
            (vectors,) = self._connection.execute("SELECT count(*) FROM vector").fetchone()
        about = self.about()
        return {
            "photos": photos,
            "vectors": vectors,
            "failed": failed,
            "offline": offline,
            "encoder": about.get("encoder"),
            "dimension": int(about.get("dimension", 0)),
            "approximate": gate_of(self._beside("-ann"), stamp_of(self._beside("-vectors"))),
            "bytes": sum(file.stat().st_size for file in self.files() if file.exists()),
        }

    def files(self) -> list[Path]:
        """Return the file and the files that may be beside it: SQLite's own, and the cache of vectors."""
        return [
            self.path,
            *map(self._beside, ("-wal", "-shm", "-vectors", "-ann")),
        ]

    def _beside(self, end: str) -> Path:
        return self.path.with_name(self.path.name + end)

    def accelerate(self, kind: Kind = "sq8") -> Gate:
        """Build an approximate search by faiss beside the index, and return what it was measured to find.

        200 photographs and 200 captions or tags serve as queries, and are searched exactly, too. The number
        of candidates that are scored exactly is raised until 0.98 of the ten nearest are found for both. If
        that cannot be reached, nothing is written and searches stay exact. Photographs that change later are
        searched exactly until it is built again.

        Args:
            kind: ``"sq8"`` keeps a byte a dimension; ``"rabitq"`` keeps a bit, for short memory.

        Raises:
            ConfigError: there are no more than ``in_memory`` photographs, which gain nothing; or faiss is not
                installed.
            SearchIndexError: the encoder is not the index's, there is no text to measure with, or a file
                cannot be written.
            ModelError: the encoder cannot be loaded.
        """
        check_choice("kind", kind, get_args(Kind))
        texts = self._measuring_texts()
        vectors = self._queries.texts(texts)
        rows = self._fresh_mapped_rows()
        if rows.stamp is None:
            reason = f"the {len(rows):,} vectors of {self.path} are searched exactly in memory"
            raise ConfigError(f"{reason}; an approximate search is for more than {self.in_memory:,}.")
        count = min(_MEASURED, len(rows))
        sample = np.sort(np.random.default_rng(0).choice(len(rows), count, replace=False))
        try:
            return build(
                rows.matrix, self._beside("-ann"), rows.stamp, kind, photographs=sample, texts=vectors
            )
        except OSError as error:
            raise SearchIndexError(str(self.path), f"the approximate search: {error}") from error

    def _fresh_mapped_rows(self) -> VectorRows:
        """Return the vectors; mapped ones come from a file that no photograph is newer than."""
        self._rows = None
        cache = self._beside("-vectors")
        with readable(self.path), self._reading():
            rows = load_rows(self._connection, cache, in_memory=self.in_memory)
            if rows.stamp is not None and (rows.newer is not None or rows.alive is not None):
                cache.unlink(missing_ok=True)
                rows = load_rows(self._connection, cache, in_memory=self.in_memory)
        return rows

    def _measuring_texts(self) -> list[str]:
        """Return different captions and tags, at most 200, the same ones every time.

        Raises:
            SearchIndexError: there are none.
        """
        with readable(self.path):
            rows = self._connection.execute(
                "SELECT caption FROM (SELECT DISTINCT caption FROM photo WHERE caption <> '') "
                "ORDER BY length(caption) * 7919 % 1009, caption LIMIT ?",
                (_MEASURED,),
            ).fetchall()
            if len(rows) < _MEASURED:
                rows += self._connection.execute(
                    "SELECT DISTINCT text FROM tag ORDER BY folded, text LIMIT ?", (_MEASURED - len(rows),)
                ).fetchall()
        if not rows:
            raise SearchIndexError(
                str(self.path), "it has no caption and no tag to measure text queries with."
            )
        return [text for (text,) in rows]

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
        """Return the best matching photographs, best first.

        Each query (the vector of the text, that of the image, that of the photograph ``like``, and the words
        of the text) makes a ranking; they are joined by reciprocal ranks. Without any query, the photographs
        that the filter leaves come newest first.

        Args:
            text: words to find by meaning and by text. A part in double quotes must stand in caption, tags,
                keywords or file name, word for word apart from endings.
            image: an image to resemble.
            like: id of a photograph in the index to resemble; it is not found itself.
            without: words that must not stand in caption, tags, keywords or file name, and whose meaning
                counts against a photograph.
            filter: conditions that must be met.
            top_k: photographs at most, at least 1.
            by: whether vectors, words or both count for ``text``.

        Raises:
            ConfigError: there is nothing to search for, or an option is wrong.
            SearchIndexError: the encoder is not the index's, or the index cannot be read.
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
        with readable(self.path), self._reading():
            allowed = self._allowed(filter, query, without, like)
            has_words = query is not None and query.any_word and by != "vectors"
            depth = max(_DEPTH, top_k) if len(vectors) + bool(has_words) > 1 else top_k
            rankings = [self._vector_rows().top(vector, depth, allowed) for vector in vectors]
            cosines: dict[int, float] = {}
            for ranking in rankings:
                for photo, cosine in ranking:
                    cosines[photo] = max(cosine, cosines.get(photo, -1.0))
            ranked = [[photo for photo, _ in ranking] for ranking in rankings]
            weights = [1.0] * len(ranked)
            if query is not None and has_words:
                ranked.append(word_ranking(self._connection, query, allowed, depth))
                weights.append(1.0)
                if len(query.wanted) > 1:
                    ranked.append(full_match_ranking(self._connection, query, allowed, depth))
                    weights[-1:] = ANY_WORD, EVERY_WORD
            if not ranked:
                ranked, weights = [newest(self._connection, allowed, depth)], [1.0]
            best = list(reciprocal_ranks(ranked, weights).items())[:top_k]
            words: dict[int, tuple[str, ...]] = {}
            if by != "vectors":
                words = matched_words(self._connection, query, [photo for photo, _ in best])
            return self._hits(best, cosines, words)

    def _vector_of(self, photo: int) -> NDArray[np.float32]:
        with readable(self.path):
            query = "SELECT value FROM vector WHERE photo = ?"
            row = self._connection.execute(query, (photo,)).fetchone() if _is_id(photo) else None
        if row is None:
            raise SearchIndexError(str(self.path), f"no photograph has the id {photo} and a vector.")
        return np.frombuffer(row[0], dtype="<f2").astype(np.float32)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Read one unchanging state of the file."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    def _vector_rows(self) -> VectorRows:
        generation = int(self.about()["generation"])
        if self._rows is None or self._rows[0] != generation:
            self._rows = None  # lets go of the old ones before the new ones are read
            rows = load_rows(
                self._connection, self._beside("-vectors"), in_memory=self.in_memory, ann=self._beside("-ann")
            )
            self._rows = (generation, rows)
        return self._rows[1]

    def _allowed(
        self,
        filter: Filter | None,  # noqa: A002
        query: TextQuery | None,
        without: str | None,
        like: int | None,
    ) -> NDArray[np.int64] | None:
        """Return the ids that may be found, ascending; None for all."""
        conditions, parameters = filter.sql() if filter else ([], [])
        if query is not None and query.phrases:
            conditions.append("id IN (SELECT rowid FROM words WHERE words MATCH ?)")
            parameters.append(query.phrases)
        unwanted = TextQuery.parse(without).any_word if without else ""
        if unwanted:
            conditions.append("id NOT IN (SELECT rowid FROM words WHERE words MATCH ?)")
            parameters.append(unwanted)
        if like is not None:
            conditions.append("id <> ?")
            parameters.append(like)
        if not conditions:
            return None
        key = (int(self.about()["generation"]), tuple(conditions), tuple(parameters))
        if self._last_filter is None or self._last_filter[0] != key:
            rows = self._connection.execute(
                f"SELECT id FROM photo WHERE {' AND '.join(conditions)}",  # noqa: S608 - conditions are ours
                parameters,
            )
            ids = np.fromiter(chain.from_iterable(rows.fetchall()), dtype=np.int64)
            ids.sort()
            self._last_filter = (key, ids)
        return self._last_filter[1]

    def _hits(
        self,
        best: Sequence[tuple[int, float]],
        cosines: Mapping[int, float],
        words: Mapping[int, Sequence[str]],
    ) -> list[Hit]:
        """Return the photographs of these ids and scores, in their order."""
        photos = [photo for photo, _ in best]
        query = "SELECT id, path, caption, width, height, taken, offline FROM photo WHERE id IN"
        facts = {photo: others for photo, *others in self._rows_of(photos, query)}
        tags: dict[int, list[Tag]] = {photo: [] for photo in photos}
        query = "SELECT photo, place, text, score, source FROM tag WHERE photo IN"
        for photo, _, text, tag_score, source in sorted(self._rows_of(photos, query)):
            tags[photo].append(Tag(text, tag_score or 0.0, source))
        found = []
        for photo, score in best:
            path, caption, width, height, taken, offline = facts[photo]
            found.append(
                Hit(
                    id=photo,
                    path=os.fsdecode(path),
                    score=score,
                    caption=caption,
                    tags=tuple(tags[photo]),
                    size=(width, height),
                    taken=taken,
                    cosine=cosines.get(photo),
                    words=tuple(words.get(photo, ())),
                    offline=bool(offline),
                )
            )
        return found

    def _rows_of(self, photos: Sequence[int], query: str) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query that ends with IN, for so many photographs at a time as one may name."""
        for first in range(0, len(photos), _TOGETHER):
            some = photos[first : first + _TOGETHER]
            yield from self._connection.execute(f"{query} ({', '.join('?' * len(some))})", some)


def _is_id(photo: int) -> bool:
    """Return whether SQLite could have given a number to a photograph; it takes no larger ones."""
    return 0 < photo < 2**63
