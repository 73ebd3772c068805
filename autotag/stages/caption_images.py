"""Captions from images."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from autotag.errors import ConfigError
from autotag.models.catalog import check_model
from autotag.protocols import CaptionOptions
from autotag.ranges import check_choice, check_count, check_number
from autotag.sample_views import views_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotag.protocols import Captioner, Models
    from autotag.records import Caption, Sample

_EXTRA = (
    "min_new_tokens",
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "seed",
    "beam_scores",
)
"""Options that not every captioner heeds."""
_OF_SAMPLING = ("temperature", "top_k", "top_p", "seed")


@dataclass
class CaptionImages:
    """Writes ``num_captions`` captions for each image, after those that other stages wrote.

    Args:
        model: a captioner's name or folder, or a ``Captioner``.
        prompt: text that the caption continues or answers; None for the model's own default.
        max_new_tokens: upper bound on generated tokens, at least 1.
        num_beams: beams of the beam search, at least 1, which is greedy.
        num_captions: captions per image, from 1 to ``num_beams``; any number of them with ``do_sample``.
        repetition_penalty: above 1.0 discourages repeated tokens; above 0.
        min_new_tokens: a caption does not end before so many tokens; at most ``max_new_tokens``.
        do_sample: draw tokens by their probability; only with one beam.
        temperature: of sampling, above 0: below 1.0 likely tokens become likelier.
        top_k: draw from so many of the likeliest tokens, at least 1; None for all.
        top_p: draw from the likeliest tokens that together have this probability, above 0 and at most 1;
            None for all.
        seed: of sampling, at least 0; the same image with the same seed gets the same captions.
        beam_scores: what a beam search adds up, ``"log_probabilities"`` or, as open_clip's own, ``"logits"``.
        name: the stage's name.

    Raises:
        ConfigError: an option is out of range or without effect, or the model's name is unknown.
    """

    model: str | Captioner = "blip-base"
    _: KW_ONLY
    prompt: str | None = None
    max_new_tokens: int = 30
    num_beams: int = 1
    num_captions: int = 1
    repetition_penalty: float = 1.0
    min_new_tokens: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0
    beam_scores: Literal["log_probabilities", "logits"] = "log_probabilities"
    name: str = "caption_images"
    _captioner: Captioner = field(init=False, repr=False, compare=False)

    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"captions"})

    def __post_init__(self) -> None:
        check_count(f"{self.name}.max_new_tokens", self.max_new_tokens)
        check_count(f"{self.name}.num_beams", self.num_beams)
        most = None if self.do_sample else self.num_beams
        check_count(f"{self.name}.num_captions", self.num_captions, most=most)
        check_number(f"{self.name}.repetition_penalty", self.repetition_penalty, least=0, above=True)
        check_count(f"{self.name}.min_new_tokens", self.min_new_tokens, least=0, most=self.max_new_tokens)
        self._check_sampling()
        check_choice(f"{self.name}.beam_scores", self.beam_scores, ("log_probabilities", "logits"))
        if self.beam_scores == "logits" and self.num_beams == 1:
            raise ConfigError(f"{self.name}.beam_scores is for several beams; set num_beams, or leave it out")
        check_model(self.model, "captioner")

    def _check_sampling(self) -> None:
        check_number(f"{self.name}.temperature", self.temperature, least=0, above=True)
        check_count(f"{self.name}.seed", self.seed, least=0)
        if self.top_k is not None:
            check_count(f"{self.name}.top_k", self.top_k)
        if self.top_p is not None:
            check_number(f"{self.name}.top_p", self.top_p, least=0, most=1, above=True)
        idle = [name for name in _OF_SAMPLING if name in self._set_extras()]
        if idle and not self.do_sample:
            raise ConfigError(f"{self.name}.{idle[0]} is for sampling; set do_sample, or leave it out")
        if self.do_sample and self.num_beams > 1:
            raise ConfigError(
                f"{self.name}.do_sample goes with one beam, and num_beams is {self.num_beams}; leave one out"
            )

    def _set_extras(self) -> list[str]:
        """The options beyond those that every captioner heeds that do not have their default."""
        defaults = CaptionOptions()
        return [name for name in _EXTRA if getattr(self, name) != getattr(defaults, name)]

    def setup(self, models: Models, /) -> None:
        """Borrows the captioner.

        Raises:
            ConfigError: it does not heed one of the options.
        """
        captioner = models.captioner(self.model)
        heeded: frozenset[str] = getattr(captioner, "extra_options", frozenset())
        for option in self._set_extras():
            if option not in heeded:
                raise ConfigError(
                    f"{self.name}.{option}: captioner {self.model!r} knows no such option; leave it out, or "
                    "take one that does (open_clip's CoCa, 'coca-l', knows all)"
                )
        self._captioner = captioner

    def __call__(self, samples: Sequence[Sample], /) -> None:
        if not samples:
            return
        options = CaptionOptions(
            **{option.name: getattr(self, option.name) for option in fields(CaptionOptions)}
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
