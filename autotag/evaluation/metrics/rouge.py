"""ROUGE-L: the longest common subsequence of words (Lin, ACL 2004), as COCO's evaluation computes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from autotag.evaluation.metrics.cider import caption_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_RECALL_WEIGHT = 1.2**2


def rouge_l(captions: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return ROUGE-L of one caption per image: (N,) float64 in [0, 1].

    It combines the best precision and the best recall over an image's references, which may come from
    different references; recall has 1.44 times the weight of precision. A caption without words scores 0.

    Raises:
        ValueError: an image has no reference, or the numbers of captions and images differ.
    """
    scores = [
        _score(caption_tokens(caption), [caption_tokens(text) for text in texts])
        for caption, texts in zip(captions, references, strict=True)
    ]
    return np.array(scores, dtype=np.float64)


def _score(caption: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    if not references:
        raise ValueError("ROUGE-L needs a reference for every image")
    common = [(_longest_common(caption, reference), len(reference)) for reference in references]
    precision = max(length / max(1, len(caption)) for length, _ in common)
    recall = max(length / max(1, words) for length, words in common)
    if not precision or not recall:
        return 0.0
    return (1 + _RECALL_WEIGHT) * precision * recall / (recall + _RECALL_WEIGHT * precision)


def _longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence."""
    above = [0] * (len(other) + 1)
    for word in one:
        row = [0]
        for place, compared in enumerate(other):
            row.append(above[place] + 1 if word == compared else max(row[place], above[place + 1]))
        above = row
    return above[-1]
