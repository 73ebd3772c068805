"""Finds out how much of a text an encoder reads, with the encoder's own tokenizer."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from autotag.protocols import ImageTextEncoder

_logger = logging.getLogger("autotag")
_said: set[tuple[str, str]] = set()
_LONGEST_SHOWN = 60  # characters


@dataclass(frozen=True)
class TextReader:
    """The tokenizer of an encoder, without truncation.

    Attributes:
        context_length: most tokens that the encoder reads, start and end tokens included; None if unknown, in
            which case every text counts as read to its end.
        token_ids: text -> its token ids, start and end tokens included, not truncated.
        last_place: text -> the last token id of the encoder's input row; None if rows are not all
            ``context_length`` long.
    """

    context_length: int | None = None
    token_ids: Callable[[str], list[int]] | None = None
    last_place: Callable[[str], int] | None = None

    def length(self, text: str) -> int:
        """Return the number of tokens of a text, start and end tokens included; 0 if unknown."""
        return len(self.token_ids(text)) if self.token_ids else 0

    def fits(self, text: str, /) -> bool:
        """Return whether the encoder reads a text to its end."""
        return self.context_length is None or self.length(text) <= self.context_length

    def is_full(self, text: str, /) -> bool:
        """Return whether a text fills its row: its last token id is not 0, or it has all tokens."""
        if self.last_place:
            return self.last_place(text) != 0
        return self.context_length is not None and self.length(text) >= self.context_length


@runtime_checkable
class ReadsTexts(Protocol):
    """An encoder that tells how much of a text it reads."""

    @property
    def text_reader(self) -> TextReader:
        """Return the reader."""
        ...


def text_reader(encoder: object) -> TextReader:
    """Return the encoder's own reader, or a reader without a limit if it has none."""
    return encoder.text_reader if isinstance(encoder, ReadsTexts) else TextReader()


def say_what_is_cut(texts: Iterable[str], encoder: ImageTextEncoder, where: str) -> None:
    """Warn about texts that an encoder does not read to the end, once for each encoder and place.

    Args:
        texts: the encoder's input.
        encoder: the encoder that reads them.
        where: their source, such as a stage's name.
    """
    reader = text_reader(encoder)
    most = reader.context_length
    if most is None or (encoder.id, where) in _said:
        return
    # A token has at least one byte, and two tokens mark start and end: shorter texts need no tokenizer.
    cut = [text for text in texts if len(text.encode(errors="replace")) + 2 > most and not reader.fits(text)]
    if cut:
        _said.add((encoder.id, where))
        shown = cut[0] if len(cut[0]) <= _LONGEST_SHOWN else f"{cut[0][:_LONGEST_SHOWN]}..."
        _logger.warning(
            "%s: encoder %r reads %d tokens of a text, so it ignores the end of %r%s",
            where,
            encoder.id,
            most,
            shown,
            f" and {len(cut) - 1} others" if len(cut) > 1 else "",
        )


def open_clip_reader(tokenizer: Any) -> TextReader:
    """Return the reader for a tokenizer of open_clip."""
    if hasattr(tokenizer, "encode"):
        marks = tokenizer.sot_token_id, tokenizer.eot_token_id

        def token_ids(text: str) -> list[int]:
            return [marks[0], *tokenizer.encode(text), marks[1]]
    else:

        def token_ids(text: str) -> list[int]:
            return _uncut(tokenizer.tokenizer, tokenizer.clean_fn(text))

    def last_place(text: str) -> int:
        return int(tokenizer([text])[0, -1])

    return TextReader(tokenizer.context_length, token_ids, last_place)


def transformers_reader(config: Any, tokenizer: Any) -> TextReader:
    """Return the reader for a transformers model's configuration and tokenizer."""
    lower = config.model_type != "clip"

    def token_ids(text: str) -> list[int]:
        return _uncut(tokenizer, text.lower() if lower else text)

    return TextReader(config.text_config.max_position_embeddings, token_ids)


def _uncut(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, truncation=False, verbose=False)["input_ids"]
    return ids
