"""Assemble a prompt from the caption and the tags, or from the image and long lists of phrases."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - a config is converted by the annotations
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path  # noqa: TC003 - a config is converted by the annotations
from typing import TYPE_CHECKING, ClassVar, Literal, cast, get_args

from autotag.config.checks import check_choice, check_count
from autotag.config.options import convert_options
from autotag.models.names import check_model
from autotag.prompts.clip_interrogator_modes import compat_best, compat_classic, compat_fast, compat_negative
from autotag.prompts.modes import (
    CLASSIC_FLAVORS,
    MOST_FLAVORS,
    Part,
    PromptScorer,
    Ranks,
    Writing,
    best_prompt,
    caption_start,
    classic_prompt,
    fast_prompt,
    negative_prompt,
    plain_prompt,
    write_side_by_side,
)
from autotag.prompts.ranked_phrases import (
    PARTS,
    PromptPhrases,
    read_compat_phrases,
    read_phrases,
)
from autotag.relevance.embeddings import image_vectors
from autotag.vocabularies.vocabulary import Vocabulary  # noqa: TC001 - the same

if TYPE_CHECKING:
    from autotag.models.fast.text_reader import TextReader
    from autotag.protocols import ImageTextEncoder, Models
    from autotag.records import Sample

Mode = Literal["plain", "caption", "best", "fast", "classic", "negative"]
Compat = Literal["clip-interrogator"]

_NEEDS = {"plain": {"tags"}, "negative": set[str]()}
_MOST = 1_000_000  # phrases; no vocabulary has more
_WITHOUT_ENCODER = ("plain", "caption")
_FILE = {"file": "one"}  # see ``options.with_files``


@dataclass
class AssemblePrompt:
    """Write ``prompt``.

    ``"plain"`` and ``"caption"`` do not need a model. The other modes are those of CLIP Interrogator: they
    compare the image with phrases of art and photography. Their prompts fit the encoder's text length.

    Args:
        mode: ``"plain"`` is the best caption, then the tags that are not in it; ``"caption"`` the caption
            alone; ``"fast"`` the caption and the phrases most similar to the image; ``"classic"`` caption,
            medium, artist, trending, movement and three flavors; ``"best"`` adds the phrase that makes the
            text most similar to the image, again and again; ``"negative"`` chains the phrases least similar
            to the image.
        separator: between caption and tags in mode ``"plain"``.
        max_tags: most tags in a ``"plain"`` prompt; None for all.
        max_flavors: most phrases (in mode ``"classic"``: flavors); None for 32, in ``"classic"`` for 3.
        min_flavors: number of phrases that ``"best"`` and ``"negative"`` add even if they do not help yet.
        candidates: number of most (``"negative"``: least) similar phrases to choose from in ``"best"`` and
            ``"negative"``.
        mediums: name of a bundled vocabulary, a file (see ``Vocabulary.from_file``), a list of phrases or a
            ``Vocabulary``; None or an empty list leaves them out.
        artists: the same.
        movements: the same.
        trendings: the same.
        flavors: the same.
        negatives: the same; phrases that ``"negative"`` may add besides the least similar flavors.
        living_artists: False leaves living artists out of the bundled vocabulary.
        compat: ``"clip-interrogator"`` for exactly the prompts of CLIP Interrogator 0.6.0; vocabulary names
            then mean its own lists, read from its installed package.
        encoder: name, folder or ``ImageTextEncoder``; None for the pipeline's own.
        name: the stage's name.

    Raises:
        ConfigError: an option is out of range, or a vocabulary cannot be read.
    """

    mode: Mode = "plain"
    _: KW_ONLY
    separator: str = ", "
    max_tags: int | None = None
    max_flavors: int | None = None
    min_flavors: int = 8
    candidates: int = 2048
    mediums: str | Path | Sequence[str] | Vocabulary | None = field(default="mediums", metadata=_FILE)
    artists: str | Path | Sequence[str] | Vocabulary | None = field(default="artists", metadata=_FILE)
    movements: str | Path | Sequence[str] | Vocabulary | None = field(default="movements", metadata=_FILE)
    trendings: str | Path | Sequence[str] | Vocabulary | None = field(default="trendings", metadata=_FILE)
    flavors: str | Path | Sequence[str] | Vocabulary | None = field(default="flavors", metadata=_FILE)
    negatives: str | Path | Sequence[str] | Vocabulary | None = field(default="negatives", metadata=_FILE)
    living_artists: bool = True
    compat: Compat | None = None
    encoder: str | ImageTextEncoder | None = field(default=None, metadata={"model": "encoder"})
    name: str = "assemble_prompt"
    requires: frozenset[str] = field(init=False, repr=False, compare=False, default=frozenset({"tags"}))
    _read: dict[Part, tuple[str, ...]] = field(init=False, repr=False, compare=False)
    _negatives: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _wanted: str | ImageTextEncoder | None = field(init=False, repr=False, compare=False)
    image_encoder: ImageTextEncoder | None = field(init=False, repr=False, compare=False)
    _reader: TextReader = field(init=False, repr=False, compare=False)
    _phrases: PromptPhrases = field(init=False, repr=False, compare=False)
    _scorer: PromptScorer = field(init=False, repr=False, compare=False)

    provides: ClassVar[frozenset[str]] = frozenset({"prompt"})

    def __post_init__(self) -> None:
        convert_options(self, where=self.name)
        self._check()
        self.requires = frozenset(_NEEDS.get(self.mode, {"captions"}))
        if self.mode in _WITHOUT_ENCODER:
            return
        wanted: tuple[Part, ...] = ("flavors",) if self.mode == "negative" else PARTS
        self._read = {part: self._labels(part) for part in wanted}
        self._negatives = self._labels("negatives") if self.mode == "negative" else ()

    @property
    def borrows(self) -> frozenset[str]:
        """The names of the options whose models this mode uses."""
        return frozenset() if self.mode in _WITHOUT_ENCODER else frozenset({"encoder"})

    def setup(self, models: Models, /) -> None:
        """Get the encoder and the vectors of the phrases, in modes that compare."""
        self.image_encoder = None
        if self.mode in _WITHOUT_ENCODER:
            return
        from autotag.models.fast.text_reader import say_what_is_cut, text_reader

        encoder = self.image_encoder = models.encoder(self._wanted)
        self._reader = text_reader(encoder)
        for part, phrases in self._read.items():
            say_what_is_cut(phrases, encoder, f"{self.name}, {part}")
        self._phrases = PromptPhrases.embedded(self._read, encoder, compat=self.compat is not None)
        if self.mode in {"best", "negative"}:
            from autotag.prompts.prefix_scorer import prompt_scorer

            self._scorer = prompt_scorer(encoder)

    def __call__(self, samples: Sequence[Sample], /) -> None:
        if self.mode in _WITHOUT_ENCODER:
            for sample in samples:
                sample.prompt = self._without_encoder(sample)
        elif samples:
            for sample, prompt in zip(samples, self._interrogated(samples), strict=True):
                sample.prompt = prompt

    def _check(self) -> None:
        for option in ("max_tags", "max_flavors"):
            value = getattr(self, option)
            if value is not None:
                check_count(f"{self.name}.{option}", value, least=int(option == "max_flavors"), most=_MOST)
        check_count(f"{self.name}.min_flavors", self.min_flavors, least=0, most=_MOST)
        check_count(f"{self.name}.candidates", self.candidates, most=_MOST)
        if self.compat is not None:
            modes = [mode for mode in get_args(Mode) if mode not in _WITHOUT_ENCODER]
            check_choice(f"{self.name}.mode, with compat,", self.mode, modes)
        self._wanted = None if self.encoder is None else check_model(self.encoder, "encoder")

    def _labels(self, part: str) -> tuple[str, ...]:
        option, given = f"{self.name}.{part}", getattr(self, part)
        if self.compat is not None:
            return read_compat_phrases(option, given)
        return read_phrases(option, given, living_artists=self.living_artists)

    def _without_encoder(self, sample: Sample) -> str:
        caption = sample.captions[0].text if sample.captions else ""
        if self.mode == "caption":
            return caption_start(caption)
        tags = [tag.text for tag in sample.tags]
        return plain_prompt(caption, tags, separator=self.separator, max_tags=self.max_tags)

    def _interrogated(self, samples: Sequence[Sample]) -> list[str]:
        vectors = image_vectors(samples, cast("ImageTextEncoder", self.image_encoder))
        captions = [sample.captions[0].text if sample.captions else "" for sample in samples]
        asked = list(zip(captions, self._phrases.ranks(vectors), strict=True))
        if self.mode in {"best", "negative"}:
            writings = [self._writing(caption, ranks) for caption, ranks in asked]
            return write_side_by_side(writings, vectors, self._scorer)
        return [self._ranked_prompt(caption, ranks) for caption, ranks in asked]

    def _ranked_prompt(self, caption: str, ranks: Ranks) -> str:
        """Assemble the prompt of mode fast or classic."""
        if self.mode == "fast":
            fast = compat_fast if self.compat else fast_prompt
            return fast(caption, ranks, self._reader, max_flavors=self.max_flavors or MOST_FLAVORS)
        classic = compat_classic if self.compat else classic_prompt
        return classic(caption, ranks, self._reader, max_flavors=self.max_flavors or CLASSIC_FLAVORS)

    def _writing(self, caption: str, ranks: Ranks) -> Writing:
        """Return the steps that write the prompt of mode best or negative."""
        most = self.max_flavors or MOST_FLAVORS
        if self.mode == "best":
            best = compat_best if self.compat else best_prompt
            return best(
                caption,
                ranks,
                self._reader,
                candidates=self.candidates,
                min_flavors=self.min_flavors,
                max_flavors=most,
            )
        negative = compat_negative if self.compat else negative_prompt
        return negative(
            ranks,
            self._negatives,
            self._reader,
            candidates=self.candidates,
            min_flavors=self.min_flavors,
            max_flavors=most,
        )
