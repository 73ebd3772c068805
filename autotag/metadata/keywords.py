"""Keywords as people type them: when two are the same, and how they are brought together."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

KeywordPath = tuple[str, ...]

_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Keywords:
    """The keywords of a file, as far as one or several of its fields say.

    Attributes:
        flat: keywords by themselves, in the order of the file, none twice; the leaves of ``paths`` included.
        paths: keywords with what they belong to, outermost first: ``("animal", "bird", "duck")``.
    """

    flat: tuple[str, ...] = ()
    paths: tuple[KeywordPath, ...] = ()

    @classmethod
    def of(cls, flat: Iterable[str], paths: Iterable[KeywordPath] = ()) -> Keywords:
        """Cleaned, each once, leaves of paths after the flat ones.

        A path that only leads to a longer one (``animal`` beside ``animal|bird``) is no keyword by itself.
        """
        kept = _paths_once(paths)
        within = {_folded(path[:length]) for path in kept for length in range(1, len(path))}
        leaves = (path[-1] for path in kept if _folded(path) not in within)
        return cls(each_once((*flat, *leaves)), kept)

    def __or__(self, other: Keywords) -> Keywords:
        """The union: these first, then what the other adds; the first spelling wins."""
        return Keywords(each_once((*self.flat, *other.flat)), _paths_once((*self.paths, *other.paths)))

    def without(self, folded: Iterable[str]) -> Keywords:
        """These without the keywords whose ``folded`` form is listed, wherever they stand last."""
        gone = set(folded)
        return Keywords(
            tuple(word for word in self.flat if fold(word) not in gone),
            tuple(path for path in self.paths if fold(path[-1]) not in gone),
        )

    def folded(self) -> set[str]:
        """The ``fold`` of every flat keyword and of every part of a path."""
        return {fold(word) for word in self.flat} | {fold(part) for path in self.paths for part in path}


def fold(keyword: str) -> str:
    """The form in which two keywords are the same: without case, and whatever composes their accents."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", clean(keyword)).casefold())


def clean(text: str) -> str:
    """The text on one line, without outer spaces and characters that XML cannot hold."""
    return " ".join(_NOT_IN_XML.sub("", text).split())


def each_once(keywords: Iterable[str]) -> tuple[str, ...]:
    """The keywords that are not empty, cleaned, each once: the first spelling wins."""
    found: dict[str, str] = {}
    for keyword in map(clean, keywords):
        if keyword:
            found.setdefault(fold(keyword), keyword)
    return tuple(found.values())


def _paths_once(paths: Iterable[KeywordPath]) -> tuple[KeywordPath, ...]:
    found: dict[KeywordPath, KeywordPath] = {}
    for path in paths:
        parts = tuple(part for part in map(clean, path) if part)
        if parts:
            found.setdefault(_folded(parts), parts)
    return tuple(found.values())


def _folded(path: KeywordPath) -> KeywordPath:
    return tuple(map(fold, path))
