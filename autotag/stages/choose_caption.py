"""Rank an image's captions by how well they fit the image."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, ClassVar

from autotag.config.checks import check_count, check_number
from autotag.config.options import convert_options
from autotag.errors import ConfigError
from autotag.models.fast.text_reader import say_what_is_cut
from autotag.models.names import check_model
from autotag.relevance.embeddings import TextVectors, image_vectors
from autotag.vocabularies.templates import SLOT, check_template, filled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotag.protocols import ImageTextEncoder, Models
    from autotag.records import Caption, Sample


@dataclass
class ChooseCaption:
    """Score each caption by how well it fits the image, and put the best first.

    The score is the cosine of the image's vector and the vector of the caption in its template (CLIP,
    Radford et al. 2021, arXiv:2103.00020; CLIPScore ranks captions by it, Hessel et al. 2021,
    arXiv:2104.08718). The other captions follow as alternatives. Every caption keeps the captioner that
    wrote it as its source, and that captioner's own score in ``scores``.

    With ``own_share`` above 0, the order is by the cosine plus that share of the captioner's own score, a
    log-probability per token. It suits several captions of one captioner: the cosine knows what is in the
    image, the captioner what people say. ``score`` stays the cosine.

    Equal scores are ordered by text; equal texts of several captioners all stay, in their former order.
    Blank captions are dropped, so an image with only blank captions has none.

    Args:
        top_k: most captions per image, at least 1; None for all.
        own_share: weight of the captioner's own score in the order, 0 or more.
        template: sentence around a caption, with one ``{}``.
        encoder: name, folder or ``ImageTextEncoder``; None for the pipeline's own.
        name: the stage's name.

    Raises:
        ConfigError: an option is out of range; or, when it runs, ``own_share`` is not 0 and one of several
            captions has no score of its captioner.
    """

    _: KW_ONLY
    top_k: int | None = None
    own_share: float = 0.0
    template: str = SLOT
    encoder: str | ImageTextEncoder | None = field(default=None, metadata={"model": "encoder"})
    name: str = "choose_caption"
    _wanted: str | ImageTextEncoder | None = field(init=False, repr=False, compare=False)
    image_encoder: ImageTextEncoder = field(init=False, repr=False, compare=False)
    _texts: TextVectors = field(init=False, repr=False, compare=False)

    requires: ClassVar[frozenset[str]] = frozenset({"captions"})
    provides: ClassVar[frozenset[str]] = frozenset({"captions"})

    def __post_init__(self) -> None:
        convert_options(self, where=self.name)
        if self.top_k is not None:
            check_count(f"{self.name}.top_k", self.top_k)
        check_number(f"{self.name}.own_share", self.own_share, least=0)
        check_template(f"{self.name}.template", self.template)
        self._wanted = None if self.encoder is None else check_model(self.encoder, "encoder")

    def setup(self, models: Models, /) -> None:
        """Get the encoder."""
        self.image_encoder = models.encoder(self._wanted)
        self._texts = TextVectors(self.image_encoder)

    def __call__(self, samples: Sequence[Sample], /) -> None:
        for sample in samples:
            sample.captions = [caption for caption in sample.captions if caption.text.strip()]
        told = [sample for sample in samples if sample.captions]
        if not told:
            return
        texts = list(dict.fromkeys(caption.text for sample in told for caption in sample.captions))
        whole = [filled(self.template, text) for text in texts]
        say_what_is_cut(whole, self.image_encoder, self.name)
        rows = self._texts(whole)
        text_vectors = dict(zip(texts, rows, strict=True))
        for sample, image_vector in zip(told, image_vectors(told, self.image_encoder), strict=True):
            sample.captions = self._best(
                [
                    caption.scored(float(text_vectors[caption.text] @ image_vector), by=self.name)
                    for caption in sample.captions
                ]
            )

    def _best(self, captions: Sequence[Caption]) -> list[Caption]:
        fit = self._mixed if self.own_share and len(captions) > 1 else self._cosine
        return sorted(captions, key=lambda caption: (-fit(caption), caption.text))[: self.top_k]

    def _cosine(self, caption: Caption) -> float:
        return caption.scores[self.name]

    def _mixed(self, caption: Caption) -> float:
        if caption.source not in caption.scores:
            raise ConfigError(
                f"{self.name}.own_share needs the captioner's own score, and {caption.source!r} gives none; "
                "set it to 0, or use a captioner that scores, such as a BLIP with num_beams above 1"
            )
        return self._cosine(caption) + self.own_share * caption.scores[caption.source]
