"""Write comma-separated values, for spreadsheets and for tools that read a list of images with prompts."""

from __future__ import annotations

import csv
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TextIO

from autotag.config.options import convert_options
from autotag.writers.one_line import one_line

if TYPE_CHECKING:
    from autotag.records import Detection, ModerationLabel, Result

_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")
_ROW_END = "\r\n"
_LAYOUTS: dict[str, tuple[str, ...]] = {
    "full": (
        "image",
        "caption",
        "tags",
        "scores",
        "objects",
        "moderation",
        "prompt",
        "width",
        "height",
        "error",
    ),
    "image_prompt": ("image", "prompt"),
    "image_tags": ("image", "tags"),
}


@dataclass
class CsvWriter:
    """Write a table with one row per image, UTF-8, quoted where needed, and flush after each row.

    Attributes:
        stream: the output.
        layout: ``"full"`` for all columns; ``"image_prompt"`` for the two columns of CLIP Interrogator's
            ``desc.csv``, with the caption for an image without a prompt; ``"image_tags"`` for image and tags.
        separator: between tags, and between their scores.
        escape_formulas: put a harmless prefix before texts that a spreadsheet would run as formulas, because
            they begin with ``=``, ``+``, ``-``, ``@``, a tab or a line break: ``./`` before image names
            (which still name the same file), ``'`` before other texts.
    """

    stream: TextIO = field(metadata={"option": False})
    _: KW_ONLY
    layout: Literal["full", "image_prompt", "image_tags"] = "full"
    separator: str = "; "
    escape_formulas: bool = True

    streams: ClassVar[bool] = True

    def __post_init__(self) -> None:
        convert_options(self, where="csv")
        # Python before 3.13 quotes a carriage return only if rows end with one.
        self._rows = csv.writer(_LineFeeds(self.stream), lineterminator=_ROW_END)
        self._rows.writerow(_LAYOUTS[self.layout])
        self.stream.flush()

    def write(self, result: Result, /) -> None:
        """Write one result as a row, and flush the stream."""
        with_caption = self.layout == "image_prompt"
        columns: dict[str, Any] = {
            "image": self._text(result.source, harmless="./"),
            "caption": self._text(result.caption),
            "tags": self._text(self.separator.join(tag.text for tag in result.tags)),
            "scores": self.separator.join(f"{tag.score:.4f}" for tag in result.tags),
            "objects": self._text(self.separator.join(map(_box, result.detections))),
            "moderation": self._text(self.separator.join(map(_moderated, result.moderation))),
            "prompt": self._text(result.prompt or (result.caption if with_caption else "")),
            "width": result.size[0],
            "height": result.size[1],
            "error": self._text(result.error or ""),
        }
        self._rows.writerow(columns[name] for name in _LAYOUTS[self.layout])
        self.stream.flush()

    def close(self) -> None:
        """Do nothing: rows are not buffered."""

    def _text(self, text: str, *, harmless: str = "'") -> str:
        """Return a text that is safe in a cell: without formulas and, on a terminal, control characters."""
        shown = one_line(text) if self.stream.isatty() else text
        return f"{harmless}{shown}" if self.escape_formulas and shown.startswith(_FORMULA) else shown


def _box(found: Detection) -> str:
    """Return ``"dog 0.9312 [12 30 200 310]"``: label, score, and left, top, right, bottom in pixels."""
    return f"{found.label} {found.score:.4f} [{' '.join(f'{side:.0f}' for side in found.box)}]"


def _moderated(found: ModerationLabel) -> str:
    """Return ``"explicit 0.9312!"``: label and probability, with an exclamation mark if it is flagged."""
    return f"{found.label} {found.probability:.4f}{'!' if found.flagged else ''}"


class _LineFeeds:
    """Write rows to a stream, with a line feed instead of carriage return and line feed at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, row: str) -> int:
        return self._stream.write(f"{row.removesuffix(_ROW_END)}\n")
