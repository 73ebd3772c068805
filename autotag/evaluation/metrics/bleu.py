"""BLEU-4 of a set of captions (Papineni, Roukos, Ward and Zhu, ACL 2002), as COCO's evaluation computes it.

Most captions are too short to share four words in a row with a reference. So BLEU is computed for a whole
set: matches are summed over images before precisions are computed. There is no smoothing.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from autotag.evaluation.metrics.cider import caption_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_LONGEST = 4
_COUNT_WHERE_NONE = 1e-15
_ROOM_WHERE_NONE = 1e-9


def bleu_rows(captions: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return each image's counts for BLEU-4: (N, 10) float64.

    Columns: matched n-grams of 1 to 4 words (4 columns); all n-grams of 1 to 4 words (4 columns); the
    caption's length in words; the length of the reference closest in length (of two, the shorter).

    Raises:
        ValueError: an image has no reference, or the numbers of captions and images differ.
    """
    rows = [
        _row(caption_tokens(caption), [caption_tokens(text) for text in texts])
        for caption, texts in zip(captions, references, strict=True)
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 2 * _LONGEST + 2)


def bleu_4(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return BLEU-4, in [0, 1], from sums of ``bleu_rows``: (..., 10) -> (...).

    The tiny constants that are added to the counts are those of the reference implementation (pycocoevalcap).
    """
    matches, room = sums[..., :_LONGEST], sums[..., _LONGEST : 2 * _LONGEST]
    length, reference_length = sums[..., -2], sums[..., -1]
    precisions = (matches + _COUNT_WHERE_NONE) / (room + _ROOM_WHERE_NONE)
    ratio = (length + _COUNT_WHERE_NONE) / (reference_length + _ROOM_WHERE_NONE)
    brevity = np.exp(np.minimum(0.0, 1.0 - 1.0 / ratio))
    score: NDArray[np.float64] = np.prod(precisions, axis=-1) ** (1 / _LONGEST) * brevity
    return score


def bleu(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return BLEU-4, in [0, 1], of one caption per image against its references.

    Raises:
        ValueError: there is no image, an image has no reference, or the numbers differ.
    """
    if not captions:
        raise ValueError("BLEU needs at least one image")
    return float(bleu_4(bleu_rows(captions, references).sum(axis=0)))


def _row(caption: Sequence[str], references: Sequence[Sequence[str]]) -> list[int]:
    if not references:
        raise ValueError("BLEU needs a reference for every image")
    matches, room = [], []
    for size in range(1, _LONGEST + 1):
        most: Counter[tuple[str, ...]] = Counter()
        for reference in references:
            most |= _ngrams(reference, size)
        matches.append(sum((_ngrams(caption, size) & most).values()))
        room.append(max(0, len(caption) - size + 1))
    nearest = min((abs(len(reference) - len(caption)), len(reference)) for reference in references)[1]
    return [*matches, *room, len(caption), nearest]


def _ngrams(tokens: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1))
