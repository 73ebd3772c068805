"""Text of strangers, fit for one line of a terminal."""

from __future__ import annotations

import unicodedata

_CONTROLS = frozenset({"Cc", "Cs", "Zl", "Zp"})


def one_line(text: str) -> str:
    r"""The text with controls, line breaks and lone surrogates written as escapes: ``"a\nb"`` as ``a\nb``.

    File names may hold anything, a caption whatever a model was taught; neither may break a line,
    colour a terminal or fail to be encoded.
    """
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) not in _CONTROLS:
        return character
    if "\udc80" <= character <= "\udcff":  # a byte of a file name that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
