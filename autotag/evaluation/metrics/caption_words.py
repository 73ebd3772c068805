"""Checks whether the words of a tag occur in an image's human captions."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from autotag.evaluation.metrics.cider import caption_tokens
from autotag.language.english import lemma

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def content_words(text: str) -> frozenset[str]:
    """Return the words of a text, lower-case and lemmatised, without scikit-learn's English stop words."""
    stop_words = _stop_words()
    return frozenset(lemma(word) for word in caption_tokens(text) if word not in stop_words)


def is_said(tag: str, captions: Iterable[frozenset[str]]) -> bool:
    """Return True if all words of a tag are among the ``content_words`` of one caption."""
    words: Sequence[str] = [lemma(word) for word in caption_tokens(tag)]
    return bool(words) and any(caption.issuperset(words) for caption in captions)


@cache
def _stop_words() -> frozenset[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS)
