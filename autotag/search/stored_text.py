"""Paths and texts as databases can hold them: valid Unicode without NUL."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import PurePath
from typing import TYPE_CHECKING

from autotag.search.incoming import storable, without_loose_surrogates
from autotag.search.text_query import words_in

if TYPE_CHECKING:
    from collections.abc import Iterable

BETWEEN = "\N{LATIN LETTER SINOLOGICAL DOT}"
"""A word that nobody writes: between two texts, so that no phrase begins in one and ends in the other."""

_FIRST = 0xEF80  # U+EF80 to U+EFFF, of the private use area, stand for the bytes 0x80 to 0xFF
_ESCAPE = {0xDC80 + number: _FIRST + number for number in range(0x80)}
_ESCAPED = re.compile(f"[{chr(_FIRST)}-{chr(_FIRST + 0x7F)}]")


def path_to_text(path: str) -> str:
    """Return a path as text; a byte that is not UTF-8 stands as U+EF80 to U+EFFF, for 0x80 to 0xFF.

    These characters themselves are escaped byte by byte, so that every path has a text of its own.
    Source: "OPTU-8" of MirBSD, whose range this is.
    """
    whole = without_loose_surrogates(path).replace("\0", "\N{REPLACEMENT CHARACTER}")  # no path has these
    own = _ESCAPED.sub(lambda found: found[0].encode().decode("ascii", "surrogateescape"), whole)
    return own.translate(_ESCAPE)


def text_to_path(text: str) -> str:
    """Return the path that ``path_to_text`` made a text from."""
    if text.isascii():
        return text
    raw = _ESCAPED.sub(lambda found: chr(ord(found[0]) - _FIRST + 0xDC80), text)
    return os.fsdecode(raw.encode("utf-8", "surrogateescape"))


def kept_text(text: str) -> str:
    """Return a text that UTF-8 can hold, without NUL."""
    return storable(text).replace("\0", "\N{REPLACEMENT CHARACTER}")


def plain_words(text: str) -> str:
    """Return the words of a text without accents and punctuation, in lower case, one space between them."""
    apart = unicodedata.normalize("NFKD", kept_text(text).lower())
    return " ".join(words_in("".join(c for c in apart if not unicodedata.combining(c)).replace("_", " ")))


def separate_words(texts: Iterable[str]) -> str:
    """Return the plain words of texts, ``BETWEEN`` between every two of them."""
    return f" {BETWEEN} ".join(map(plain_words, texts))


def name_words(path: str) -> str:
    """Return the words of a file's name, without its ending."""
    return plain_words(PurePath(path).stem)
