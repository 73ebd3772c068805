"""Comma-separated values: for spreadsheets, and for tools that want a list of images with their prompts."""

from __future__ import annotations

import csv
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TextIO

from autotag.options import convert_options
from autotag.writers.one_line import one_line

if TYPE_CHECKING:
    from autotag.records import Result

_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")
_ROW_END = "\r\n"
_LAYOUTS: dict[str, tuple[str, ...]] = {
    "full": ("image", "caption", "tags", "scores", "prompt", "width", "height", "error"),
    "image_prompt": ("image", "prompt"),
    "image_tags": ("image", "tags"),
}


@dataclass
class CsvWriter:
    """Writes a table with one row per image, UTF-8, quoted where needed.

    Attributes:
        stream: where to.
        layout: ``"full"`` for all columns; ``"image_prompt"`` for the two of the ``desc.csv`` that CLIP
            Interrogator writes, where an image without a prompt has its caption; ``"image_tags"``.
        separator: between tags, and between their scores.
        escape_formulas: whether texts that a spreadsheet would calculate, because they begin with ``=``,
            ``+``, ``-``, ``@``, a tab or a line break, get something harmless in front: names of images
            ``./``, with which they name the same file, other texts ``'``.
    """

    stream: TextIO = field(metadata={"option": False})
    _: KW_ONLY
    layout: Literal["full", "image_prompt", "image_tags"] = "full"
    separator: str = "; "
    escape_formulas: bool = True

    streams: ClassVar[bool] = True

    def __post_init__(self) -> None:
        convert_options(self, where="csv")
        # Python before 3.13 quotes a carriage return only where rows end with one.
        self._rows = csv.writer(_LineFeeds(self.stream), lineterminator=_ROW_END)
        self._rows.writerow(_LAYOUTS[self.layout])

    def write(self, result: Result, /) -> None:
        with_caption = self.layout == "image_prompt"
        columns: dict[str, Any] = {
            "image": self._text(result.source, harmless="./"),
            "caption": self._text(result.caption),
            "tags": self._text(self.separator.join(tag.text for tag in result.tags)),
            "scores": self.separator.join(f"{tag.score:.4f}" for tag in result.tags),
            "prompt": self._text(result.prompt or (result.caption if with_caption else "")),
            "width": result.size[0],
            "height": result.size[1],
            "error": self._text(result.error or ""),
        }
        self._rows.writerow(columns[name] for name in _LAYOUTS[self.layout])

    def close(self) -> None:
        """Does nothing: no row is held back."""

    def _text(self, text: str, *, harmless: str = "'") -> str:
        """Return a text fit for a cell: no formula, and nothing that would colour a terminal."""
        shown = one_line(text) if self.stream.isatty() else text
        return f"{harmless}{shown}" if self.escape_formulas and shown.startswith(_FORMULA) else shown


class _LineFeeds:
    """Writes rows that end with a carriage return and a line feed to a stream, with a line feed alone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, row: str) -> int:
        return self._stream.write(f"{row.removesuffix(_ROW_END)}\n")
