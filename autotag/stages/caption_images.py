"""Captions from images."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, cast

from autotag.models.catalog import check_model
from autotag.protocols import CaptionOptions
from autotag.ranges import check_count, check_number
from autotag.sample_views import views_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotag.protocols import Captioner, Models
    from autotag.records import Caption, Sample


@dataclass
class CaptionImages:
    """Writes ``num_captions`` captions for each image, after those that other stages wrote.

    Args:
        model: a captioner's name or folder, or a ``Captioner``.
        prompt: text that the caption continues or answers; None for the model's own default.
        max_new_tokens: upper bound on generated tokens, at least 1.
        num_beams: beams of the beam search, at least 1, which is greedy.
        num_captions: captions per image, from 1 to ``num_beams``.
        repetition_penalty: above 1.0 discourages repeated tokens; above 0.
        name: the stage's name.

    Raises:
        ConfigError: an option is out of range, or the model's name is unknown.
    """

    model: str | Captioner = "blip-base"
    _: KW_ONLY
    prompt: str | None = None
    max_new_tokens: int = 30
    num_beams: int = 1
    num_captions: int = 1
    repetition_penalty: float = 1.0
    name: str = "caption_images"
    _captioner: Captioner = field(init=False, repr=False, compare=False)

    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"captions"})

    def __post_init__(self) -> None:
        check_count(f"{self.name}.max_new_tokens", self.max_new_tokens)
        check_count(f"{self.name}.num_beams", self.num_beams)
        check_count(f"{self.name}.num_captions", self.num_captions, most=self.num_beams)
        check_number(f"{self.name}.repetition_penalty", self.repetition_penalty, least=0, above=True)
        check_model(self.model, "captioner")

    def setup(self, models: Models, /) -> None:
        self._captioner = models.captioner(self.model)

    def __call__(self, samples: Sequence[Sample], /) -> None:
        if not samples:
            return
        options = CaptionOptions(
            prompt=self.prompt,
            max_new_tokens=self.max_new_tokens,
            num_beams=self.num_beams,
            num_captions=self.num_captions,
            repetition_penalty=self.repetition_penalty,
        )
        for sample, own in zip(samples, self._captions(samples, options), strict=True):
            sample.captions.extend(own)

    def _captions(self, samples: Sequence[Sample], options: CaptionOptions) -> list[list[Caption]]:
        """From the view that the captioner looks at where the samples bring it, else from their images."""
        views = views_of(samples, self._captioner)
        if views is None:
            return self._captioner.caption([sample.image for sample in samples], options)
        captions: list[list[Caption]] = cast("Any", self._captioner).caption_views(views, options)
        return captions
