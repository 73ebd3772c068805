"""Which photographs teach which keyword."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from autotag.metadata.keywords import Keywords, fold, folded_path

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from autotag.metadata.keywords import KeywordPath


@dataclass(frozen=True, slots=True)
class Taught:
    """A keyword, and the photographs that teach it.

    Attributes:
        path: the keyword with its parents, outermost first, as it is written first.
        given: places of the photographs that have it or a keyword below it, ascending; none for a tag that
            people only removed.
        removed: places of the photographs from which somebody removed it, ascending.
    """

    path: KeywordPath
    given: tuple[int, ...]
    removed: tuple[int, ...] = ()


@dataclass(slots=True)
class _Entry:
    path: KeywordPath
    given: dict[int, None] = field(default_factory=dict)
    removed: dict[int, None] = field(default_factory=dict)


def teaching(
    given: Sequence[Keywords], removed: Sequence[Iterable[str]] = (), *, exclude: Sequence[str] = ()
) -> list[Taught]:
    """Return every keyword of some photographs and every tag removed from them, most photographs first.

    Keywords are the same if ``autotag.metadata.keywords.fold`` says so. A path teaches its parents, too. A
    keyword without parents that is the last part of exactly one path is that path.

    Args:
        given: the keywords of each photograph.
        removed: for each photograph the keywords that somebody removed from it, without parents.
        exclude: patterns with ``*`` and ``?`` for keywords that teach nothing, compared in any case with the
            whole path, ``"People|*"``, and with the keyword alone.
    """
    patterns = tuple(map(fold, exclude))
    paths_by_leaf: dict[str, dict[KeywordPath, KeywordPath]] = {}
    for keywords in given:
        for path in keywords.paths:
            paths_by_leaf.setdefault(fold(path[-1]), {}).setdefault(folded_path(path), path)
    known = {leaf: next(iter(paths.values())) for leaf, paths in paths_by_leaf.items() if len(paths) == 1}
    entries: dict[KeywordPath, _Entry] = {}
    excluded: set[str] = set()
    for place, keywords in enumerate(given):
        alone = (known.get(fold(word), (word,)) for word in keywords.single)
        for path in (*alone, *keywords.paths):
            if _is_excluded(path, patterns):
                excluded.add(fold(path[-1]))
                continue
            for length in range(1, len(path) + 1):
                part = path[:length]
                if not _is_excluded(part, patterns):
                    entries.setdefault(folded_path(part), _Entry(part)).given[place] = None
    unknown = _remove(removed, entries, excluded, patterns)
    taught = [Taught(one.path, tuple(one.given), tuple(one.removed)) for one in (*entries.values(), *unknown)]
    return sorted(taught, key=lambda one: (-len(one.given), one.path))


def _remove(
    removed: Sequence[Iterable[str]],
    entries: Mapping[KeywordPath, _Entry],
    excluded: Collection[str],
    patterns: Sequence[str],
) -> list[_Entry]:
    """Note removed tags in the entries of the same name; return new entries for names that have none."""
    by_leaf: dict[str, list[_Entry]] = {}
    for path, entry in entries.items():
        by_leaf.setdefault(path[-1], []).append(entry)
    unknown = []
    for place, words in enumerate(removed):
        for word in words:
            folded = fold(word)
            if not folded or folded in excluded or _is_excluded((word,), patterns):
                continue
            if folded not in by_leaf:
                by_leaf[folded] = [_Entry((word,))]
                unknown += by_leaf[folded]
            for entry in by_leaf[folded]:
                if place not in entry.given:
                    entry.removed[place] = None
    return unknown


def _is_excluded(path: KeywordPath, patterns: Sequence[str]) -> bool:
    folded = folded_path(path)
    names = ("|".join(folded), folded[-1] if folded else "")
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)
