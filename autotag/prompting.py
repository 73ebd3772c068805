"""Prompts from captions and tags. Pure text, no models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autotag import english
from autotag.phrases import words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


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
    start = caption.strip().rstrip(".").rstrip()
    said = [_content(start)]
    kept: list[str] = []
    for tag in tags:
        content = _content(tag)
        if not any(content <= earlier for earlier in said):
            kept.append(tag)
            said.append(content)
    parts: Sequence[str] = kept if max_tags is None else kept[:max_tags]
    return separator.join([start, *parts] if start else parts)


def _content(text: str) -> frozenset[str]:
    """The words of a text in their plain form: without function words, unless it has no others."""
    every = words(text)
    content = [word for word in every if word not in english.function_words()]
    return frozenset(map(english.lemma, content or every))
