"""Rename photographs by their content."""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Literal

from autotag.albums.state.folder_names import FolderNames
from autotag.albums.state.foreign_names import foreign_names
from autotag.albums.state.renaming import RenameChange
from autotag.config.options import convert_options
from autotag.errors import ConfigError, MetadataError
from autotag.metadata.sidecars import keywords_left_behind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from autotag.records import Result

_MOST_BYTES = 200  # of a name, so that there is room for extensions on file systems that count bytes
_NOT_IN_NAMES = re.compile(r'[<>:"/\\|?*%\x00-\x1f\x7f]')
_WINDOWS_DEVICES = re.compile(
    r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\.|$)", re.IGNORECASE
)


@dataclass
class RenameWriter:
    """Rename a photograph to its prompt or caption; keep the extension, rename sidecars too.

    Names are fit for every file system. A name that is taken gets a number: ``a dog (2).jpg``.

    Attributes:
        by: ``"prompt"``, or the caption where there is none; or ``"caption"``.
        max_length: characters of a name without its extension, from 8 to 128.
        linked: real paths of photographs that keep their names because links lead to them; a run sets it.
    """

    _: KW_ONLY
    by: Literal["prompt", "caption"] = "prompt"
    max_length: int = 128
    linked: frozenset[str] = field(init=False, repr=False, default=frozenset())
    _names: FolderNames = field(init=False, repr=False, default_factory=FolderNames)

    def __post_init__(self) -> None:
        convert_options(self, where="rename")
        if not 8 <= self.max_length <= 128:
            raise ConfigError(f"rename: max_length = {self.max_length} is not from 8 to 128.")

    def changes(self, photo: Path, result: Result, /) -> Sequence[RenameChange]:
        """Return the renaming of a photograph and its companions; nothing if already so named.

        Raises:
            MetadataError: a link in the album leads to it, two files would get one name, or it would be
            separated from a sidecar with keywords of people.
        """
        text = (result.prompt if self.by == "prompt" else "") or result.caption
        wanted = safe_name(text, self.max_length)
        if not wanted or _is_numbered(photo.stem, wanted, self.max_length):
            return []
        self._check(photo)
        return [self._renamed(photo, wanted)]

    def renamed_to(self, photo: Path, name: str) -> list[RenameChange]:
        """Return the change that gives a photograph and its companions exactly this name.

        Raises:
            MetadataError: a link in the album leads to it, a name is taken, or it would be separated from a
            sidecar with keywords of people.
        """
        if name == photo.name:
            return []
        self._check(photo)
        target = photo.with_name(name)
        moves = self._moves(photo, target.stem, target.suffix)
        there = set(os.listdir(photo.parent))  # noqa: PTH208 - as it is written there; also a link to the same
        taken = [new.name for _, new in moves if new.name in there]
        if taken:
            raise MetadataError(str(photo), f"another file is called {taken[0]}")
        return [self._planned(photo, moves)]

    def _check(self, photo: Path) -> None:
        if self.linked and os.path.realpath(photo) in self.linked and not photo.is_symlink():
            raise MetadataError(str(photo), "a link in the album leads to it, so it keeps its name")

    def _renamed(self, photo: Path, wanted: str) -> RenameChange:
        number = 1
        while True:
            moves = self._moves(photo, _numbered(wanted, number, self.max_length), photo.suffix)
            if not any(self._names.taken(photo.parent, target.name) for _, target in moves):
                break
            number += 1
        for _, target in moves:
            self._names.take(photo.parent, target.name)
        return self._planned(photo, moves)

    def _planned(self, photo: Path, moves: Sequence[tuple[Path, Path]]) -> RenameChange:
        left = keywords_left_behind(photo, {old.name for old, _ in moves})
        if left is not None:
            why = f"{left.name} has keywords of people for other files, too, so it keeps its name"
            raise MetadataError(str(photo), f"{why}; name the sidecar {photo.name}.xmp if it is its own")
        return RenameChange.planned(moves)

    def _moves(self, photo: Path, stem: str, suffix: str) -> tuple[tuple[Path, Path], ...]:
        """Return old and new paths: the photograph first, then its companions."""
        moves = {photo.with_name(stem + suffix): photo}
        foreign = {one.name: one.renamed(stem, suffix) for one in foreign_names(photo.name)}
        for name in self._names.companions(photo):
            whole = name[: len(photo.name) + 1].casefold() == f"{photo.name}.".casefold()
            rest = suffix + name[len(photo.name) :] if whole else name[len(photo.stem) :]
            moves.setdefault(photo.with_name(foreign.get(name, stem + rest)), photo.with_name(name))
        return tuple((old, new) for new, old in moves.items())


def safe_name(text: str, max_length: int = 128) -> str:
    """Return a text as a file name, without extension, for Windows, macOS and Linux; may be empty.

    Without what any of them refuses or hides: reserved characters and names, controls, dots and spaces at the
    ends, lone surrogates, directions of writing. At most ``max_length`` characters and 200 bytes.
    """
    whole = unicodedata.normalize("NFC", text)
    plain = "".join(
        letter
        for letter in whole
        if unicodedata.category(letter) not in {"Cc", "Cf", "Cs", "Cn", "Co"} or letter in "\t\n\r"
    )
    name = " ".join(_NOT_IN_NAMES.sub(" ", plain).split()).replace(" ,", ",")
    name = _cut(name.lstrip("-. "), max_length)
    return f"_{name[: max_length - 1]}" if _WINDOWS_DEVICES.match(name) else name


def _cut(name: str, max_length: int) -> str:
    """Cut a name to the limits, between words if one ends in the last quarter."""
    cut = name[:max_length]
    while len(cut.encode()) > _MOST_BYTES:
        cut = cut[:-1]
    if len(cut) < len(name):
        space = cut.rfind(" ")
        cut = cut[:space] if space > 3 * len(cut) // 4 else cut
    return cut.rstrip(" .,;-")


def _numbered(wanted: str, number: int, max_length: int) -> str:
    if number == 1:
        return wanted
    ending = f" ({number})"
    return wanted[: max_length - len(ending)].rstrip(" .,;-") + ending


def _is_numbered(stem: str, wanted: str, max_length: int) -> bool:
    """Return whether a stem is the wanted name, or that name with a number."""
    if stem.casefold() == wanted.casefold():
        return True
    match = re.search(r" \((\d+)\)$", stem)
    return match is not None and stem.casefold() == _numbered(wanted, int(match[1]), max_length).casefold()
