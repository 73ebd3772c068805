"""Assemble prompts from captions, tags and ranked phrases, with text and numpy only, without models.

The modes best, fast, classic and negative are those of CLIP Interrogator (pharmapsychotic/clip-interrogator,
MIT) as intended, without its quirks; ``clip_interrogator_modes`` has them with every quirk of release 0.6.0.
A mode that needs similarities is a generator: it yields ``Continuations``, receives their cosines with the
image, and returns the prompt. ``write_side_by_side`` runs the generators of several images together.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autotag.language import english
from autotag.language.phrases import words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Part = Literal["artists", "flavors", "mediums", "movements", "trendings"]
Scores: TypeAlias = NDArray[np.float32]

JOINT = ", "
CLASSIC_FLAVORS = 3
"""Default number of flavors in a classic prompt."""
MOST_FLAVORS = 32
"""Default limit of phrases in any other prompt."""


@dataclass(frozen=True, slots=True)
class Continuations:
    """Texts with a common start: the start, a comma, and one of the phrases.

    Attributes:
        start: the common start; if empty, the texts are the phrases themselves.
        phrases: at least one.
    """

    start: str
    phrases: tuple[str, ...]

    def texts(self) -> list[str]:
        """Return the texts, one per phrase."""
        return [f"{self.start}{JOINT}{phrase}" for phrase in self.phrases] if self.start else [*self.phrases]


Writing: TypeAlias = Generator[Continuations, Scores, str]
"""A generator that yields texts, receives their (N,) cosines with the image, and returns the prompt."""


class PromptScorer(Protocol):
    """Compare texts with images."""

    def similarities(self, asked: Sequence[tuple[Continuations, Scores]], /) -> list[Scores]:
        """Return, for each pair of texts and a unit image vector (D,), the cosines (N,) float32."""
        ...


class TextLimit(Protocol):
    """Tell if a text fits in the text encoder's input."""

    def fits(self, text: str, /) -> bool:
        """Return True if the encoder reads the whole text."""
        ...


class Ranks(Protocol):
    """Rank the phrases of every part by their similarity to one image."""

    def best(self, part: Part, count: int, /) -> list[str]:
        """Return the ``count`` most similar phrases of a part, or all if there are fewer, best first."""
        ...

    def best_of_all(self, count: int, /) -> list[str]:
        """Return the most similar phrases of all parts together, best first, each once."""
        ...

    def worst(self, part: Part, count: int, /) -> list[str]:
        """Return the least similar phrases of a part, least similar first."""
        ...


def plain_prompt(
    caption: str, tags: Iterable[str], *, separator: str = ", ", max_tags: int | None = None
) -> str:
    """Return the caption, then the tags that add something to it.

    A tag is left out if all its content words, in any inflection, are in the caption or in one earlier tag:
    after "a man rides horses", "riding" and "horse" are left out, "brown horse" is not.

    Args:
        caption: a sentence; a full stop at its end is dropped. May be empty.
        tags: best first.
        separator: between the parts.
        max_tags: most tags; None for all.
    """
    start = caption_start(caption)
    said = [_content(start)]
    kept: list[str] = []
    for tag in tags:
        content = _content(tag)
        if not any(content <= earlier for earlier in said):
            kept.append(tag)
            said.append(content)
    parts: Sequence[str] = kept if max_tags is None else kept[:max_tags]
    return separator.join([start, *parts] if start else parts)


def caption_start(caption: str) -> str:
    """Return a caption as the start of a prompt: without a full stop at its end."""
    return caption.strip().rstrip(".").rstrip()


def fast_prompt(caption: str, ranks: Ranks, limit: TextLimit, *, max_flavors: int = MOST_FLAVORS) -> str:
    """Return the caption, then the best phrases of all parts, as many as fit in the encoder's input.

    Args:
        caption: may be empty.
        ranks: of the image.
        limit: of the encoder.
        max_flavors: most phrases.
    """
    return _fitted([caption_start(caption), *ranks.best_of_all(max_flavors)], limit)


