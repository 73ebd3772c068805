"""Text of strangers, fit for one line of a terminal."""

from __future__ import annotations

import unicodedata

_CONTROLS = frozenset({"Cc", "Cs", "Zl", "Zp"})
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that turn the direction of text: ``photo[U+202E]gpj.exe`` looks like ``photoexe.jpg``.

Unicode Standard Annex 9, section 2; what ``Bidi_Control`` holds.
"""


def one_line(text: str) -> str:
    r"""The text with controls, line breaks and lone surrogates written as escapes: ``"a\nb"`` as ``a\nb``.

    File names may hold anything, a caption whatever a model was taught; neither may break a line,
    colour a terminal, turn its direction or fail to be encoded.
    """
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    if character not in _DIRECTIONS and unicodedata.category(character) not in _CONTROLS:
        return character
    if "\udc80" <= character <= "\udcff":  # a byte of a file name that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
