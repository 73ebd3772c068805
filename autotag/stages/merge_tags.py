"""Merge tags that mean the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path  # noqa: TC003 - a config is converted by the annotations
from typing import TYPE_CHECKING, ClassVar, Literal

from autotag.config.options import convert_options
from autotag.errors import ConfigError
from autotag.language.english import singular
from autotag.vocabularies.vocabulary import Vocabulary, read_vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from autotag.records import Sample, Tag

Broader = Literal["keep", "add", "drop"]


@dataclass
class MergeTags:
    """Merge tags that mean the same. The remaining tags keep their order.

    Merged tags become one tag with the text of the best-scored one. Scores are compared only between tags
    that the same stage scored last, because scales differ between stages; otherwise the tag that was proposed
    first wins. The merged tag has the scores of all (the highest per stage), the highest count, and the
    position and source of the first.

    The substring rule is different: it drops a tag together with its scores, because "tennis" is not
    "tennis racket". It drops a tag only if the longer tag was scored last by the same stage and scores
    higher. A general word that fits better than the phrase stays, such as "dog" beside "brown dog", because
    people search albums for such words.

    Synonyms of the vocabulary merge to their label if the label is among the tags; otherwise the best-scored
    synonym stays, so every resulting text was proposed by a stage.

    Broader terms come last. With "add", a tag is followed by the missing broader terms of its label, nearest
    first, with the tag's scores and source: what is true of the narrower term is true of the broader one.
    With "drop", a broader tag is dropped only if a narrower one scores at least as high by the last stage
    that scored both.

    Args:
        case: merge "Dog" and "dog".
        plural: merge "dogs" and "dog", "women" and "woman", by the last word of a phrase.
        duplicate: merge equal texts, as when two stages propose the same tag.
        substring: drop "racket" beside a better "tennis racket"; whole words only, compared as ``case``
            and ``plural`` say.
        broader: "keep" leaves broader terms as they are, "add" adds "cat" and "animal" after "tabby cat",
            "drop" drops "cat" beside a "tabby cat" that scores as high.
        vocabulary: the source of synonyms and broader terms: a bundled vocabulary's name, a file (see
            ``Vocabulary.from_file``) or a ``Vocabulary``; None for none.
        name: the stage's name.

    Raises:
        ConfigError: ``broader`` is unknown or needs a vocabulary with broader terms, or the vocabulary cannot
            be read.
    """

    _: KW_ONLY
    case: bool = True
    plural: bool = True
    duplicate: bool = True
    substring: bool = True
    broader: Broader = "keep"
    vocabulary: str | Path | Vocabulary | None = field(default="things", metadata={"file": "one"})
    name: str = "merge_tags"
    _labels: Vocabulary | None = field(init=False, repr=False, compare=False, default=None)

    requires: ClassVar[frozenset[str]] = frozenset({"tags"})
    provides: ClassVar[frozenset[str]] = frozenset({"tags"})

    def __post_init__(self) -> None:
        convert_options(self, where=self.name)
        if self.vocabulary is not None:
            self._labels = read_vocabulary(f"{self.name}.vocabulary", self.vocabulary)
        if self.broader != "keep" and not (self._labels and self._labels.broader):
            raise ConfigError(
                f"{self.name}.broader is {self.broader!r}, but {self.name}.vocabulary has no broader terms; "
                "use 'things', or a text file of lines such as 'tabby cat < cat'"
            )

    def __call__(self, samples: Sequence[Sample], /) -> None:
        for sample in samples:
            tags = [self._merged(group) for group in self._groups(sample.tags)]
            if self.substring:
                tags = self._without_substrings(tags)
            if self.broader == "add":
                tags = list(self._with_broader(tags))
            elif self.broader == "drop":
                tags = self._without_broader(tags)
            sample.tags = tags

    def _groups(self, tags: Sequence[Tag]) -> list[list[Tag]]:
        """Group the tags that mean the same, in the order of each group's first tag."""
        groups: dict[tuple[str, int], list[Tag]] = {}
        seen: Counter[str] = Counter()
        for tag in tags:
            repetition = 0 if self.duplicate else seen[tag.text]
            seen[tag.text] += 1
            groups.setdefault((self._meaning(tag.text), repetition), []).append(tag)
        return list(groups.values())

    def _merged(self, group: Sequence[Tag]) -> Tag:
        """Merge a group into one tag; in ``scores``, the stage of ``score`` comes last."""
        scale = _last_stage(group[0])
        comparable = [tag for tag in group if _last_stage(tag) == scale]
        best = max(comparable, key=lambda tag: tag.score)
        scores: dict[str, float] = {}
        for tag in group:
            for stage, score in tag.scores.items():
                scores[stage] = max(score, scores.get(stage, score))
        if scale is not None:
            scores[scale] = scores.pop(scale)
        return replace(
            group[0],
            text=self._text([best, *comparable, *group]),
            score=best.score,
            scores=scores,
            count=max((tag.count for tag in group if tag.count is not None), default=None),
        )

    def _text(self, group: Sequence[Tag]) -> str:
        """Return the first text that is the label itself, else the first text."""
        meaning = self._meaning(group[0].text)
        return next((tag.text for tag in group if self._same(tag.text) == meaning), group[0].text)

    def _with_broader(self, tags: Sequence[Tag]) -> Iterator[Tag]:
        """Yield the tags, each followed by its broader terms that are not among the tags yet."""
        there = {self._meaning(tag.text) for tag in tags}
        brought: dict[str, list[Tag]] = {}
        for tag in tags:
            for term in self._ancestors(tag):
                brought.setdefault(term, []).append(replace(tag, text=term, count=None))
        for tag in tags:
            yield tag
            for term in self._ancestors(tag):
                if self._meaning(term) not in there:
                    there.add(self._meaning(term))
                    yield self._merged(brought[term])

    def _without_broader(self, tags: Sequence[Tag]) -> list[Tag]:
        """Return the tags, except the ones that a narrower tag makes redundant."""
        narrower: dict[str, list[Tag]] = {}
        for tag in tags:
            for term in self._ancestors(tag):
                narrower.setdefault(self._meaning(term), []).append(tag)
        return [
            tag
            for tag in tags
            if not any(_fits_as_well(other, tag) for other in narrower.get(self._meaning(tag.text), ()))
        ]

    def _ancestors(self, tag: Tag) -> tuple[str, ...]:
        label = self._labels.label_of(tag.text) if self._labels else None
        return self._labels.ancestors(label) if self._labels and label else ()

    def _meaning(self, text: str) -> str:
        """Return a key that is equal for texts that become one tag: a synonym's label, else the text."""
        label = self._labels.label_of(text) if self._labels else None
        if label is None or singular(text.casefold()) == singular(label.casefold()):
            return self._same(text)
        return self._same(label)

    def _same(self, text: str) -> str:
        """Return a key that is equal for texts that the ``case`` and ``plural`` rules merge."""
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


def _last_stage(tag: Tag) -> str | None:
    """Return the name of the stage that gave ``tag.score``."""
    return next(reversed(list(tag.scores)), None)


def _contains(longer: tuple[str, ...], shorter: tuple[str, ...]) -> bool:
    """Return True if the longer tag has the shorter one's words in a row, and more words."""
    spare = len(longer) - len(shorter)
    return spare > 0 and any(longer[at : at + len(shorter)] == shorter for at in range(spare + 1))


def _outscored(tag: Tag, other: Tag) -> bool:
    return _last_stage(tag) == _last_stage(other) and tag.score < other.score


def _fits_as_well(tag: Tag, other: Tag) -> bool:
    """Return True if the tag scores at least as high as the other by the last stage that scored both."""
    shared = [stage for stage in tag.scores if stage in other.scores]
    return bool(shared) and tag.scores[shared[-1]] >= other.scores[shared[-1]]