def classic_prompt(
    caption: str, ranks: Ranks, limit: TextLimit, *, max_flavors: int = CLASSIC_FLAVORS
) -> str:
    """Return caption, medium and artist, trending, movement, flavors, as many as fit in the encoder's input.

    The medium is left out if the caption begins with it.

    Args:
        caption: may be empty.
        ranks: of the image.
        limit: of the encoder.
        max_flavors: most flavors.
    """
    start = caption_start(caption)
    [medium, artist, trending, movement] = [
        "".join(ranks.best(part, 1)) for part in ("mediums", "artists", "trendings", "movements")
    ]
    if medium and start.casefold().startswith(medium.casefold()):
        head = [" ".join(filter(None, [start, artist]))]
    else:
        head = [start, " ".join(filter(None, [medium, artist]))]
    return _fitted([*head, trending, movement, *ranks.best("flavors", max_flavors)], limit)


def best_prompt(
    caption: str,
    ranks: Ranks,
    limit: TextLimit,
    *,
    candidates: int = 2048,
    min_flavors: int = 8,
    max_flavors: int = MOST_FLAVORS,
) -> Writing:
    """Write the prompt most similar to the image: the caption, or the classic, fast or chained prompt.

    Args:
        caption: may be empty.
        ranks: of the image.
        limit: of the encoder.
        candidates: number of phrases that the chain chooses from.
        min_flavors: the ``min_steps`` of ``chain``.
        max_flavors: most phrases in the prompt.
    """
    start = _cut(caption_start(caption), limit)
    chained = yield from chain(
        start, ranks.best_of_all(candidates), limit, min_steps=min_flavors, max_steps=max_flavors
    )
    classic = classic_prompt(start, ranks, limit, max_flavors=min(CLASSIC_FLAVORS, max_flavors))
    fast = fast_prompt(start, ranks, limit, max_flavors=max_flavors)
    prompts = tuple(dict.fromkeys(filter(None, [start, classic, fast, chained])))
    if len(prompts) < 2:
        return "".join(prompts)
    scores = yield Continuations("", prompts)
    return prompts[int(np.argmax(scores))]


def negative_prompt(
    ranks: Ranks,
    negatives: Sequence[str],
    limit: TextLimit,
    *,
    candidates: int = 2048,
    min_flavors: int = 8,
    max_flavors: int = MOST_FLAVORS,
) -> Writing:
    """Write the chain least similar to the image, from the least similar flavors and the negatives.

    Args:
        ranks: of the image.
        negatives: phrases that are usual in negative prompts.
        limit: of the encoder.
        candidates: number of flavors that the chain chooses from.
        min_flavors: the ``min_steps`` of ``chain``.
        max_flavors: most phrases in the prompt.
    """
    phrases = [*ranks.worst("flavors", candidates), *negatives]
    return (
        yield from chain("", phrases, limit, min_steps=min_flavors, max_steps=max_flavors - 1, reverse=True)
    )


def chain(
    start: str,
    phrases: Sequence[str],
    limit: TextLimit,
    *,
    min_steps: int = 8,
    max_steps: int = MOST_FLAVORS,
    reverse: bool = False,
) -> Writing:
    """Add at each step the phrase that makes the text most similar to the image.

    During the first ``min_steps`` steps the similarity may fall; after them, the chain ends when it would
    fall. The most similar text of all steps is returned. A phrase that makes the text too long for the
    encoder is left out; of phrases with equal scores the first is used.

    Args:
        start: the first text; if empty, the best phrase, which does not count as a step.
        phrases: the phrases to choose from; may be empty. Repetitions are ignored.
        limit: of the encoder.
        min_steps: number of steps that are made even if the similarity falls.
        max_steps: most steps.
        reverse: make the text least similar instead.
    """
    left = list(dict.fromkeys(phrases))
    sign = np.float32(-1 if reverse else 1)
    if start:
        score = sign * (yield Continuations("", (start,)))[0]
    else:
        chosen = (
            _first_that_fits("", left, sign * (yield Continuations("", tuple(left))), limit) if left else None
        )
        if chosen is None:
            return ""
        start, score = chosen
    best, best_score = text, text_score = start, score
    for step in range(max_steps):
        if not left:
            break
        chosen = _first_that_fits(text, left, sign * (yield Continuations(text, tuple(left))), limit)
        if chosen is None or (chosen[1] <= text_score and step >= min_steps):
            break
        text, text_score = chosen
        if text_score > best_score:
            best, best_score = text, text_score
    return best


