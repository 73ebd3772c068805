"""One tag for what is said twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from autotag.english import singular
from autotag.options import convert_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotag.records import Sample, Tag


@dataclass
class MergeTags:
    """Merges tags that say the same. The order of those that stay does not change.

    Of tags that are merged the best-scored text survives; scores are compared only where the same stage gave
    them last, because scales differ between stages, and otherwise the tag that was proposed first
    survives. What survives keeps the scores of all (per stage the highest), the place of the first, and as
    its source the stage that proposed the first.

    The substring rule is different: it drops a tag without handing on its scores, because "tennis" is not
    "tennis racket". It drops only a tag that scores lower than the longer one by the same last stage:
    a general word that fits better than the phrase, such as "dog" beside "brown dog", is what people search
    their albums for, and stays.

    Args:
        case: "Dog" and "dog".
        plural: "dogs" and "dog"; "women" and "woman". The last word of a phrase counts.
        duplicate: the same text twice, as when two stages propose it.
        substring: "racket" beside a better "tennis racket"; whole words only, and told apart as
            ``case`` and ``plural`` say.
        name: the stage's name.
    """

    _: KW_ONLY
    case: bool = True
    plural: bool = True
    duplicate: bool = True
    substring: bool = True
    name: str = "merge_tags"

    requires: ClassVar[frozenset[str]] = frozenset({"tags"})
    provides: ClassVar[frozenset[str]] = frozenset({"tags"})

    def __post_init__(self) -> None:
        convert_options(self, where=self.name)

    def __call__(self, samples: Sequence[Sample], /) -> None:
        for sample in samples:
            merged = [_merged(group) for group in self._groups(sample.tags)]
            sample.tags = self._without_substrings(merged) if self.substring else merged

    def _groups(self, tags: Sequence[Tag]) -> list[list[Tag]]:
        """Tags that say the same, in the order of the first of each group."""
        groups: dict[tuple[str, int], list[Tag]] = {}
        seen: Counter[str] = Counter()
        for tag in tags:
            repetition = 0 if self.duplicate else seen[tag.text]
            seen[tag.text] += 1
            groups.setdefault((self._same(tag.text), repetition), []).append(tag)
        return list(groups.values())

    def _same(self, text: str) -> str:
        """What two texts share that the rules in force take for one."""
        folded = text.casefold() if self.case else text
        return singular(folded) if self.plural else folded

    def _without_substrings(self, tags: Sequence[Tag]) -> list[Tag]:
        words = [tuple(map(self._same, tag.text.split())) for tag in tags]
        return [
            tag
            for tag, own in zip(tags, words, strict=True)
            if not any(
                _contains(theirs, own) and _outscored(tag, other)
                for other, theirs in zip(tags, words, strict=True)
            )
        ]


def _merged(group: Sequence[Tag]) -> Tag:
    """One tag with the scores of all."""
    first = group[0]
    comparable = [tag for tag in group if _last_stage(tag) == _last_stage(first)]
    best = max(comparable, key=lambda tag: tag.score)
    scores: dict[str, float] = {}
    for tag in group:
        for stage, score in tag.scores.items():
            scores[stage] = max(score, scores.get(stage, score))
    return replace(first, text=best.text, score=best.score, scores=scores)


def _last_stage(tag: Tag) -> str | None:
    """The stage on whose scale ``tag.score`` is."""
    return next(reversed(list(tag.scores)), None)


def _contains(longer: tuple[str, ...], shorter: tuple[str, ...]) -> bool:
    """Whether the words of one tag are in the other, in a row, with more around them."""
    spare = len(longer) - len(shorter)
    return spare > 0 and any(longer[at : at + len(shorter)] == shorter for at in range(spare + 1))


def _outscored(tag: Tag, other: Tag) -> bool:
    return _last_stage(tag) == _last_stage(other) and tag.score < other.score
