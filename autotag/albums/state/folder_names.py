"""Names in a folder, and the files that belong together."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cachetools import LRUCache

from autotag.albums.state.foreign_names import TAKEOUT_LENGTH, foreign_names
from autotag.files.system_calls import is_there
from autotag.images.raw_files import RAW_SUFFIXES, is_raw
from autotag.images.reading import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

PICTURE_SUFFIXES = IMAGE_SUFFIXES | RAW_SUFFIXES
FILM_SUFFIXES = frozenset((".mov", ".mp4"))
_BESIDE = (".xmp", ".txt", ".caption", ".json", ".aae", ".thm")
_FOLDERS = 4


@dataclass(slots=True)
class _Listing:
    """Keep a folder's names: exact, case-folded, and by stem.

    Attributes:
        folds: whether the file system ignores letter case.
    """

    names: set[str] = field(default_factory=set)
    folded: set[str] = field(default_factory=set)
    by_stem: dict[str, list[str]] = field(default_factory=dict)
    folds: bool = False

    def add(self, name: str) -> None:
        if name not in self.names:
            self.names.add(name)
            self.folded.add(name.casefold())
            self.by_stem.setdefault(self.key(_stem(name)), []).append(name)

    def key(self, name: str) -> str:
        """Return a key that is equal for names which the file system treats as one."""
        return name.casefold() if self.folds else name

    def has(self, name: str) -> bool:
        """Return whether the file system finds a file under this name."""
        return name.casefold() in self.folded if self.folds else name in self.names


class FolderNames:
    """Keep the listings of recently read folders.

    Which files belong together is decided by their exact names; letter case is overlooked only where the file
    system overlooks it. New names never differ from others in letter case alone, for other file systems.
    """

    def __init__(self) -> None:
        self._listings: LRUCache[Path, _Listing] = LRUCache(_FOLDERS)

    def taken(self, folder: Path, name: str) -> bool:
        """Return whether a file has this name, in any letter case, or is about to get it."""
        return name.casefold() in self._listing(folder).folded

    def take(self, folder: Path, name: str) -> None:
        """Reserve a name for a file that is about to get it."""
        self._listing(folder).add(name)

    def same_stem(self, picture: Path) -> list[str]:
        """Return other pictures in the folder with the same stem, sorted."""
        listing = self._listing(picture.parent)
        names = listing.by_stem.get(listing.key(picture.stem), [])
        return sorted(name for name in names if name != picture.name and _suffix(name) in PICTURE_SUFFIXES)

    def companions(self, picture: Path) -> list[str]:
        """Return files that belong to a picture by name: ``a.jpg.xmp``; ``a.txt`` if ``a`` is one picture.

        Whatever is called ``a.jpg`` and one extension more does, such as what RawTherapee or DxO put there.
        The film of a live photograph goes with it. Of several pictures of one stem, a RAW file owns ``a.xmp``
        when it is the only one. What Google Takeout and darktable call differently goes along, too.
        """
        listing, others = self._listing(picture.parent), self.same_stem(picture)
        suffixes = _spelt(_BESIDE)
        names = [picture.name + suffix for suffix in suffixes]  # asked for, because a listing may be old
        names += listing.by_stem.get(listing.key(picture.name), [])
        if not others:
            names += [picture.stem + suffix for suffix in (*suffixes, *_spelt(FILM_SUFFIXES))]
        elif is_raw(picture.name) and not any(map(is_raw, others)):
            names += [picture.stem + suffix for suffix in _spelt((".xmp",))]
        names += self._foreign(picture)
        return _there(picture.parent, names, folds=listing.folds)

    def _foreign(self, picture: Path) -> list[str]:
        """Return companions with names that other programs made."""
        listing = self._listing(picture.parent)
        return [
            one.name
            for one in foreign_names(picture.name)
            if listing.has(one.name)
            and not listing.has(one.owner)
            and not (one.is_cut and self._shares_beginning(picture))
        ]

    def _shares_beginning(self, picture: Path) -> bool:
        """Return whether Takeout cuts another picture's name there to the same."""
        listing = self._listing(picture.parent)
        beginning = listing.key(picture.name[:TAKEOUT_LENGTH])
        alike = [name for name in listing.names if listing.key(name[:TAKEOUT_LENGTH]) == beginning]
        return sum(_suffix(name) in PICTURE_SUFFIXES for name in alike) > 1

    def _listing(self, folder: Path) -> _Listing:
        listing = self._listings.get(folder)
        if listing is None:
            names = os.listdir(folder)  # noqa: PTH208
            listing = self._listings[folder] = _Listing(folds=_folds_case(folder, names))
            for name in names:
                listing.add(name)
        return listing


def _folds_case(folder: Path, names: Sequence[str]) -> bool:
    """Return whether a folder's file system ignores letter case."""
    there = set(names)
    for name in names:
        other = name.swapcase()
        if other != name and name.isascii():
            return other not in there and is_there(folder / other)
    return False


def _spelt(suffixes: Iterable[str]) -> list[str]:
    """Return suffixes in lower and upper case."""
    return [spelling for small in sorted(suffixes) for spelling in (small, small.upper())]


def _there(folder: Path, names: Sequence[str], *, folds: bool) -> list[str]:
    """Return the names that exist, each once; one of equals where letter case does not matter."""
    found: dict[object, str] = {}
    for name in names:
        with suppress(OSError):
            facts = (folder / name).lstat()
            found.setdefault((facts.st_dev, facts.st_ino) if folds else name, name)
    return list(found.values())


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]  # noqa: PTH122 - no Path per name


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122
