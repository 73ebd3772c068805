"""Caption images with one or several captioners."""

from __future__ import annotations

import re
from collections.abc import Sequence  # noqa: TC003 - a config is converted by the annotations
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from autotag.config.checks import check_count, check_number
from autotag.config.options import convert_options
from autotag.errors import ConfigError
from autotag.images.crops import cut_out
from autotag.models.names import ModelName, check_model
from autotag.protocols import CaptionOptions, ChecksOptions, extra_options_of
from autotag.relevance.sample_views import views_of

if TYPE_CHECKING:
    from collections.abc import Iterator

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
"""Options that not every captioner supports."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_MARGIN = 0.1
_SMALLEST = 32  # pixels of the original
_MOST_TOKENS = 100_000
_MOST_BEAMS = 1_000
_LARGEST_SEED = 2**63 - 1
_OF_SAMPLING = ("temperature", "top_k", "top_p", "seed")


@dataclass
class CaptionImages:
    """Add captions to each image, after those of earlier stages.

    Several captioners run one after the other, each on the whole batch with the same options. An image's
    captions are in the order of the captioners, best first for each captioner; ``ChooseCaption`` ranks them
    all. To give captioners different options, use one stage for each.

    With ``regions``, the boxes that an earlier stage found are captioned, too, each with a margin of a tenth;
    their captions come after those of the image, with the source ``"blip-base on dog"``.

    Args:
        model: a captioner's name or folder, or a ``Captioner``; or several of these.
        prompt: text that the caption continues or answers; None for the model's own default.
        max_new_tokens: upper bound on generated tokens, at least 1.
        num_beams: beams of the beam search, at least 1, which is greedy; None for ``candidates`` beams
            (1 with ``do_sample``).
        candidates: captions of each captioner per image, best first; at most ``num_beams``, or any number
            with ``do_sample``.
        repetition_penalty: above 1.0 discourages repeated tokens; above 0.
        min_new_tokens: lower bound on generated tokens, from 0 to ``max_new_tokens``.
        do_sample: draw tokens by their probability; only with one beam.
        temperature: of sampling, above 0: below 1.0 likely tokens become likelier.
        top_k: draw from this number of the likeliest tokens, at least 1; None for all.
        top_p: draw from the likeliest tokens that together have this probability, above 0 and at most 1;
            None for all.
        seed: of sampling, at least 0; the same image with the same seed gets the same captions.
        beam_scores: what a beam search sums: ``"log_probabilities"``, or ``"logits"`` as in open_clip.
        regions: caption the boxes in ``detections`` too, if their shorter side has 32 pixels or more.
        name: the stage's name.

    Raises:
        ConfigError: an option is out of range or has no effect, a model's name is unknown, or a model is
            named twice.
    """

    model: str | Captioner | Sequence[str | Captioner] = field(
        default="blip-base", metadata={"model": "captioner"}
    )
    _: KW_ONLY
    prompt: str | None = None
    max_new_tokens: int = 30
    num_beams: int | None = None
    candidates: int = 1
    repetition_penalty: float = 1.0
    min_new_tokens: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0
    beam_scores: Literal["log_probabilities", "logits"] = "log_probabilities"
    regions: bool = False
    name: str = "caption_images"
    _models: tuple[str | Captioner, ...] = field(init=False, repr=False, compare=False)
    _captioners: tuple[Captioner, ...] = field(init=False, repr=False, compare=False)

    requires: frozenset[str] = field(init=False, repr=False, compare=False, default=frozenset())
    provides: ClassVar[frozenset[str]] = frozenset({"captions"})

    def __post_init__(self) -> None:
        convert_options(self, where=self.name)
        self.requires = frozenset({"detections"} if self.regions else ())
        check_count(f"{self.name}.max_new_tokens", self.max_new_tokens, most=_MOST_TOKENS)
        if self.num_beams is not None:
            check_count(f"{self.name}.num_beams", self.num_beams, most=_MOST_BEAMS)
        most = _MOST_BEAMS if self.do_sample or self.num_beams is None else self.num_beams
        check_count(f"{self.name}.candidates", self.candidates, most=most)
        check_number(f"{self.name}.repetition_penalty", self.repetition_penalty, least=0, above=True)
        check_count(f"{self.name}.min_new_tokens", self.min_new_tokens, least=0, most=self.max_new_tokens)
        self._check_sampling()
        if self.beam_scores == "logits" and self._beams == 1:
            raise ConfigError(f"{self.name}.beam_scores needs several beams; set num_beams, or leave it out")
        given = self.model if isinstance(self.model, tuple) else (cast("str | Captioner", self.model),)
        self._models = tuple(check_model(model, "captioner") for model in given)
        self._check_models()

    def _check_models(self) -> None:
        if not self._models:
            raise ConfigError(f"{self.name}.model is empty; name at least one captioner")
        known: set[object] = set()
        for model in self._models:
            key = model.address.key if isinstance(model, ModelName) else id(model)
            if key in known:
                raise ConfigError(f"{self.name}.model has {_called(model)!r} twice; name each model once")
            known.add(key)

    @property
    def _beams(self) -> int:
        if self.num_beams is not None:
            return self.num_beams
        return 1 if self.do_sample else self.candidates

    def _check_sampling(self) -> None:
        check_number(f"{self.name}.temperature", self.temperature, least=0, above=True)
        check_count(f"{self.name}.seed", self.seed, least=0, most=_LARGEST_SEED)
        if self.top_k is not None:
            check_count(f"{self.name}.top_k", self.top_k)
        if self.top_p is not None:
            check_number(f"{self.name}.top_p", self.top_p, least=0, most=1, above=True)
        idle = [name for name in _OF_SAMPLING if name in self._set_extras()]
        if idle and not self.do_sample:
            raise ConfigError(f"{self.name}.{idle[0]} needs sampling; set do_sample, or leave it out")
        if self.do_sample and self._beams > 1:
            raise ConfigError(
                f"{self.name}.do_sample needs one beam, but num_beams is {self.num_beams}; leave one out"
            )

    def _set_extras(self) -> list[str]:
        """Return the optional options (``_EXTRA``) that differ from their defaults."""
        defaults = CaptionOptions()
        return [name for name in _EXTRA if getattr(self, name) != getattr(defaults, name)]

    def setup(self, models: Models, /) -> None:
        """Get the captioners.

        Raises:
            ConfigError: a captioner does not support one of the options, or cannot take the prompt.
        """
        self._captioners = tuple(self._checked_captioner(model, models) for model in self._models)

    def _checked_captioner(self, model: str | Captioner, models: Models) -> Captioner:
        captioner = models.captioner(model)
        supported = extra_options_of(captioner)
        for option in self._set_extras():
            if option not in supported:
                raise ConfigError(
                    f"{self.name}.{option}: captioner {_called(model)!r} does not support this option; leave "
                    "it out, or use one that does (open_clip's CoCa, 'coca-l', supports all)"
                )
        if isinstance(captioner, ChecksOptions):
            captioner.check_options(self._options())
        return captioner

    def __call__(self, samples: Sequence[Sample], /) -> None:
        if not samples:
            return
        options = self._options()
        for model, captioner in zip(self._models, self._captioners, strict=True):
            with _naming(model):
                for sample, own in zip(samples, _captions(captioner, samples, options), strict=True):
                    sample.captions.extend(own)
        for model, captioner in zip(self._models, self._captioners, strict=True) if self.regions else ():
            with _naming(model):
                _caption_regions(captioner, samples, options)
        for sample in samples:
            sample.captions[:] = map(_encodable, sample.captions)

    def _options(self) -> CaptionOptions:
        return CaptionOptions(
            prompt=self.prompt,
            max_new_tokens=self.max_new_tokens,
            num_beams=self._beams,
            num_captions=self.candidates,
            repetition_penalty=self.repetition_penalty,
            **{name: getattr(self, name) for name in _EXTRA},
        )


def _captions(
    captioner: Captioner, samples: Sequence[Sample], options: CaptionOptions
) -> list[list[Caption]]:
    """Caption the samples' views if they have the captioner's view, else their images."""
    views = views_of(samples, captioner)
    if views is None:
        return captioner.caption([sample.image for sample in samples], options)
    captions: list[list[Caption]] = cast("Any", captioner).caption_views(views, options)
    return captions


def _encodable(caption: Caption) -> Caption:
    """Replace lone surrogates, which a server may send in JSON, and which tokenizers and files refuse."""
    text = getattr(caption, "text", None)  # what is not a caption is refused after the stage
    if not isinstance(text, str) or not _SURROGATE.search(text):
        return caption
    return replace(caption, text=_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text))


def _caption_regions(captioner: Captioner, samples: Sequence[Sample], options: CaptionOptions) -> None:
    """Add captions of the boxes of all samples, which are one batch of the captioner."""
    found = [(sample, one) for sample in samples for one in sample.detections]
    cut = partial(cut_out, margin=_MARGIN, smallest=_SMALLEST)
    crops = [
        (sample, one.label, crop)
        for sample, one in found
        if (crop := cut(sample.image, sample.size, one.box)) is not None
    ]
    if crops:
        rows = captioner.caption([crop for _, _, crop in crops], options)
        for (sample, label, _), captions in zip(crops, rows, strict=True):
            sample.captions += [replace(one, source=f"{one.source} on {label}") for one in captions]


def _called(model: str | Captioner) -> str:
    """Return a model's name for messages."""
    return model if isinstance(model, str) else str(getattr(model, "name", type(model).__name__))


@contextmanager
def _naming(model: str | Captioner) -> Iterator[None]:
    """Add the captioner's name to any error raised inside."""
    try:
        yield
    except Exception as error:
        error.add_note(f"captioner {_called(model)!r}")
        raise
