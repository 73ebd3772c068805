"""Finds the words that describe each photograph in its captions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812  (the name that torch's users know)
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from torch import Tensor


@dataclass(frozen=True)
class WordTable:
    """The words that describe each photograph.

    Attributes:
        words: V words and pairs of adjacent words.
        present: (N, V) bool, whether a photograph's captions use the word.
    """

    words: list[str]
    present: Tensor


def count_words(captions: list[list[str]], *, least: int) -> WordTable:
    """Return the content words, and adjacent pairs of them, that at least ``least`` photographs share.

    Args:
        captions: per photograph its lower-case captions.
        least: least number of photographs that must share a word, at least 1.
    """
    found = [_words_of(texts) for texts in captions]
    counts = Counter(word for words in found for word in words)
    words = sorted(word for word, count in counts.items() if count >= least)
    number = {word: index for index, word in enumerate(words)}
    present = torch.zeros(len(found), len(words), dtype=torch.bool)
    for row, names in enumerate(found):
        present[row, [number[name] for name in names if name in number]] = True
    return WordTable(words, present)


def _words_of(captions: list[str]) -> set[str]:
    found: set[str] = set()
    for caption in captions:
        words = "".join(letter if letter.isalnum() or letter == "'" else " " for letter in caption).split()
        content = [word if word not in ENGLISH_STOP_WORDS and len(word) > 2 else None for word in words]
        found.update(word for word in content if word)
        found.update(f"{one} {two}" for one, two in pairwise(content) if one and two)
    return found


def word_loss(logits: Tensor, present: Tensor) -> Tensor:
    """Return the binary cross-entropy, summed over words, scaled to the magnitude of the other losses."""
    return F.binary_cross_entropy_with_logits(logits, present.float(), reduction="sum") / (100 * len(logits))
