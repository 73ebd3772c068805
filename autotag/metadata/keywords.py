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
_LOOK_ALIKES = str.maketrans("\u2215\u2223", "/|")
_SEPARATORS = ("/", "|")


@dataclass(frozen=True, slots=True)
class Keywords:
    """The keywords of a file, as far as one or several of its fields say.

    Attributes:
        single: keywords that stand by themselves, in the order of the file, none twice.
        paths: keywords with what they belong to, outermost first: ``("animal", "bird", "duck")``. A path that
            only leads to a longer one (``animal``) is not among them: it is not a keyword by itself.
    """

    single: tuple[str, ...] = ()
    paths: tuple[KeywordPath, ...] = ()

    @classmethod
    def of(cls, single: Iterable[str], paths: Iterable[KeywordPath] = ()) -> Keywords:
        """Return them cleaned, each once. A path of one part is a keyword by itself."""
        kept = _longest(_paths_once(paths))
        alone = (path[0] for path in kept if len(path) == 1)
        return cls(each_once((*single, *alone)), tuple(path for path in kept if len(path) > 1))

    @property
    def flat(self) -> tuple[str, ...]:
        """Every keyword by itself: those that stand alone, then the last parts of the paths.

        A keyword like ``animal/duck`` that spells a whole path stands for its last part.
        """
        spelt = {fold(word) for word in self.single}
        return each_once((*self.single, *(path[-1] for path in self.paths if not spelt & spellings(path))))

    def __or__(self, other: Keywords) -> Keywords:
        """Return the union: these first, then what the other adds; the first spelling wins."""
        return Keywords.of((*self.single, *other.single), (*self.paths, *other.paths))

    def without(self, folded: Iterable[str]) -> Keywords:
        """Return these without the keywords whose ``fold`` is listed, wherever they stand last."""
        gone = set(folded)
        return Keywords(
            tuple(word for word in self.single if fold(word) not in gone),
            tuple(path for path in self.paths if fold(path[-1]) not in gone),
        )

    def leaves(self) -> set[str]:
        """Return the ``fold`` of every keyword, of a path that of its last part."""
        return {fold(word) for word in self.single} | {fold(path[-1]) for path in self.paths}


def spellings(path: KeywordPath) -> set[str]:
    """Return the ``fold`` of a path of several parts as programs write it into one flat keyword."""
    return {fold(separator.join(path)) for separator in _SEPARATORS} if len(path) > 1 else set()


def fold(keyword: str) -> str:
    """Return the form in which two keywords are the same.

    Case, the composition of accents, and the look-alikes of slash and bar that some programs write in their
    place make no difference.
    """
    plain = clean(keyword).translate(_LOOK_ALIKES)
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", plain).casefold())


def folded_path(path: KeywordPath) -> KeywordPath:
    """Return the form in which two paths are the same; empty parts do not count."""
    return tuple(part for part in map(fold, path) if part)


def same_text(value: str) -> str:
    """Return the form of a text that other programs may bring it into when they save it: NFC, on one line."""
    return unicodedata.normalize("NFC", clean(value))


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


def _paths_once(paths: Iterable[KeywordPath]) -> dict[KeywordPath, KeywordPath]:
    """Return the cleaned paths by their folded form; the first spelling wins."""
    found: dict[KeywordPath, KeywordPath] = {}
    for path in paths:
        parts = tuple(part for part in map(clean, path) if part)
        if parts:
            found.setdefault(folded_path(parts), parts)
    return found


def _longest(paths: dict[KeywordPath, KeywordPath]) -> list[KeywordPath]:
    """Return the paths that do not lead to a longer one."""
    leading = {folded[:length] for folded in paths for length in range(1, len(folded))}
    return [path for folded, path in paths.items() if folded not in leading]
