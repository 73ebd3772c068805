"""Rankings of an index's photographs by their texts, and by time."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from autotag.search.text_query import TextQuery

_WEIGHTS = "2.0, 1.0, 2.0, 0.5"  # of caption, tags, keywords and name in BM25
_BY_BM25 = f"SELECT rowid FROM words WHERE words MATCH ? ORDER BY bm25(words, {_WEIGHTS}), rowid"  # noqa: S608
_MARKS = ("\x02", "\x03")
_TOGETHER = 500  # most photographs in one query


def word_ranking(
    connection: sqlite3.Connection, query: TextQuery, allowed: NDArray[np.int64] | None, depth: int
) -> list[int]:
    """Return the photographs whose texts match, by BM25.

    Words in more than half of the photographs weigh nothing there (FTS5 gives them 1e-6); what matches
    only these comes last, in the order of ids, which saves scoring nearly every photograph.
    """
    telling, common = _by_frequency(connection, query.any_word.split(" OR "))
    plain = "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rowid"
    wanted = None if allowed is None else set(allowed.tolist())
    found: dict[int, None] = {}
    for order, words in ((_BY_BM25, telling), (plain, common)):
        rows = connection.execute(order, (" OR ".join(words),)) if words else ()
        for (photo,) in rows:
            if len(found) == depth:
                break
            if wanted is None or photo in wanted:
                found[photo] = None
    return list(found)


def full_match_ranking(
    connection: sqlite3.Connection, query: TextQuery, allowed: NDArray[np.int64] | None, depth: int
) -> list[int]:
    """Return the photographs whose texts hold every word, by BM25."""
    wanted = None if allowed is None else set(allowed.tolist())
    rows = connection.execute(_BY_BM25, (query.every_word,))
    return list(islice((photo for (photo,) in rows if wanted is None or photo in wanted), depth))


def _by_frequency(connection: sqlite3.Connection, words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words that tell photographs apart, and those in more than half of them.

    A single word is always among the first.
    """
    if len(words) == 1:
        return words, []
    (half,) = connection.execute("SELECT count(*) / 2 FROM photo").fetchone()
    matches = "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)"
    counts = [connection.execute(matches, (word, half + 1)).fetchone()[0] for word in words]
    telling = [word for word, count in zip(words, counts, strict=True) if count <= half]
    common = [word for word in words if word not in telling]
    return (telling, common) if telling else (common, [])


def newest(connection: sqlite3.Connection, allowed: NDArray[np.int64] | None, depth: int) -> list[int]:
    """Return photographs by the time at which they were taken, newest first, those without one last."""
    rows = connection.execute("SELECT id FROM photo ORDER BY taken IS NULL, taken DESC, id")
    wanted = None if allowed is None else set(allowed.tolist())
    return [photo for (photo,) in rows if wanted is None or photo in wanted][:depth]


def matched_words(
    connection: sqlite3.Connection, query: TextQuery | None, photos: Sequence[int]
) -> dict[int, tuple[str, ...]]:
    """Return id -> words of its texts that the query matched, in their order, each once."""
    if query is None or not query.any_word:
        return {}
    marked = " || ' ' || ".join(f"highlight(words, {column}, ?, ?)" for column in range(4))
    found: dict[int, tuple[str, ...]] = {}
    for first in range(0, len(photos), _TOGETHER):
        some = photos[first : first + _TOGETHER]
        places = ", ".join("?" * len(some))
        rows = connection.execute(
            f"SELECT rowid, {marked} FROM words WHERE words MATCH ? AND rowid IN ({places})",  # noqa: S608 - ours
            (*(_MARKS * 4), query.any_word, *some),
        )
        found |= {photo: _between_marks(text) for photo, text in rows}
    return found


def _between_marks(text: str) -> tuple[str, ...]:
    begin, end = _MARKS
    pieces = (piece.partition(end)[0].lower() for piece in text.split(begin)[1:])
    return tuple(dict.fromkeys(pieces))
