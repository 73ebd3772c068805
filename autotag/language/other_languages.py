"""Stop words and words of languages other than English.

Stop words are those of stopwords-iso (package ``stopwordsiso``, MIT). Chinese and Japanese have no spaces
between words: jieba (MIT) and Janome (Apache-2.0, with the dictionary IPADIC) find them. All come with the
extra ``languages``.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from autotag.errors import ConfigError, install_hint, suggestion

if TYPE_CHECKING:
    from collections.abc import Callable

SEGMENTERS = {"zh": "jieba", "ja": "janome"}
"""Language without spaces between words -> the package that finds them."""

CAPITALISES_NOUNS = frozenset({"de", "lb"})
_WITHOUT_SPACES = {"th", "lo", "km", "my"}
_APOSTROPHE_IN_WORDS = {"br", "sw", "uk"}
_JOINERS = "\u200c\u200d"  # they shape letters, within Persian and Indian words
_LAST_MARK = 0x1FFFF
_ELISION = re.compile(r"['’]")


@cache
def stop_words_of(language: str) -> frozenset[str]:
    """Return the stop words of a language, in lower case, such as "der", "die", "auf" for ``"de"``.

    Args:
        language: a code of ISO 639-1.

    Raises:
        ConfigError: the language is not known, nothing finds words in it, or a package of the extra
            ``languages`` is not installed.
    """
    if language in _WITHOUT_SPACES:
        raise ConfigError(f"{language!r} is written without spaces, and nothing here finds its words")
    for package in ("stopwordsiso", *filter(None, [SEGMENTERS.get(language)])):
        if find_spec(package) is None:
            raise ConfigError(f"texts in {language!r} need {package}: {install_hint('languages')}")
    import stopwordsiso

    if not stopwordsiso.has_lang(language) or language == "en":
        known = sorted({*stopwordsiso.langs(), "english"} - _WITHOUT_SPACES - {"en"})
        raise ConfigError(f"there are no stop words for {language!r}. {suggestion(language, known)}")
    return frozenset(word.lower() for word in stopwordsiso.stopwords(language))


def words_of(text: str, language: str) -> list[str]:
    """Return the words and punctuation marks of a text, in order, in lower case; German words as they are.

    An apostrophe separates words ("l'arbre" is "l" and "arbre"), but not in Ukrainian, Breton and Swahili.
    Combined characters are composed (NFC), and vowel signs belong to their word. Chinese and Japanese text is
    segmented.
    """
    apostrophe = "'" if language in _APOSTROPHE_IN_WORDS else " "
    tokens = _word().findall(_ELISION.sub(apostrophe, unicodedata.normalize("NFC", text)))
    if language in SEGMENTERS:
        segment = _segmenter(language)
        tokens = [word for token in tokens for word in ([token] if token.isascii() else segment(token))]
    return tokens if language in CAPITALISES_NOUNS else [token.lower() for token in tokens]


def joined(words: list[str], language: str) -> str:
    """Return words as one phrase, in Chinese and Japanese without spaces."""
    return ("" if language in SEGMENTERS else " ").join(words)


@cache
def _word() -> re.Pattern[str]:
    """Return the pattern of a word with its vowel signs (as in Hindi), or of a punctuation mark."""
    marks = "".join(c for c in map(chr, range(_LAST_MARK)) if unicodedata.category(c)[0] == "M")
    letters = rf"(?:[^\W_][{marks}{_JOINERS}]*)+"
    return re.compile(rf"{letters}(?:[-']{letters})*|[^\w\s{marks}{_JOINERS}]")


@cache
def _segmenter(language: str) -> Callable[[str], list[str]]:
    """Return what splits a text into words; loading its dictionary takes a second."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # jieba has invalid escapes, and asks for pkg_resources
        if language == "zh":
            import jieba

            tokenizer = jieba.Tokenizer()
            # Not initialize(): it reads and writes a marshalled file in the folder for temporary files.
            tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
            tokenizer.initialized = True
            return lambda text: list(tokenizer.cut(text))
        from janome.tokenizer import Tokenizer

        analyser = Tokenizer(wakati=True)
        return lambda text: [str(word) for word in analyser.tokenize(text)]
