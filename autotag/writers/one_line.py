"""Make untrusted text safe for one line of a terminal."""

from __future__ import annotations

import unicodedata

_CONTROLS = frozenset({"Cc", "Cs", "Zl", "Zp"})
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that change the direction of text: ``photo[U+202E]gpj.exe`` looks like ``photoexe.jpg``.

The property ``Bidi_Control``, Unicode Standard Annex 9, section 2.
"""


def one_line(text: str) -> str:
    r"""Write control characters, line breaks and lone surrogates as escapes: ``"a\nb"`` as ``a\nb``.

    File names and captions may contain any character. The result does not break lines, change colours or the
    direction of text, and can always be encoded.
    """
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    if character not in _DIRECTIONS and unicodedata.category(character) not in _CONTROLS:
        return character
    if "\udc80" <= character <= "\udcff":  # a byte of a file name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
