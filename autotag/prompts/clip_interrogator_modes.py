"""The prompts of CLIP Interrogator 0.6.0, its quirks included, for whoever depends on them.

Written from a description of what that release computes (pharmapsychotic/clip-interrogator, MIT); no code of
it is used. Where it differs from ``modes``, the quirk is named. Two things it leaves to chance
are settled: equal scores go to the first phrase (there, to the order of a Python set of texts), and a
chain that has used up its phrases ends (there, an error).
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
"""Labels that it ranks at once."""


class FullTest(Protocol):
    """Knows when a text fills what the text encoder reads."""

    def is_full(self, text: str, /) -> bool:
        """Whether the last place of a text's token row is not 0, which it takes for a full row."""
        ...


def chunked_top(scores: Scores, count: int, *, lowest: bool = False) -> NDArray[np.intp]:
    """The places it ranks first among many labels.

    Of each chunk in the order of the file only a share is kept, so that this is not the true top; and what
    was kept is put in order best first, also when the lowest were asked for.

    Args:
        scores: (N,).
        count: how many; fewer come when fewer were kept.
        lowest: keeps the lowest of each chunk.
    """
    if len(scores) <= CHUNK:
        return top(scores, count, lowest=lowest)
    starts = range(0, len(scores), CHUNK)
    share = CHUNK // ceil(len(scores) / CHUNK)
    chunks = [start + top(scores[start : start + CHUNK], share, lowest=lowest) for start in starts]
    kept = np.concatenate(chunks)
    return kept[top(scores[kept], count)]


def compat_fast(caption: str, ranks: Ranks, test: FullTest, *, max_flavors: int = MOST_FLAVORS) -> str:
    """Its fast mode."""
    return truncated(JOINT.join([caption, *ranks.best_of_all(max_flavors)]), test)


def compat_classic(caption: str, ranks: Ranks, test: FullTest, *, max_flavors: int = 3) -> str:
    """Its classic mode."""
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
    """Its best mode; the classic prompt that it compares has ``max_flavors`` flavors, not 3."""
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
    """Its negative mode."""
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
    """Its chain. Reversed, the first phrase's similarity keeps its sign and may outdo all that follow.

    The last phrase may run past what the encoder reads.
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
    """Its cut: parts are added while the text so far and the next part, run together, are not full.

    The first part is never cut.
    """
    cut, *parts = text.split(JOINT)
    for part in parts:
        if test.is_full(cut + part):
            break
        cut = f"{cut}{JOINT}{part}"
    return cut
