"""Prompts from captions, tags and ranked phrases. Pure text and numpy, no models.

The modes best, fast, classic and negative are those of CLIP Interrogator (pharmapsychotic/clip-interrogator,
MIT), as it evidently means them; ``clip_interrogator_modes`` has them with every quirk of its release 0.6.0.
What needs similarities is written as a generator: it yields ``Continuations``, is sent their cosines with
the image, and returns the prompt. ``write_side_by_side`` drives the generators of several images at once.
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
"""Flavors in a classic prompt when nothing else is said."""
MOST_FLAVORS = 32
"""Flavors in any other prompt when nothing else is said."""


@dataclass(frozen=True, slots=True)
class Continuations:
    """Texts that share their start: the start, a comma, and one of the phrases.

    Attributes:
        start: may be empty; then the texts are the phrases themselves.
        phrases: at least one.
    """

    start: str
    phrases: tuple[str, ...]

    def texts(self) -> list[str]:
        """The texts, one per phrase."""
        return [f"{self.start}{JOINT}{phrase}" for phrase in self.phrases] if self.start else [*self.phrases]


Writing: TypeAlias = Generator[Continuations, Scores, str]
"""Yields texts, is sent their (N,) cosines with the image, returns the prompt."""


class PromptScorer(Protocol):
    """Compares texts with images."""

    def similarities(self, asked: Sequence[tuple[Continuations, Scores]], /) -> list[Scores]:
        """Per continuations and unit (D,) image vector the (N,) float32 cosines of the texts."""
        ...


class TextLimit(Protocol):
    """Knows how much of a text the text encoder reads."""

    def fits(self, text: str, /) -> bool:
        """Whether the encoder reads a text to its end."""
        ...


class Ranks(Protocol):
    """The phrases of every part, ranked by their likeness to one image."""

    def best(self, part: Part, count: int, /) -> list[str]:
        """The most similar of a part, best first; shorter than ``count`` when there are no more."""
        ...

    def best_of_all(self, count: int, /) -> list[str]:
        """The most similar of all parts together, best first, none twice."""
        ...

    def worst(self, part: Part, count: int, /) -> list[str]:
        """The least similar of a part, least similar first."""
        ...


def plain_prompt(
    caption: str, tags: Iterable[str], *, separator: str = ", ", max_tags: int | None = None
) -> str:
    """The caption, then the tags that say something new.

    A tag is left out when every content word of it, whatever its inflection, is in the caption or in one
    tag before it: after "a man rides horses", "riding" and "horse" are; "brown horse" is not.

    Args:
        caption: a sentence; a full stop at its end is dropped. May be empty.
        tags: best first.
        separator: between the parts.
        max_tags: at most so many tags; None for all.
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
    """A caption as a prompt begins with it: without a full stop at its end."""
    return caption.strip().rstrip(".").rstrip()


def fast_prompt(caption: str, ranks: Ranks, limit: TextLimit, *, max_flavors: int = MOST_FLAVORS) -> str:
    """The caption, then the best phrases of all parts, as many as the encoder reads.

    Args:
        caption: may be empty.
        ranks: of the image.
        limit: of the encoder.
        max_flavors: phrases at most.
    """
    return _fitted([caption_start(caption), *ranks.best_of_all(max_flavors)], limit)


def classic_prompt(
    caption: str, ranks: Ranks, limit: TextLimit, *, max_flavors: int = CLASSIC_FLAVORS
) -> str:
    """Caption, medium and artist, trending, movement, flavors, as many as the encoder reads.

    The medium is left out where the caption begins with it.

    Args:
        caption: may be empty.
        ranks: of the image.
        limit: of the encoder.
        max_flavors: flavors at most.
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
    """The most similar to the image of: the caption, the classic, the fast, and the chained prompt.

    Args:
        caption: may be empty.
        ranks: of the image.
        limit: of the encoder.
        candidates: phrases that the chain chooses from.
        min_flavors: see ``chain``.
        max_flavors: phrases in the prompt at most.
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
    """The chain that is least similar to the image, of the least similar flavors and the negatives.

    Args:
        ranks: of the image.
        negatives: phrases that negative prompts are known for.
        limit: of the encoder.
        candidates: flavors that the chain chooses from.
        min_flavors: see ``chain``.
        max_flavors: phrases in the prompt at most.
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
    """Adds at each step the phrase that makes the text most similar to the image.

    For ``min_steps`` steps the text may become less similar, after that it ends where it would; the most
    similar text on the way is returned. A phrase with which the text would be too long for the encoder is
    left out; of phrases that score the same the first is taken.

    Args:
        start: the text to begin with; when empty, the best phrase is, which counts as no step.
        phrases: to choose from, repetitions left out; may be empty.
        limit: of the encoder.
        min_steps: steps that are taken however the similarity goes.
        max_steps: steps at most.
        reverse: makes the text least similar instead.
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
    """What each writing returns, all of them asking the scorer together.

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
    """The places of the highest scores, best first; of equal ones the first comes first.

    Args:
        scores: (N,).
        count: how many; fewer come when there are fewer.
        lowest: the lowest instead, lowest first.
    """
    values = scores if lowest else -scores
    chosen = np.arange(len(values))
    if 0 < count < len(values):
        chosen = np.flatnonzero(values <= np.partition(values, count - 1)[count - 1])
    return chosen[np.argsort(values[chosen], kind="stable")][:count]


def _first_that_fits(
    text: str, left: list[str], scores: Scores, limit: TextLimit
) -> tuple[str, np.float32] | None:
    """The continued text that scores highest among those the encoder reads whole, and its score.

    Its phrase is taken from those left, and so are the higher ones that do not fit: they never will.
    """
    for index in np.argsort(-scores, kind="stable"):
        [continued] = Continuations(text, (left[index],)).texts()
        if limit.fits(continued):
            higher = {int(place) for place in np.flatnonzero(scores > scores[index])} | {int(index)}
            left[:] = [phrase for place, phrase in enumerate(left) if place not in higher]
            return continued, np.float32(scores[index])
    return None


def _fitted(parts: Iterable[str], limit: TextLimit) -> str:
    """The parts joined, as many from the first on as fit; empty ones left out."""
    first, *others = [*filter(None, parts)] or [""]
    text = _cut(first, limit)
    if text != first:
        return text
    texts = [*accumulate([first, *others], lambda start, part: f"{start}{JOINT}{part}")]
    return texts[bisect_left(texts, True, lo=1, key=lambda longer: not limit.fits(longer)) - 1]


def _cut(text: str, limit: TextLimit) -> str:
    """As many words of a text as fit; of a first word that does not, as many letters."""
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
    """The words of a text in their plain form: without function words, unless it has no others."""
    every = words(text)
    content = [word for word in every if word not in english.function_words()]
    return frozenset(map(english.lemma, content or every))
