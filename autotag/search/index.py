"""``Index``: photographs, what was found in them, and their vectors, in one file that can be searched."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autotag.errors import ConfigError, SearchIndexError
from autotag.metadata.keywords import fold
from autotag.records import Tag
from autotag.search.ann_cache import build, gate_of
from autotag.search.filters import Filter, distance_km
from autotag.search.fusion import ANY_WORD, EVERY_WORD, reciprocal_ranks
from autotag.search.hits import Hit
from autotag.search.incoming import facts_of, groups_of, storable, stored_path, unit_embedding
from autotag.search.known import Known
from autotag.search.picture_cache import PictureCache, cache_beside
from autotag.search.queries import QueryEncoder, checked_query, refuse_encoder
from autotag.search.schema import connect, readable
from autotag.search.text_query import TextQuery
from autotag.search.vector_rows import IN_MEMORY, VectorRows, load_rows, stamp_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from os import PathLike
    from types import TracebackType

    from numpy.typing import NDArray

    from autotag.images.reading import ImageInput
    from autotag.protocols import ImageTextEncoder
    from autotag.records import Result
    from autotag.search.ann_cache import Gate, Kind
    from autotag.search.photo_facts import PhotoFacts
    from autotag.search.queries import By

    _FilterKey = tuple[int, tuple[str, ...], tuple[object, ...]]  # generation, conditions, parameters

_DEPTH = 1000  # entries of each ranking that are joined
_MEASURED = 200  # photographs, and texts, that an approximate search is measured with
KEYWORD = "keyword"
"""The source of a tag that a person gave."""
_TOGETHER = 500  # most parameters of one query

_WEIGHTS = "2.0, 1.0, 2.0, 0.5"  # of caption, tags, keywords and name in BM25
_BY_BM25 = f"SELECT rowid FROM words WHERE words MATCH ? ORDER BY bm25(words, {_WEIGHTS}), rowid"  # noqa: S608
_MARKS = ("\x02", "\x03")


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
    _connection: sqlite3.Connection = field(repr=False)
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
            create: whether to make a new index where there is no file.
            in_memory: vectors of so many photographs at most are held in memory, as float32.

        Raises:
            SearchIndexError: it is not an index, it is damaged, of a newer autotag, or cannot be read.
        """
        file = Path(path)
        connection = connect(file, create=create)
        connection.create_function("distance_km", 4, distance_km, deterministic=True)
        return cls(file, encoder=encoder, device=device, in_memory=in_memory, _connection=connection)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

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
        done = 0
        for group in groups_of(results):
            rows = [(result, (facts or {}).get(result.source) or facts_of(result)) for result in group]
            with self.writing() as generation:
                for result, known in rows:
                    self._put(result, known, generation, encoder_name)
            done += len(group)
        return done

    def remove(self, *photos: int | str | PathLike[str]) -> int:
        """Forget photographs, by path or id, and return how many were there. No file is touched."""
        with self.writing():
            return sum(
                self._connection.execute(
                    "DELETE FROM photo WHERE id = ?"
                    if isinstance(one, int)
                    else "DELETE FROM photo WHERE path = ?",
                    (one if isinstance(one, int) else stored_path(one),),
                ).rowcount
                for one in photos
                if not isinstance(one, int) or _is_id(one)
            )

    @contextmanager
    def writing(self) -> Iterator[int]:
        """Hold the write lock for one transaction, all or nothing, and give its generation.

        Raises:
            SearchIndexError: another program has been writing for half a minute, or the disk is full.
        """
        with readable(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.execute("UPDATE about SET value = value + 1 WHERE key = 'generation'")
                yield int(self.about()["generation"])
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _put(
        self, result: Result, facts: PhotoFacts | None, generation: int, encoder_name: str | None
    ) -> None:
        embedding = self._checked_embedding(result, encoder_name)
        shot = facts.shot if facts else None
        values = {
            "path": stored_path(result.source),
            "bytes": facts.bytes if facts else None,
            "mtime_ns": facts.mtime_ns if facts else None,
            "digest": facts.digest if facts else None,
            "sidecars": facts.sidecars if facts else "",
            "width": result.size[0],
            "height": result.size[1],
            "taken": shot.taken if shot else None,
            "camera": shot.camera if shot else None,
            "latitude": shot.latitude if shot else None,
            "longitude": shot.longitude if shot else None,
            "caption": storable(result.caption),
            "error": None if result.error is None else storable(result.error),
            "offline": 0,
            "generation": generation,
        }
        updates = ", ".join(f"{name} = excluded.{name}" for name in values if name != "path")
        (photo,) = self._connection.execute(
            f"INSERT INTO photo ({', '.join(values)}) VALUES ({', '.join('?' * len(values))}) "  # noqa: S608 - ours
            f"ON CONFLICT (path) DO UPDATE SET {updates} RETURNING id",
            tuple(values.values()),
        ).fetchone()
        self._connection.execute("DELETE FROM vector WHERE photo = ?", (photo,))
        if embedding is not None:
            self._connection.execute("INSERT INTO vector VALUES (?, ?)", (photo, embedding.tobytes()))
        tags = [(storable(tag.text), tag.score, tag.source) for tag in result.tags]
        concepts = {fold(storable(tag.concept)) for tag in result.tags if tag.concept}
        self._connection.execute("DELETE FROM concept WHERE photo = ?", (photo,))
        self._connection.executemany(
            "INSERT INTO concept VALUES (?, ?)", [(photo, concept) for concept in sorted(concepts)]
        )
        self._put_words(photo, result.source, values["caption"], tags, facts.keywords if facts else ())

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
                self._put_facts(photo, image, known, generation)

    def _put_facts(self, photo: int, source: str, facts: PhotoFacts, generation: int) -> None:
        """Replace the facts about a file; the models' results stay."""
        shot = facts.shot
        self._connection.execute(
            "UPDATE photo SET path = ?, bytes = ?, mtime_ns = ?, digest = ?, sidecars = ?, taken = ?, "
            "camera = ?, latitude = ?, longitude = ?, offline = 0, generation = ? WHERE id = ?",
            (
                stored_path(source), facts.bytes, facts.mtime_ns, facts.digest, facts.sidecars,
                shot.taken, shot.camera, shot.latitude, shot.longitude, generation, photo,
            ),
        )  # fmt: skip
        (caption,) = self._connection.execute("SELECT caption FROM photo WHERE id = ?", (photo,)).fetchone()
        tags = self._connection.execute(
            "SELECT text, score, source FROM tag WHERE photo = ? AND source <> ? ORDER BY place",
            (photo, KEYWORD),
        ).fetchall()
        self._put_words(photo, source, caption, tags, facts.keywords)

    def _put_words(
        self,
        photo: int,
        source: str,
        caption: object,
        tags: Sequence[tuple[str, float, str]],
        keywords: Sequence[str],
    ) -> None:
        """Replace the tags, keywords and full text of a photograph."""
        rows = [*tags, *((storable(word), None, KEYWORD) for word in keywords)]
        self._connection.execute("DELETE FROM tag WHERE photo = ?", (photo,))
        self._connection.executemany(
            "INSERT INTO tag VALUES (?, ?, ?, ?, ?, ?)",
            [(photo, place, text, fold(text), score, by) for place, (text, score, by) in enumerate(rows)],
        )
        concepts = self._connection.execute("SELECT folded FROM concept WHERE photo = ?", (photo,))
        texts = "\n".join([*(text for text, _, _ in tags), *(concept for (concept,) in concepts)])
        words = "\n".join(map(storable, keywords))
        self._connection.execute("DELETE FROM words WHERE rowid = ?", (photo,))
        self._connection.execute(
            "INSERT INTO words (rowid, caption, tags, keywords, name) VALUES (?, ?, ?, ?, ?)",
            (photo, caption, texts, words, storable(Path(source).stem)),
        )

    def _checked_embedding(self, result: Result, encoder_name: str | None) -> NDArray[np.float16] | None:
        """Return the vector of a result, of length 1; the first one decides the index's encoder.

        Raises:
            SearchIndexError: it is of another encoder, or not a vector.
        """
        found = unit_embedding(result, str(self.path))
        if found is None:
            return None
        encoder_id, vector = found
        about = self.about()
        if "encoder" not in about:
            name = encoder_name or ""
            facts = {"encoder": encoder_id, "encoder_name": name, "dimension": str(len(vector))}
            self._connection.executemany("INSERT INTO about VALUES (?, ?)", facts.items())
        elif about["encoder"] != encoder_id or about["dimension"] != str(len(vector)):
            refuse_encoder(str(self.path), encoder_id, about["encoder"])
        return vector

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

    def execute_many(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement for each row of parameters, within ``writing``."""
        self._connection.executemany(statement, rows)

    def digests(self, photos: Sequence[int]) -> dict[int, str]:
        """Return id -> digest of the pixels; without those that are not there or whose file was not read."""
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
            return dict(self._connection.execute("SELECT key, value FROM about"))

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
        """Return the vectors; those that are mapped come from a file that no photograph is newer than."""
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
        query = checked_query(text, by, top_k, without)
        if query is None and image is None and like is None and filter is None:
            raise ConfigError("nothing to search for; give words, an image, a photograph, or a filter.")
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
                ranked.append(self._word_ranking(query, allowed, depth))
                weights.append(1.0)
                if len(query.wanted) > 1:
                    ranked.append(self._full_match_ranking(query, allowed, depth))
                    weights[-1:] = ANY_WORD, EVERY_WORD
            if not ranked:
                ranked, weights = [self._newest(allowed, depth)], [1.0]
            best = list(reciprocal_ranks(ranked, weights).items())[:top_k]
            words = self._matched_words(query, [photo for photo, _ in best]) if by != "vectors" else {}
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

    def _word_ranking(self, query: TextQuery, allowed: NDArray[np.int64] | None, depth: int) -> list[int]:
        """Return the photographs whose texts match, by BM25.

        Words in more than half of the photographs weigh nothing there (FTS5 gives them 1e-6); what matches
        only these comes last, in the order of ids, which saves scoring nearly every photograph.
        """
        telling, common = self._by_frequency(query.any_word.split(" OR "))
        plain = "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rowid"
        wanted = None if allowed is None else set(allowed.tolist())
        found: dict[int, None] = {}
        for order, words in ((_BY_BM25, telling), (plain, common)):
            rows = self._connection.execute(order, (" OR ".join(words),)) if words else ()
            for (photo,) in rows:
                if len(found) == depth:
                    break
                if wanted is None or photo in wanted:
                    found[photo] = None
        return list(found)

    def _full_match_ranking(
        self, query: TextQuery, allowed: NDArray[np.int64] | None, depth: int
    ) -> list[int]:
        """Return the photographs whose texts hold every word, by BM25."""
        wanted = None if allowed is None else set(allowed.tolist())
        rows = self._connection.execute(_BY_BM25, (query.every_word,))
        return list(islice((photo for (photo,) in rows if wanted is None or photo in wanted), depth))

    def _by_frequency(self, words: list[str]) -> tuple[list[str], list[str]]:
        """Return the words that tell photographs apart, and those in more than half of them.

        A single word is always among the first.
        """
        if len(words) == 1:
            return words, []
        (half,) = self._connection.execute("SELECT count(*) / 2 FROM photo").fetchone()
        matches = "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)"
        counts = [self._connection.execute(matches, (word, half + 1)).fetchone()[0] for word in words]
        telling = [word for word, count in zip(words, counts, strict=True) if count <= half]
        common = [word for word in words if word not in telling]
        return (telling, common) if telling else (common, [])

    def _newest(self, allowed: NDArray[np.int64] | None, depth: int) -> list[int]:
        rows = self._connection.execute("SELECT id FROM photo ORDER BY taken IS NULL, taken DESC, id")
        wanted = None if allowed is None else set(allowed.tolist())
        return [photo for (photo,) in rows if wanted is None or photo in wanted][:depth]

    def _matched_words(self, query: TextQuery | None, photos: Sequence[int]) -> dict[int, tuple[str, ...]]:
        """Return id -> words of its texts that the query matched, in their order, each once."""
        if query is None or not query.any_word:
            return {}
        marked = " || ' ' || ".join(f"highlight(words, {column}, ?, ?)" for column in range(4))
        places = ", ".join("?" * len(photos))
        rows = self._connection.execute(
            f"SELECT rowid, {marked} FROM words WHERE words MATCH ? AND rowid IN ({places})",  # noqa: S608 - ours
            (*(_MARKS * 4), query.any_word, *photos),
        )
        return {photo: _between_marks(text) for photo, text in rows}

    def _hits(
        self,
        best: Sequence[tuple[int, float]],
        cosines: Mapping[int, float],
        words: Mapping[int, Sequence[str]],
    ) -> list[Hit]:
        """Return photographs, of which id and score are given, in their order."""
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


def _between_marks(text: str) -> tuple[str, ...]:
    begin, end = _MARKS
    pieces = (piece.partition(end)[0].lower() for piece in text.split(begin)[1:])
    return tuple(dict.fromkeys(pieces))
