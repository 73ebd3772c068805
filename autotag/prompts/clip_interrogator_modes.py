"""The prompts of CLIP Interrogator 0.6.0 including its quirks, for users who depend on them.

Written from a description of that release (pharmapsychotic/clip-interrogator, MIT), without its code. The
docstrings name the quirks by which it differs from ``modes``. Two cases are defined here: with equal scores
the first phrase wins (CLIP Interrogator: by the order of a Python set of texts), and a chain that has used
all its phrases ends (CLIP Interrogator: an error).
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Protocol

import numpy as np

from autotag.prompts.modes import JOINT, MOST_FLAVORS, Continuations, Ranks, Scores, Writing, top

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CHUNK = 2048
"""Number of labels that CLIP Interrogator ranks at once."""


class FullTest(Protocol):
    """Tell when a text fills the text encoder's input."""

    def is_full(self, text: str, /) -> bool:
        """Return True if the last token id of a text is not 0: CLIP Interrogator's test for a full text."""
        ...


def chunked_top(scores: Scores, count: int, *, lowest: bool = False) -> NDArray[np.intp]:
    """Return the indices that CLIP Interrogator ranks first among many labels.

    It keeps only a share of each chunk, in the order of the file, so the result is not the true top. The kept
    labels are ordered best first, even with ``lowest``.

    Args:
        scores: (N,) float32.
        count: number of indices; the result is shorter if fewer labels were kept.
        lowest: keep the lowest of each chunk.
    """
    if len(scores) <= CHUNK:
        return top(scores, count, lowest=lowest)
    starts = range(0, len(scores), CHUNK)
    share = CHUNK // ceil(len(scores) / CHUNK)
    chunks = [start + top(scores[start : start + CHUNK], share, lowest=lowest) for start in starts]
    kept = np.concatenate(chunks)
    return kept[top(scores[kept], count)]


def compat_fast(caption: str, ranks: Ranks, test: FullTest, *, max_flavors: int = MOST_FLAVORS) -> str:
    """Return the prompt of CLIP Interrogator's fast mode."""
    return truncated(JOINT.join([caption, *ranks.best_of_all(max_flavors)]), test)


def compat_classic(caption: str, ranks: Ranks, test: FullTest, *, max_flavors: int = 3) -> str:
    """Return the prompt of CLIP Interrogator's classic mode."""
    [medium, artist, trending, movement] = [
        "".join(ranks.best(part, 1)) for part in ("mediums", "artists", "trendings", "movements")
    ]
    head = f"{caption} {artist}" if caption.startswith(medium) else f"{caption}, {medium} {artist}"
    flavors = JOINT.join(ranks.best("flavors", max_flavors))
    return truncated(f"{head}, {trending}, {movement}, {flavors}", test)


def compat_best(
    caption: str,
    ranks: Ranks,
    test: FullTest,
    *,
    candidates: int = 2048,
    min_flavors: int = 8,
    max_flavors: int = MOST_FLAVORS,
) -> Writing:
    """Write the prompt of CLIP Interrogator's best mode.

    The classic prompt that it compares has ``max_flavors`` flavors, not 3.
    """
    start_score = float((yield Continuations("", (caption,)))[0])
    chained = yield from compat_chain(
        ranks.best_of_all(candidates),
        test,
        start=caption,
        start_score=start_score,
        min_count=min_flavors,
        max_count=max_flavors,
    )
    fast = compat_fast(caption, ranks, test, max_flavors=max_flavors)
    classic = compat_classic(caption, ranks, test, max_flavors=max_flavors)
    prompts = (caption, classic, fast, chained)
    scores = yield Continuations("", prompts)
    return prompts[int(np.argmax(scores))]


def compat_negative(
    ranks: Ranks,
    negatives: Sequence[str],
    test: FullTest,
    *,
    candidates: int = 2048,
    min_flavors: int = 8,
    max_flavors: int = MOST_FLAVORS,
) -> Writing:
    """Write the prompt of CLIP Interrogator's negative mode."""
    phrases = [*ranks.worst("flavors", candidates), *negatives]
    return (
        yield from compat_chain(phrases, test, min_count=min_flavors, max_count=max_flavors, reverse=True)
    )


def compat_chain(
    phrases: Sequence[str],
    test: FullTest,
    *,
    start: str = "",
    start_score: float = 0.0,
    min_count: int = 8,
    max_count: int = MOST_FLAVORS,
    reverse: bool = False,
) -> Writing:
    """Write CLIP Interrogator's chain of phrases.

    With ``reverse``, the first phrase's similarity keeps its sign, so it may beat all later ones. The last
    phrase may be longer than the rest of the encoder's input.
    """
    left = list(dict.fromkeys(phrases))
    sign = np.float32(-1 if reverse else 1)
    if not start:
        if not left:
            return ""
        scores = yield Continuations("", tuple(left))
        index = int(np.argmax(sign * scores))
        start, start_score = left.pop(index), float(scores[index])
    best, best_score = text, text_score = start, start_score
    for step in range(max_count):
        if not left:
            break
        scores = sign * (yield Continuations(text, tuple(left)))
        index = int(np.argmax(scores))
        continued, score = f"{text}{JOINT}{left[index]}", float(scores[index])
        if score > best_score:
            best, best_score = continued, score
        if not (score > text_score or step < min_count):
            break
        text, text_score = continued, score
        if test.is_full(text):
            break
        del left[index]
    return best


def truncated(text: str, test: FullTest) -> str:
    """Cut a prompt as CLIP Interrogator does: add parts until the text plus the next part is full.

    The test joins text and part without a separator. The first part is never cut.
    """
    cut, *parts = text.split(JOINT)
    for part in parts:
        if test.is_full(cut + part):
            break
        cut = f"{cut}{JOINT}{part}"
    return cut
