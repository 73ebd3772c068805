"""Write JSON Lines: one result per line, for programs and for long runs."""

from __future__ import annotations

import json
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, TextIO

from autotag.config.options import convert_options
from autotag.writers.json_text import json_text

if TYPE_CHECKING:
    from autotag.records import Result


@dataclass
class JsonlWriter:
    """Write ``result.to_dict()`` as one line of JSON, and flush after each line.

    So a run that is killed leaves whole lines.

    Attributes:
        stream: the output; UTF-8.
        text: the content of a column ``text``: the ``"caption"``, the ``"prompt"``, or the ``"tags"`` with
            commas. Each row then begins with ``file_name`` and ``text``, as in the ``metadata.jsonl`` of a
            Hugging Face ImageFolder. ``"none"`` (None) for neither.
    """

    stream: TextIO = field(metadata={"option": False})
    _: KW_ONLY
    text: Literal["caption", "prompt", "tags"] | None = None

    streams: ClassVar[bool] = True

    def __post_init__(self) -> None:
        convert_options(self, where="jsonl")

    def write(self, result: Result, /) -> None:
        """Write one result as a line, and flush the stream."""
        self.stream.write(f"{self._line(result)}\n")
        self.stream.flush()

    def close(self) -> None:
        """Do nothing: lines are not buffered."""

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
