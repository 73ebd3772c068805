"""How much of a text an encoder reads, told by its own tokenizer."""

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
    """The tokenizer of an encoder, without the cut at what the encoder reads.

    Attributes:
        context_length: tokens that the encoder reads, marks of start and end included; None when it is not
            known, and every text counts as read whole.
        token_ids: text -> its token ids, marks included, not cut.
        last_place: text -> the token id at the last place of the row that the encoder is given, or None
            where rows are not all of ``context_length``.
    """

    context_length: int | None = None
    token_ids: Callable[[str], list[int]] | None = None
    last_place: Callable[[str], int] | None = None

    def length(self, text: str) -> int:
        """Tokens of a text, marks included; 0 when there is no knowing."""
        return len(self.token_ids(text)) if self.token_ids else 0

    def fits(self, text: str, /) -> bool:
        """Whether the encoder reads a text to its end."""
        return self.context_length is None or self.length(text) <= self.context_length

    def is_full(self, text: str, /) -> bool:
        """Whether the last place of a text's row is not 0; of rows cut to size, whether no place is left."""
        if self.last_place:
            return self.last_place(text) != 0
        return self.context_length is not None and self.length(text) >= self.context_length


@runtime_checkable
class ReadsTexts(Protocol):
    """An encoder that tells how much of a text it reads."""

    @property
    def text_reader(self) -> TextReader:
        """The reader."""
        ...


def text_reader(encoder: object) -> TextReader:
    """Return the reader that an encoder brings; for one that brings none, a reader without a limit."""
    return encoder.text_reader if isinstance(encoder, ReadsTexts) else TextReader()


def say_what_is_cut(texts: Iterable[str], encoder: ImageTextEncoder, where: str) -> None:
    """Log a warning about texts of which an encoder does not read the end, once for each encoder and place.

    Args:
        texts: as the encoder gets them.
        encoder: reads them.
        where: what they are of, such as a stage's name.
    """
    reader = text_reader(encoder)
    most = reader.context_length
    if most is None or (encoder.id, where) in _said:
        return
    # A token is a byte at least, and two are marks: what is shorter needs no tokenizer.
    cut = [text for text in texts if len(text.encode(errors="replace")) + 2 > most and not reader.fits(text)]
    if cut:
        _said.add((encoder.id, where))
        shown = cut[0] if len(cut[0]) <= _LONGEST_SHOWN else f"{cut[0][:_LONGEST_SHOWN]}..."
        _logger.warning(
            "%s: encoder %r reads %d tokens of a text, and not the end of %r%s",
            where,
            encoder.id,
            most,
            shown,
            f" and {len(cut) - 1} others" if len(cut) > 1 else "",
        )


def open_clip_reader(tokenizer: Any) -> TextReader:
    """Return the reader by a tokenizer of open_clip's."""
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
    """Return the reader by a transformers model's configuration and its tokenizer."""
    lower = config.model_type != "clip"

    def token_ids(text: str) -> list[int]:
        return _uncut(tokenizer, text.lower() if lower else text)

    return TextReader(config.text_config.max_position_embeddings, token_ids)


def _uncut(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, truncation=False, verbose=False)["input_ids"]
    return ids
