"""A stage that needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from autotag.records import Sample


@dataclass
class BlocklistTags:
    """Drops the tags that are on a list.

    Args:
        words: tags to drop, whatever their case.
        name: the stage's name.
    """

    words: tuple[str, ...]
    _: KW_ONLY
    name: str = "blocklist_tags"

    requires: ClassVar[frozenset[str]] = frozenset({"tags"})
    provides: ClassVar[frozenset[str]] = frozenset({"tags"})

    def __call__(self, samples: Sequence[Sample], /) -> None:
        unwanted = {word.casefold() for word in self.words}
        for sample in samples:
            sample.tags = [tag for tag in sample.tags if tag.text.casefold() not in unwanted]
