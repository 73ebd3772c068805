"""CIDEr-D: similarity of captions to human captions (Vedantam, Zitnick and Parikh, CVPR 2015)."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Ngrams = Counter[tuple[str, ...]]

_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+(?:'[^\W\d_{_UNSPACED}]+)?")
_LONGEST = 4
_SIGMA = 6.0
_SCALE = 10.0


def caption_tokens(text: str) -> list[str]:
    """Split a caption into lower-case words; drop punctuation, as the reference tokeniser (PTB) does.

    It works for every script that puts spaces between words. In Chinese and Japanese, each character is a
    token.
    """
    return _TOKEN.findall(unicodedata.normalize("NFC", text).lower())


class CiderD:
    """Score captions against references, with document frequencies computed from the same references.

    Args:
        references: per image its human captions; each image is one document.

    Scores range from 0 (nothing shared) to 10 (equal to every reference). Good captions reach about 1, which
    papers often write as 100. The factor ten is part of CIDEr-D.

    Raises:
        ValueError: there is no image, or an image has no reference.
    """

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        if not references or not all(references):
            raise ValueError("CIDEr-D needs at least one image, and a reference for every image")
        self._counts = [[_ngrams(caption_tokens(text)) for text in texts] for texts in references]
        frequency: Counter[tuple[str, ...]] = Counter()
        for counts in self._counts:
            frequency.update({ngram for count in counts for ngram in count})
        self._frequency: Mapping[tuple[str, ...], int] = frequency
        self._log_images = math.log(len(references))
        self._vectors = [[self._vector(count) for count in counts] for counts in self._counts]

    def score(self, image: int, caption: str) -> float:
        """Return the CIDEr-D, in [0, 10], of a caption for the image with this index."""
        vector, norms, length = self._vector(_ngrams(caption_tokens(caption)))
        references = self._vectors[image]
        total = 0.0
        for reference, reference_norms, reference_length in references:
            closeness = math.exp(-((length - reference_length) ** 2) / (2 * _SIGMA**2))
            for size in range(_LONGEST):
                shared = sum(
                    min(weight, reference[size].get(ngram, 0.0)) * reference[size].get(ngram, 0.0)
                    for ngram, weight in vector[size].items()
                )
                norm = norms[size] * reference_norms[size]
                total += closeness * shared / norm if norm else 0.0
        return _SCALE * total / (_LONGEST * len(references))

    def mean(self, captions: Sequence[str]) -> float:
        """Return the mean score of one caption per image, in the order of the references.

        Raises:
            ValueError: the numbers of captions and images differ.
        """
        if len(captions) != len(self._vectors):
            raise ValueError(f"{len(captions)} captions for {len(self._vectors)} images")
        return sum(self.score(image, caption) for image, caption in enumerate(captions)) / len(captions)

    def _vector(self, counts: Ngrams) -> tuple[list[dict[tuple[str, ...], float]], list[float], int]:
        vector: list[dict[tuple[str, ...], float]] = [{} for _ in range(_LONGEST)]
        for ngram, count in counts.items():
            rarity = self._log_images - math.log(max(1, self._frequency.get(ngram, 0)))
            vector[len(ngram) - 1][ngram] = count * rarity
        norms = [math.sqrt(sum(weight**2 for weight in weights.values())) for weights in vector]
        return vector, norms, sum(count for ngram, count in counts.items() if len(ngram) == 2)


def _ngrams(tokens: Sequence[str]) -> Ngrams:
    return Counter(
        tuple(tokens[start : start + size])
        for size in range(1, _LONGEST + 1)
        for start in range(len(tokens) - size + 1)
    )
