"""Write results for people: a block of a few lines per image."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.text import Text

from autotag.writers.one_line import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from autotag.records import Result, Tag

_LABEL_WIDTH = 11
_NARROWEST = 20


class TableWriter:
    """Write each image's file and size, caption, tags, rankings, detections, moderation and prompt.

    On a terminal, long lines are wrapped beside their label, and colours are used unless ``NO_COLOR`` is
    set. Elsewhere each field is one line, however long, so that it can be searched.

    Args:
        stream: the output.
    """

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._is_first = True

    def write(self, result: Result, /) -> None:
        """Print one result as a block of lines."""
        lines = [line for label, pieces in _rows(result) for line in self._lines(label, pieces)]
        blank = [] if self._is_first else [Text()]
        self._console.print(*blank, _heading(result), *lines, sep="\n", soft_wrap=True)
        self._is_first = False

    def close(self) -> None:
        """Do nothing: blocks are not buffered."""

    def _lines(self, label: str, pieces: Iterable[Text]) -> Iterator[Text]:
        """Yield lines of the label and its pieces, wrapped to the terminal's width."""
        wide = self._console.width - _LABEL_WIDTH if self._console.is_terminal else sys.maxsize
        margin = f"  {label}".ljust(_LABEL_WIDTH - 1) + " "
        for line in _wrapped(pieces, max(wide, _NARROWEST)):
            yield Text.assemble((margin, "dim"), line)
            margin = " " * _LABEL_WIDTH


def _wrapped(pieces: Iterable[Text], width: int) -> list[Text]:
    """Wrap pieces to lines with spaces between; a piece wider than the width has its own line."""
    lines: list[Text] = []
    for piece in pieces:
        if lines and lines[-1].cell_len + 1 + piece.cell_len <= width:
            lines[-1].append(" ").append_text(piece)
        else:
            lines.append(piece.copy())
    return lines


def _heading(result: Result) -> Text:
    heading = Text.assemble((one_line(result.source), "bold"))
    if result.size != (0, 0):
        heading.append(f"  {result.size[0]} x {result.size[1]}", style="dim")
    if result.truncated:
        heading.append("  the file is cut short", style="yellow")
    return heading


def _rows(result: Result) -> Iterator[tuple[str, Iterable[Text]]]:
    """Yield label and pieces of each field; an empty result yields "nothing found"."""
    if result.error is not None:
        yield "error", _words(result.error, "red")
    elif not any(
        (result.captions, result.tags, result.detections, result.rankings, result.prompt, result.moderation)
    ):
        yield "", [Text("nothing found", style="dim")]
    yield "caption", _words(result.caption)
    yield "tags", _scored((_counted(tag), tag.score) for tag in result.tags)
    for name, tags in result.rankings.items():
        yield one_line(name), _scored((tag.text, tag.score) for tag in tags)
    yield (
        "objects",
        _scored(
            (f"{found.label} [{' '.join(f'{side:.0f}' for side in found.box)}]", found.score)
            for found in result.detections
        ),
    )
    yield (
        "safety",
        _scored((f"{found.label}{'!' * found.flagged}", found.probability) for found in result.moderation),
    )
    yield "prompt", _words(result.prompt)


def _counted(tag: Tag) -> str:
    return tag.text if (tag.count or 1) == 1 else f"{tag.text} ×{tag.count}"


def _words(text: str, style: str = "") -> list[Text]:
    return [Text(word, style=style) for word in one_line(text).split()]


def _scored(scored: Iterable[tuple[str, float]]) -> list[Text]:
    """Return pieces such as ``"beach 0.31,"``, so that a tag and its score stay on one line."""
    pieces = [Text.assemble(one_line(text), (f" {score:.2f}", "cyan")) for text, score in scored]
    return [*(piece.append(",") for piece in pieces[:-1]), *pieces[-1:]]
