"""Keywords as people type them: compare them, clean them, and merge lists of them."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

KeywordPath = tuple[str, ...]

_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LOOK_ALIKES = str.maketrans("\u2215\u2223", "/|")
_SEPARATORS = ("/", "|")


@dataclass(frozen=True, slots=True)
class Keywords:
    """The keywords in one or several fields of a file.

    Attributes:
        single: keywords without a hierarchy, in the order of the file, none twice.
        paths: keywords with their parents, outermost first: ``("animal", "bird", "duck")``. The beginning of
            a longer path (``animal``) is left out: it is not a keyword by itself.
    """

    single: tuple[str, ...] = ()
    paths: tuple[KeywordPath, ...] = ()

    @classmethod
    def of(cls, single: Iterable[str], paths: Iterable[KeywordPath] = ()) -> Keywords:
        """Return the keywords cleaned, each once. A path of one part counts as a single keyword."""
        kept = _longest(_paths_once(paths))
        alone = (path[0] for path in kept if len(path) == 1)
        return cls(each_once((*single, *alone)), tuple(path for path in kept if len(path) > 1))

    @classmethod
    def of_paths(cls, paths: Iterable[KeywordPath]) -> Keywords:
        """Return the keywords cleaned, each once; a path of one part stays, also beside longer ones."""
        several = list(paths)
        alone = (path[0] for path in several if len(path) == 1)
        return cls.of(alone, (path for path in several if len(path) > 1))

    @property
    def flat(self) -> tuple[str, ...]:
        """Return every keyword without parents: the single ones, then the last part of each path.

        If a single keyword like ``animal/duck`` spells a path, the last part of the path is left out.
        """
        spelt = {fold(word) for word in self.single}
        return each_once((*self.single, *(path[-1] for path in self.paths if not spelt & spellings(path))))

    def __or__(self, other: Keywords) -> Keywords:
        """Return the union: these first, then what the other adds; the first spelling wins."""
        if self == other or other == Keywords():
            return self
        if self == Keywords():
            return other
        return Keywords.of((*self.single, *other.single), (*self.paths, *other.paths))

    def without(self, folded: Iterable[str]) -> Keywords:
        """Return the keywords without the ones whose ``fold`` is listed, also as the last part of a path."""
        gone = set(folded)
        return Keywords(
            tuple(word for word in self.single if fold(word) not in gone),
            tuple(path for path in self.paths if fold(path[-1]) not in gone),
        )

    def covers(self, other: Keywords) -> bool:
        """Return whether every keyword of the other is here, on its own, with its parents or as a parent."""
        return other.uncovered(self) == Keywords()

    def uncovered(self, other: Keywords) -> Keywords:
        """Return the keywords that the other lacks: on their own, with their parents and as a parent."""
        known = other.places()
        return Keywords(
            tuple(word for word in self.single if (fold(word),) not in known),
            tuple(path for path in self.paths if folded_path(path) not in known),
        )

    def places(self) -> set[KeywordPath]:
        """Return the ``folded_path`` of every keyword, alone and with its parents, and of every parent."""
        paths = set(map(folded_path, self.paths))
        known = {path[:length] for path in paths for length in range(1, len(path) + 1)}
        return known | {(word,) for word in self.leaves()}

    def as_paths(self) -> tuple[KeywordPath, ...]:
        """Return every keyword as a path, the single ones first."""
        return (*((word,) for word in self.single), *self.paths)

    def leaves(self) -> set[str]:
        """Return the ``fold`` of every single keyword and of the last part of every path."""
        return {fold(word) for word in self.single} | {fold(path[-1]) for path in self.paths}


def spellings(path: KeywordPath) -> set[str]:
    """Return the ``fold`` of the flat keywords by which programs write a path of several parts."""
    return {fold(separator.join(path)) for separator in _SEPARATORS} if len(path) > 1 else set()


def fold(keyword: str) -> str:
    """Return a normal form: two keywords are the same if their ``fold`` is equal.

    It ignores case, the Unicode composition of accents, and the characters that look like a slash or a bar,
    which some programs write instead of them.
    """
    return _folded_once(keyword) if len(keyword) <= _SHORT else _folded(keyword)


def _folded(keyword: str) -> str:
    plain = clean(keyword).translate(_LOOK_ALIKES)
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", plain).casefold())


_SHORT = 64  # characters; longer keywords are rare, and many of them would fill the memory
_folded_once = lru_cache(maxsize=2**14)(_folded)
"""The same keywords come again in each field of a photograph, and in the whole album."""


def folded_path(path: KeywordPath) -> KeywordPath:
    """Return a normal form of a path: its parts through ``fold``, without empty ones."""
    return tuple(part for part in map(fold, path) if part)


def same_text(value: str) -> str:
    """Return a text in NFC and on one line, as other programs may save it."""
    return unicodedata.normalize("NFC", clean(value))


def clean(text: str) -> str:
    """Return the text on one line, without outer spaces and characters that XML cannot hold."""
    return " ".join(_NOT_IN_XML.sub("", text).split())


def each_once(keywords: Iterable[str]) -> tuple[str, ...]:
    """Return the keywords cleaned, each once, without empty ones; the first spelling wins."""
    found: dict[str, str] = {}
    for keyword in map(clean, keywords):
        if keyword:
            found.setdefault(fold(keyword), keyword)
    return tuple(found.values())


def _paths_once(paths: Iterable[KeywordPath]) -> dict[KeywordPath, KeywordPath]:
    """Return the cleaned paths by their folded form; the first spelling wins."""
    found: dict[KeywordPath, KeywordPath] = {}
    for path in paths:
        parts = tuple(part for part in map(clean, path) if part)
        if parts:
            found.setdefault(folded_path(parts), parts)
    return found


def _longest(paths: dict[KeywordPath, KeywordPath]) -> list[KeywordPath]:
    """Return the paths that are not the beginning of a longer one."""
    leading = {folded[:length] for folded in paths for length in range(1, len(folded))}
    return [path for folded, path in paths.items() if folded not in leading]
