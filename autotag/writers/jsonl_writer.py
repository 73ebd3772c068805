"""JSON Lines: one result per line, for programs and for long runs."""

from __future__ import annotations

import json
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, TextIO

from autotag.options import convert_options
from autotag.writers.json_text import json_text

if TYPE_CHECKING:
    from autotag.records import Result


@dataclass
class JsonlWriter:
    """Writes ``result.to_dict()`` as one line of JSON, and hands each line to the system at once.

    A run that is killed therefore leaves every line that was written, each of them whole.

    Attributes:
        stream: where to; UTF-8.
        text: what a column ``text`` holds: the ``"caption"``, the ``"prompt"``, or the ``"tags"`` with
            commas. With it each row begins with ``file_name`` and ``text``, as the ``metadata.jsonl`` of a
            Hugging Face ImageFolder does. ``"none"`` (None): neither.
    """

    stream: TextIO = field(metadata={"option": False})
    _: KW_ONLY
    text: Literal["caption", "prompt", "tags"] | None = None

    streams: ClassVar[bool] = True

    def __post_init__(self) -> None:
        convert_options(self, where="jsonl")

    def write(self, result: Result, /) -> None:
        self.stream.write(f"{self._line(result)}\n")
        self.stream.flush()

    def close(self) -> None:
        """Does nothing: no line is held back."""

    def _line(self, result: Result) -> str:
        line = json_text(result)
        if self.text is None:
            return line
        texts = {
            "caption": result.caption,
            "prompt": result.prompt,
            "tags": ", ".join(tag.text for tag in result.tags),
        }
        source, text = (json.dumps(part, ensure_ascii=True) for part in (result.source, texts[self.text]))
        return f'{{"file_name": {source}, "text": {text}, {line[1:]}'
