"""Write one JSON array of all results."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from autotag.writers.json_text import json_text

if TYPE_CHECKING:
    from autotag.records import Result


class JsonWriter:
    """Write a JSON array of ``result.to_dict()``, result by result; ``close`` ends the array.

    Args:
        stream: the output; UTF-8.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._before = "[\n"

    def write(self, result: Result, /) -> None:
        """Write one result as an element of the array."""
        self._stream.write(f"{self._before}{json_text(result)}")
        self._before = ",\n"

    def close(self) -> None:
        """End the array."""
        self._stream.write("[]\n" if self._before == "[\n" else "\n]\n")