def write_side_by_side(
    writings: Sequence[Writing], image_vectors: NDArray[np.float32], scorer: PromptScorer
) -> list[str]:
    """Run several writings together, so that each call of the scorer serves all, and return their prompts.

    Args:
        writings: one per image.
        image_vectors: (B, D) float32, unit rows.
        scorer: compares texts with images.
    """
    prompts = [""] * len(writings)
    answers: dict[int, Scores | None] = dict.fromkeys(range(len(writings)))
    while answers:
        asked: dict[int, Continuations] = {}
        for index, answer in answers.items():
            try:
                asked[index] = next(writings[index]) if answer is None else writings[index].send(answer)
            except StopIteration as end:
                prompts[index] = end.value
        questions = [(texts, image_vectors[index]) for index, texts in asked.items()]
        answers = dict(zip(asked, scorer.similarities(questions), strict=True)) if asked else {}
    return prompts


def top(scores: Scores, count: int, *, lowest: bool = False) -> NDArray[np.intp]:
    """Return the indices of the highest scores, best first; equal scores keep their order.

    Args:
        scores: (N,) float32.
        count: number of indices; all if there are fewer.
        lowest: return the lowest scores instead, lowest first.
    """
    values = scores if lowest else -scores
    chosen = np.arange(len(values))
    if 0 < count < len(values):
        chosen = np.flatnonzero(values <= np.partition(values, count - 1)[count - 1])
    return chosen[np.argsort(values[chosen], kind="stable")][:count]


def _first_that_fits(
    text: str, left: list[str], scores: Scores, limit: TextLimit
) -> tuple[str, np.float32] | None:
    """Return the best-scored continued text that fits in the encoder's input and its score, or None.

    Its phrase is removed from ``left``, and so are the better-scored phrases, which can never fit.
    """
    for index in np.argsort(-scores, kind="stable"):
        [continued] = Continuations(text, (left[index],)).texts()
        if limit.fits(continued):
            higher = {int(place) for place in np.flatnonzero(scores > scores[index])} | {int(index)}
            left[:] = [phrase for place, phrase in enumerate(left) if place not in higher]
            return continued, np.float32(scores[index])
    return None


def _fitted(parts: Iterable[str], limit: TextLimit) -> str:
    """Join the first parts that fit, without empty ones."""
    first, *others = [*filter(None, parts)] or [""]
    text = _cut(first, limit)
    if text != first:
        return text
    texts = [*accumulate([first, *others], lambda start, part: f"{start}{JOINT}{part}")]
    return texts[bisect_left(texts, True, lo=1, key=lambda longer: not limit.fits(longer)) - 1]


def _cut(text: str, limit: TextLimit) -> str:
    """Cut a text to the words that fit, or to the letters of the first word that fit."""
    if limit.fits(text):
        return text
    pieces = text.split()
    joint = " " if limit.fits(pieces[0]) else ""
    pieces = pieces if joint else [*pieces[0]]
    short, long = 0, len(pieces)
    while long - short > 1:
        middle = (short + long) // 2
        short, long = (middle, long) if limit.fits(joint.join(pieces[:middle])) else (short, middle)
    return joint.join(pieces[:short]).rstrip(",")


def _content(text: str) -> frozenset[str]:
    """Return the lemmas of a text's content words, or of all its words if all are function words."""
    every = words(text)
    content = [word for word in every if word not in english.function_words()]
    return frozenset(map(english.lemma, content or every))
