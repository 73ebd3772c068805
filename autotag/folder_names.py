"""The names in a folder, and which of them belong together."""

from __future__ import annotations

import os
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from autotag.foreign_names import TAKEOUT_LENGTH, foreign_names
from autotag.images import IMAGE_SUFFIXES
from autotag.raw_files import RAW_SUFFIXES, is_raw

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PICTURE_SUFFIXES = IMAGE_SUFFIXES | RAW_SUFFIXES
_BESIDE = (".xmp", ".txt", ".caption", ".json", ".aae", ".thm")
_FILMS = (".mov", ".mp4")
_FOLDERS = 4


@dataclass(slots=True)
class _Listing:
    """Names by their case-folded form, and by that up to the last dot."""

    names: dict[str, str] = field(default_factory=dict)
    by_stem: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str) -> None:
        folded = name.casefold()
        if folded not in self.names:
            self.names[folded] = name
            self.by_stem.setdefault(_stem(folded), []).append(name)

    def has(self, name: str) -> bool:
        """Whether a file of just this name is there."""
        return self.names.get(name.casefold()) == name


class FolderNames:
    """Listings of the folders looked at last.

    Names count as the same where only the case differs, as some file systems see it.
    """

    def __init__(self) -> None:
        self._listings: OrderedDict[Path, _Listing] = OrderedDict()

    def taken(self, folder: Path, name: str) -> bool:
        """Whether a file of this name is there, or is about to be."""
        return name.casefold() in self._listing(folder).names

    def take(self, folder: Path, name: str) -> None:
        """A file is about to get this name."""
        self._listing(folder).add(name)

    def same_stem(self, picture: Path) -> list[str]:
        """Other pictures in the folder with the same name up to the extension, sorted."""
        names = self._listing(picture.parent).by_stem.get(_stem(picture.name.casefold()), [])
        return sorted(name for name in names if name != picture.name and _suffix(name) in PICTURE_SUFFIXES)

    def companions(self, picture: Path) -> list[str]:
        """Files there that belong to a picture by name: ``a.jpg.xmp``; ``a.txt`` if ``a`` is one picture.

        Whatever is called ``a.jpg`` and one extension more does, such as what RawTherapee or DxO put there.
        The film of a live photograph goes with it. Of several pictures of one stem, a RAW file owns ``a.xmp``
        when it is the only one. What Google Takeout and darktable call differently goes along, too.
        """
        others = self.same_stem(picture)
        suffixes = [suffix for small in _BESIDE for suffix in (small, small.upper())]
        names = [picture.name + suffix for suffix in suffixes]
        names += self._listing(picture.parent).by_stem.get(picture.name.casefold(), [])
        if not others:
            films = [suffix for small in _FILMS for suffix in (small, small.upper())]
            names += [picture.stem + suffix for suffix in (*suffixes, *films)]
        elif is_raw(picture.name) and not any(map(is_raw, others)):
            names += [picture.stem + ".xmp", picture.stem + ".XMP"]
        return _there(picture.parent, [*names, *self._foreign(picture)])

    def _foreign(self, picture: Path) -> list[str]:
        """Companions there that have names of other programs' making."""
        listing = self._listing(picture.parent)
        return [
            one.name
            for one in foreign_names(picture.name)
            if listing.has(one.name)
            and not listing.has(one.owner)
            and not (one.is_cut and self._shares_beginning(picture))
        ]

    def _shares_beginning(self, picture: Path) -> bool:
        """Whether another picture there has a name that Takeout cuts to the same."""
        beginning = picture.name[:TAKEOUT_LENGTH].casefold()
        alike = [
            name for name in self._listing(picture.parent).names if name.casefold().startswith(beginning)
        ]
        return sum(_suffix(name) in PICTURE_SUFFIXES for name in alike) > 1

    def _listing(self, folder: Path) -> _Listing:
        if folder not in self._listings:
            listing = self._listings[folder] = _Listing()
            for name in os.listdir(folder):  # noqa: PTH208
                listing.add(name)
            while len(self._listings) > _FOLDERS:
                self._listings.popitem(last=False)
        return self._listings[folder]


def _there(folder: Path, names: Sequence[str]) -> list[str]:
    """Those of the names that exist; one of them where letter case does not matter."""
    found: dict[tuple[int, int], str] = {}
    for name in names:
        with suppress(OSError):
            facts = (folder / name).lstat()
            found.setdefault((facts.st_dev, facts.st_ino), name)
    return list(found.values())


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]  # noqa: PTH122 - no Path per name


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122
