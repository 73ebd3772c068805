"""JSON Lines: one result per line, for programs and for long runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TextIO

from autotag.writers.json_text import json_text

if TYPE_CHECKING:
    from autotag.records import Result


class JsonlWriter:
    """Writes ``result.to_dict()`` as one line of JSON, and hands each line to the system at once.

    A run that is killed therefore leaves every line that was written, each of them whole.

    Args:
        stream: where to; UTF-8.
    """

    streams: ClassVar[bool] = True

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, result: Result, /) -> None:
        self._stream.write(f"{json_text(result)}\n")
        self._stream.flush()

    def close(self) -> None:
        """Does nothing: no line is held back."""
