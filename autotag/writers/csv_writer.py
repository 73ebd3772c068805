"""Comma-separated values: for spreadsheets, and for tools that want a list of images with their prompts."""

from __future__ import annotations

import csv
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TextIO

from autotag.options import convert_options

if TYPE_CHECKING:
    from autotag.records import Result

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
    """

    stream: TextIO = field(metadata={"option": False})
    _: KW_ONLY
    layout: Literal["full", "image_prompt", "image_tags"] = "full"
    separator: str = "; "

    streams: ClassVar[bool] = True

    def __post_init__(self) -> None:
        convert_options(self, where="csv")
        self._rows = csv.writer(self.stream, lineterminator="\n")
        self._rows.writerow(_LAYOUTS[self.layout])

    def write(self, result: Result, /) -> None:
        columns: dict[str, Any] = {
            "image": result.source,
            "caption": result.caption,
            "tags": self.separator.join(tag.text for tag in result.tags),
            "scores": self.separator.join(f"{tag.score:.4f}" for tag in result.tags),
            "prompt": result.prompt,
            "width": result.size[0],
            "height": result.size[1],
            "error": result.error or "",
        }
        if self.layout == "image_prompt":
            columns["prompt"] = result.prompt or result.caption
        self._rows.writerow(columns[name] for name in _LAYOUTS[self.layout])

    def close(self) -> None:
        """Does nothing: no row is held back."""
