"""Photographs as rows of an index's tables: results, facts about files, and the words of both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from autotag.metadata.keywords import fold
from autotag.search.incoming import storable, stored_path, unit_embedding
from autotag.search.queries import check_encoder
from autotag.search.schema import about_of
from autotag.search.stored_text import BETWEEN

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from autotag.records import Result
    from autotag.search.photo_facts import PhotoFacts

KEYWORD = "keyword"
"""The source of a tag that a person gave."""

_APART = f"\n{BETWEEN}\n"


def put(
    connection: sqlite3.Connection,
    index: str,
    result: Result,
    *,
    facts: PhotoFacts | None,
    generation: int,
    encoder_name: str | None,
) -> None:
    """Put a result in, replacing what was there under the same path.

    Args:
        connection: of the index, within a transaction.
        index: the file's name, for errors.
        result: of a pipeline.
        facts: about its file; None if it cannot be read.
        generation: of the transaction.
        encoder_name: by which the encoder of the result can be loaded.

    Raises:
        SearchIndexError: its vector is of another encoder, or not a vector.
    """
    embedding = _checked_embedding(connection, index, result, encoder_name)
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
    (photo,) = connection.execute(
        f"INSERT INTO photo ({', '.join(values)}) VALUES ({', '.join('?' * len(values))}) "  # noqa: S608 - ours
        f"ON CONFLICT (path) DO UPDATE SET {updates} RETURNING id",
        tuple(values.values()),
    ).fetchone()
    connection.execute("DELETE FROM vector WHERE photo = ?", (photo,))
    if embedding is not None:
        connection.execute("INSERT INTO vector VALUES (?, ?)", (photo, embedding.tobytes()))
    tags = [(storable(tag.text), tag.score, tag.source) for tag in result.tags]
    concepts = {fold(storable(tag.concept)) for tag in result.tags if tag.concept}
    connection.execute("DELETE FROM concept WHERE photo = ?", (photo,))
    connection.executemany(
        "INSERT INTO concept VALUES (?, ?)", [(photo, concept) for concept in sorted(concepts)]
    )
    _put_words(
        connection,
        photo,
        result.source,
        values["caption"],
        tags=tags,
        keywords=facts.keywords if facts else (),
    )


def put_facts(
    connection: sqlite3.Connection, photo: int, source: str, facts: PhotoFacts, generation: int
) -> None:
    """Replace the facts about a file; the models' results stay.

    What another run deleted meanwhile is left out, and what it put under the same path is replaced.
    """
    kept = connection.execute("SELECT caption FROM photo WHERE id = ?", (photo,)).fetchone()
    if kept is None:
        return
    connection.execute("DELETE FROM photo WHERE path = ? AND id <> ?", (stored_path(source), photo))
    shot = facts.shot
    connection.execute(
        "UPDATE photo SET path = ?, bytes = ?, mtime_ns = ?, digest = ?, sidecars = ?, taken = ?, "
        "camera = ?, latitude = ?, longitude = ?, offline = 0, generation = ? WHERE id = ?",
        (
            stored_path(source), facts.bytes, facts.mtime_ns, facts.digest, facts.sidecars,
            shot.taken, shot.camera, shot.latitude, shot.longitude, generation, photo,
        ),
    )  # fmt: skip
    tags = connection.execute(
        "SELECT text, score, source FROM tag WHERE photo = ? AND source <> ? ORDER BY place",
        (photo, KEYWORD),
    ).fetchall()
    _put_words(connection, photo, source, kept[0], tags=tags, keywords=facts.keywords)


def _put_words(
    connection: sqlite3.Connection,
    photo: int,
    source: str,
    caption: object,
    *,
    tags: Sequence[tuple[str, float, str]],
    keywords: Sequence[str],
) -> None:
    """Replace the tags, keywords and full text of a photograph."""
    rows = [*tags, *((storable(word), None, KEYWORD) for word in keywords)]
    connection.execute("DELETE FROM tag WHERE photo = ?", (photo,))
    connection.executemany(
        "INSERT INTO tag VALUES (?, ?, ?, ?, ?, ?)",
        [(photo, place, text, fold(text), score, by) for place, (text, score, by) in enumerate(rows)],
    )
    concepts = connection.execute("SELECT folded FROM concept WHERE photo = ?", (photo,))
    texts = _APART.join([*(text for text, _, _ in tags), *(concept for (concept,) in concepts)])
    words = _APART.join(map(storable, keywords))
    connection.execute("DELETE FROM words WHERE rowid = ?", (photo,))
    connection.execute(
        "INSERT INTO words (rowid, caption, tags, keywords, name) VALUES (?, ?, ?, ?, ?)",
        (photo, caption, texts, words, storable(Path(source).stem)),
    )


def _checked_embedding(
    connection: sqlite3.Connection, index: str, result: Result, encoder_name: str | None
) -> NDArray[np.float16] | None:
    """Return the vector of a result, of length 1; the first one decides the index's encoder.

    Raises:
        SearchIndexError: it is of another encoder, or not a vector.
    """
    found = unit_embedding(result, index)
    if found is None:
        return None
    encoder_id, vector = found
    about = about_of(connection)
    if "encoder" not in about:
        name = encoder_name or ""
        facts = {"encoder": encoder_id, "encoder_name": name, "dimension": str(len(vector))}
        connection.executemany("INSERT INTO about VALUES (?, ?)", facts.items())
        return vector
    check_encoder(index, about, encoder_id, len(vector))
    if encoder_name and encoder_name != about.get("encoder_name"):
        connection.execute("UPDATE about SET value = ? WHERE key = 'encoder_name'", (encoder_name,))
    return vector
