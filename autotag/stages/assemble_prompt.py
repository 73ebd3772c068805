"""A prompt from the caption and the tags."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from autotag.prompting import plain_prompt
from autotag.ranges import check_choice, check_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotag.records import Sample

Mode = Literal["plain"]


@dataclass
class AssemblePrompt:
    """Writes ``prompt``: the best caption, then the tags that it does not say already.

    Without captions the prompt is made of the tags alone.

    Args:
        mode: ``"plain"``.
        separator: between caption and tags.
        max_tags: tags in the prompt at most; None for all.
        name: the stage's name.

    Raises:
        ConfigError: an option is out of range.
    """

    mode: Mode = "plain"
    _: KW_ONLY
    separator: str = ", "
    max_tags: int | None = None
    name: str = "assemble_prompt"

    requires: ClassVar[frozenset[str]] = frozenset({"tags"})
    provides: ClassVar[frozenset[str]] = frozenset({"prompt"})

    def __post_init__(self) -> None:
        check_choice(f"{self.name}.mode", self.mode, get_args(Mode))
        if self.max_tags is not None:
            check_count(f"{self.name}.max_tags", self.max_tags, least=0)

    def __call__(self, samples: Sequence[Sample], /) -> None:
        for sample in samples:
            caption = sample.captions[0].text if sample.captions else ""
            tags = [tag.text for tag in sample.tags]
            sample.prompt = plain_prompt(caption, tags, separator=self.separator, max_tags=self.max_tags)
