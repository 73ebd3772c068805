"""Words to complete what a person types: the album's tags, people's keywords in it, and a vocabulary."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from autotag.albums.run import keywords_of_people
from autotag.errors import AutotagError
from autotag.metadata.keywords import fold

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_MOST_READ = 5000
"""Photographs of an album whose keywords are read; of a larger one, evenly chosen ones."""
_PAUSE = 0.02
"""Seconds between two photographs: whoever looks at the first screen waits for pictures, not for this."""


class Suggestions:
    """Suggest words. People's keywords are read in a thread of its own, and join as they are found.

    Args:
        vocabulary: words that are suggested after the album's own.
    """

    def __init__(self, vocabulary: Iterable[str] = ()) -> None:
        self._vocabulary = {fold(word): word for word in vocabulary}
        self._mine: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._end = threading.Event()

    def read_keywords(self, album: Path, files: Sequence[str]) -> threading.Thread:
        """Read the keywords that people gave an album's photographs, in the background."""
        chosen = files[:: -(-len(files) // _MOST_READ) or 1]
        thread = threading.Thread(target=self._read, args=(album, chosen), name="keywords", daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """Stop reading."""
        self._end.set()

    def matching(self, part: str, tags: Mapping[str, int], *, limit: int) -> list[str]:
        """Return words that contain a text: words that begin with it first, the album's own before others.

        Args:
            part: what was typed.
            tags: the album's tags, with how many photographs have each.
            limit: at most so many.
        """
        folded = fold(part)
        with self._lock:
            counts = Counter(tags) + self._mine
        own = {fold(word) for word in counts}
        known = [(fold(word), word, count) for word, count in counts.items()]
        known += [(key, word, 0) for key, word in self._vocabulary.items() if key not in own]
        fitting = [
            (not key.startswith(folded), f" {folded}" not in f" {key}", -count, len(word), word)
            for key, word, count in known
            if folded in key
        ]
        return [word for *_, word in sorted(fitting)[:limit]]

    def _read(self, album: Path, files: Sequence[str]) -> None:
        for file in files:
            if self._end.wait(_PAUSE):
                return
            with suppress(AutotagError, OSError, ValueError):  # suggestions are a help, not a report
                words = keywords_of_people(album / file).flat
                with self._lock:
                    self._mine.update(words)
