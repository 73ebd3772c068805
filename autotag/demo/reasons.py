"""Say where a tag comes from: the phrase of a caption, or a label of a vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autotag.language.english import singular
from autotag.language.phrases import words
from autotag.stages.extract_keyphrases import ExtractKeyphrases
from autotag.stages.match_vocabulary import MatchVocabulary
from autotag.stages.merge_tags import MergeTags
from autotag.vocabularies.vocabulary import Vocabulary, read_vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotag.protocols import Stage
    from autotag.records import Result, Tag


def reason(tag: Tag, result: Result, stages: Sequence[Stage]) -> str:
    """Return where a tag comes from: the caption or vocabulary of each stage that proposed it."""
    said = []
    for stage in stages:
        if stage.name not in (tag.source, *tag.scores):
            continue
        if isinstance(stage, ExtractKeyphrases):
            said.append(_phrase(tag.concept or tag.text, result, stages))
        elif isinstance(stage, MatchVocabulary):
            name = stage.vocabulary if isinstance(stage.vocabulary, str) else "vocabulary"
            said.append(f"label of {name}")
    return "; ".join(said) or f"proposed by {tag.source}"


def scores(tag: Tag) -> str:
    """Return every score of a tag with the stage that gave it, oldest first."""
    return ", ".join(f"{stage} {score:.3f}" for stage, score in tag.scores.items())


def _phrase(text: str, result: Result, stages: Sequence[Stage]) -> str:
    for name in _names(text, stages):
        for caption in result.captions:
            if _holds(caption.text, name):
                called = "" if name == text else f", as {name!r}"
                return f"in the caption {caption.text!r}{called}"
    return "phrase of a caption"


def _names(text: str, stages: Sequence[Stage]) -> tuple[str, ...]:
    """Return the tag, then the synonyms that ``merge_tags`` may have merged into it."""
    given = next((stage.vocabulary for stage in stages if isinstance(stage, MergeTags)), None)
    if given is None:
        return (text,)
    vocabulary = given if isinstance(given, Vocabulary) else read_vocabulary("merge_tags.vocabulary", given)
    label = vocabulary.label_of(text)
    return (text,) if label is None else tuple(dict.fromkeys((text, *vocabulary.names(label))))


def _holds(caption: str, phrase: str) -> bool:
    """Return whether a caption has all words of a phrase, whatever their number."""
    there = {singular(word) for word in words(caption)}
    return all(singular(word) in there for word in words(phrase))
