"""What a person types, as a query of a full text search; that of SQLite is FTS5."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from autotag.language.english import function_words
from autotag.search.incoming import storable

_QUOTED = re.compile(r'"([^"]*)"')
_MOST_WORDS = 64


VARIATIONS = "".join(map(chr, range(0xFE00, 0xFE10)))
"""Marks that choose how the character before them looks, such as an emoji in colour; they end words."""


def words_in(text: str) -> list[str]:
    """Return the words of a text: letters with their vowel signs and accents, digits and underscores."""
    words = "".join(sign if _is_of_word(sign) else " " for sign in text).split()
    return [word for word in words if not all(map(_is_mark, word))]


def _is_of_word(sign: str) -> bool:
    return sign.isalnum() or sign == "_" or (_is_mark(sign) and sign not in VARIATIONS)


def _is_mark(sign: str) -> bool:
    return unicodedata.category(sign).startswith("M")


@dataclass(frozen=True, slots=True)
class TextQuery:
    """The parts of a query. Only double quotes are syntax.

    Attributes:
        phrases: FTS5 query of the quoted phrases, which must all match; empty for none.
        any_word: FTS5 query: any of the words and phrases may match; empty for none.
        plain: the text without quotes, for an encoder.
        quoted: the quoted phrases, without punctuation.
        wanted: the words and phrases; any of them may match.
        every_word: FTS5 query: all of them must match; empty for none.
    """

    phrases: str
    any_word: str
    plain: str
    quoted: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()
    every_word: str = ""

    @classmethod
    def parse(cls, text: str) -> TextQuery:
        """Return the parts of a query; of a long one 64 different words count for the text match."""
        text = unicodedata.normalize("NFC", storable(text))
        phrases = [" ".join(words_in(phrase)) for phrase in _QUOTED.findall(text)]
        phrases = [phrase for phrase in dict.fromkeys(phrases) if phrase]
        words = list(dict.fromkeys(word.lower() for word in words_in(_QUOTED.sub(" ", text))))
        telling = [word for word in words if word not in function_words()]
        if not telling and not phrases:
            telling = words
        wanted = [*phrases, *telling][:_MOST_WORDS]
        return cls(
            phrases=" AND ".join(f'"{phrase}"' for phrase in phrases[:_MOST_WORDS]),
            any_word=" OR ".join(f'"{word}"' for word in wanted),
            plain=" ".join(text.replace('"', " ").split()),
            quoted=tuple(phrases[:_MOST_WORDS]),
            wanted=tuple(wanted),
            every_word=" AND ".join(f'"{word}"' for word in wanted),
        )
