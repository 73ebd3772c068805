"""A text file beside each image, as training tools read it: ``beach.txt`` beside ``beach.jpg``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Literal

from autotag.albums.state.changes import TextChange, read_if_there
from autotag.albums.state.folder_names import FILM_SUFFIXES, PICTURE_SUFFIXES, FolderNames
from autotag.config.options import convert_options
from autotag.errors import ConfigError, MetadataError
from autotag.files.system_calls import is_there

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from autotag.records import Result

Mode = Literal["skip", "append", "prepend", "overwrite"]
Content = Literal["tags", "caption", "prompt", "caption_and_tags"]
_BOM = "\ufeff"
_NOT_TEXT = PICTURE_SUFFIXES | FILM_SUFFIXES | {".xmp", ".aae", ".thm"}


@dataclass
class TextWriter:
    """Write tags, caption or prompt of a photograph into a text file beside it, in UTF-8.

    Attributes:
        content: what to write. ``"caption_and_tags"`` is the caption as the first of the tags.
        mode: when the file is there already: ``"skip"`` leaves it, ``"append"`` and ``"prepend"`` add what it
            does not say yet, ``"overwrite"`` replaces it.
        separator: ``"comma"`` puts everything on one line, ``"newline"`` each on its own.
        naming: ``"stem"`` for ``beach.txt``, ``"full"`` for ``beach.jpg.txt``.
        suffix: of the file; some tools want ``.caption``.
        escape: whether ``(`` and ``)`` get a backslash, as prompts of Stable Diffusion want them.
    """

    _: KW_ONLY
    content: Content = "tags"
    mode: Mode = "skip"
    separator: Literal["comma", "newline"] = "comma"
    naming: Literal["stem", "full"] = "stem"
    suffix: str = ".txt"
    escape: bool = False
    _names: FolderNames = field(init=False, repr=False, default_factory=FolderNames)

    def __post_init__(self) -> None:
        convert_options(self, where="txt")
        if not self.suffix.startswith(".") or set(self.suffix) & set('/\\:*?"<>|'):
            raise ConfigError(f"txt: suffix = {self.suffix!r} is not an extension such as '.txt'.")
        if f".{self.suffix.lower().rpartition('.')[2]}" in _NOT_TEXT:
            raise ConfigError(
                f"txt: suffix = {self.suffix!r} is that of photographs, films or their sidecars, which "
                "would be overwritten; choose another, such as '.txt'."
            )

    def changes(self, photo: Path, result: Result, /) -> Sequence[TextChange]:
        """Return the change of the text file; nothing if it already holds everything.

        Raises:
            MetadataError: several photographs would share it; or it is not UTF-8, and is to be added to.
        """
        path = self._path(photo)
        before = read_if_there(path)
        if before is not None and self.mode == "skip":
            return []
        new = self._pieces(result)
        if not new:
            return []
        content = self._written(new) if before is None else self._merged(path, before[0], new)
        if before is not None and before[0] == content:
            return []
        return [TextChange.planned(path, content, before=before)]

    def would_write(self, photo: Path, /) -> bool:
        """Return whether it may write; False where it skips an existing file."""
        if self.mode != "skip":
            return True
        with suppress(MetadataError):  # it is said when there is something to write
            return not is_there(self._path(photo))
        return True

    def _path(self, photo: Path) -> Path:
        if self.naming == "full":
            return photo.with_name(photo.name + self.suffix)
        others = self._names.same_stem(photo)
        path = photo.with_suffix(self.suffix)
        if others:
            raise MetadataError(
                str(photo), f"{path.name} would be shared with {', '.join(others)}; set txt.naming=full"
            )
        return path

    def _pieces(self, result: Result) -> list[str]:
        tags = [tag.text for tag in result.tags]
        pieces = {
            "tags": tags,
            "caption": [result.caption],
            "prompt": [result.prompt],
            "caption_and_tags": [result.caption, *tags],
        }[self.content]
        return _each_once(self._escaped(" ".join(piece.split())) for piece in pieces)

    def _escaped(self, piece: str) -> str:
        return piece.replace("(", r"\(").replace(")", r"\)") if self.escape else piece

    def _merged(self, path: Path, before: bytes, new: list[str]) -> bytes:
        if self.mode == "overwrite":
            return self._written(new)
        try:
            whole = before.decode("utf-8")
        except UnicodeDecodeError as error:
            raise MetadataError(str(path), "it is not UTF-8, so tags cannot be added to it") from error
        text = whole.removeprefix(_BOM)
        old = text.split("\n") if self.separator == "newline" else text.replace("\n", ",").split(",")
        said = {piece.strip().casefold() for piece in old}
        # A caption or prompt has commas of its own: it is there if all of it stands there.
        added = [
            piece
            for piece in new
            if piece.casefold() not in said and not _stands_in(piece, text, self.separator)
        ]
        if not added:
            return before
        bom = whole[: len(whole) - len(text)]
        return (bom + self._with_more(text, list(map(_encodable, added)))).encode()

    def _with_more(self, text: str, added: list[str]) -> str:
        """Return a person's text with more pieces; what was there stays, character for character."""
        end = "\r\n" if "\r\n" in text else "\n"
        joint = self._joint.replace("\n", end)
        if not text.strip():
            return joint.join(added) + (text or end)
        if self.mode == "prepend":
            start = len(text) - len(text.lstrip())
            return text[:start] + joint.join([*added, text[start:]])
        kept = text.rstrip()
        first = " " if self.separator == "comma" and kept.endswith(",") else joint
        return kept + first + joint.join(added) + (text[len(kept) :] or end)

    @property
    def _joint(self) -> str:
        return ", " if self.separator == "comma" else "\n"

    def _written(self, pieces: Sequence[str]) -> bytes:
        return self._joint.join(map(_encodable, pieces)).encode() + b"\n"


def _encodable(piece: str) -> str:
    """Escape lone surrogates, which UTF-8 cannot hold."""
    return piece.encode("utf-8", "backslashreplace").decode()


def _stands_in(piece: str, text: str, separator: str) -> bool:
    """Return whether a piece that has commas is in a comma-separated text."""
    if separator != "comma" or "," not in piece:
        return False
    whole = ", ".join(part.strip() for part in text.replace("\n", ",").split(",")).casefold()
    return f", {piece.casefold()}, " in f", {whole}, "


def _each_once(pieces: Iterable[str]) -> list[str]:
    found: dict[str, str] = {}
    for piece in pieces:
        if piece:
            found.setdefault(piece.casefold(), piece)
    return list(found.values())
