"""Propose tags from captions."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - a config is converted by the annotations
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from autotag.config.checks import check_count, check_number
from autotag.config.options import convert_options
from autotag.errors import ConfigError
from autotag.language.other_languages import SEGMENTERS
from autotag.language.phrases import check_options
from autotag.models.names import check_model
from autotag.protocols import KeyphraseOptions
from autotag.records import Tag

if TYPE_CHECKING:
    from collections.abc import Mapping

    from autotag.protocols import KeyphraseExtractor, Models
    from autotag.records import Sample

Candidates = Literal["phrases", "ngrams"]


@dataclass
class ExtractKeyphrases:
    """Propose the keyphrases of an image's captions as tags, after the existing tags.

    All captions of an image count. A phrase of several captions is proposed once, with its best score: the
    cosine similarity of the phrase and the caption. Best first.

    Args:
        model: a keyphrase extractor's name or folder, or a ``KeyphraseExtractor``.
        candidates: ``"phrases"`` proposes only noun phrases and activities (see
            ``autotag.language.phrases``); ``"ngrams"`` proposes every n-gram left after stop words are
            removed, exactly as KeyBERT does.
        ngram_range: fewest and most words of a phrase, at least 1.
        top_n: keyphrases per caption, at least 1.
        diversity: None ranks by similarity alone; a value from 0 to 1 is the weight of diversity among the
            chosen phrases (maximal marginal relevance).
        stop_words: ``"english"``; the code of another language, such as ``"de"``, for captions in it (needs
            the extra ``languages``; see ``autotag.language.other_languages``); a list of words; or None for
            none.
        name: the stage's name.

    Raises:
        ConfigError: an option is out of range, the model's name is unknown, or the language has no spaces
            between words and ``candidates`` is ``"ngrams"``.
    """

    model: str | KeyphraseExtractor = field(default="minilm", metadata={"model": "extractor"})
    _: KW_ONLY
    candidates: Candidates = "phrases"
    ngram_range: tuple[int, int] = (1, 2)
    top_n: int = 5
    diversity: float | None = None
    stop_words: str | Sequence[str] | None = "english"
    name: str = "extract_keyphrases"
    _wanted: str | KeyphraseExtractor = field(init=False, repr=False, compare=False)
    _extractor: KeyphraseExtractor = field(init=False, repr=False, compare=False)

    requires: ClassVar[frozenset[str]] = frozenset({"captions"})
    provides: ClassVar[frozenset[str]] = frozenset({"tags"})

    def __post_init__(self) -> None:
        convert_options(self, where=self.name)
        check_count(f"{self.name}.top_n", self.top_n)
        if self.diversity is not None:
            check_number(f"{self.name}.diversity", self.diversity, least=0, most=1)
        try:
            check_options(self.ngram_range, self.stop_words)
        except ConfigError as error:
            raise ConfigError(f"{self.name}.{error}") from None
        if self.candidates == "ngrams" and self.stop_words in SEGMENTERS:
            raise ConfigError(
                f"{self.name}.candidates is 'ngrams', which are of words with spaces between; for "
                f"{self.stop_words!r} use 'phrases'."
            )
        self._wanted = check_model(self.model, "extractor")

    def setup(self, models: Models, /) -> None:
        """Get the extractor."""
        self._extractor = models.extractor(self._wanted)

    def __call__(self, samples: Sequence[Sample], /) -> None:
        texts = list(dict.fromkeys(caption.text for sample in samples for caption in sample.captions))
        if not texts:
            return
        options = KeyphraseOptions(
            candidates=self.candidates,
            ngram_range=self.ngram_range,
            top_n=self.top_n,
            diversity=self.diversity,
            stop_words=self.stop_words,
        )
        keyphrases = dict(zip(texts, self._extractor.extract(texts, options), strict=True))
        for sample in samples:
            scores = _best_scores([keyphrases[caption.text] for caption in sample.captions])
            best_first = sorted(scores.items(), key=lambda entry: -entry[1])
            sample.tags.extend(Tag.proposed(text, score, by=self.name) for text, score in best_first)


def _best_scores(per_caption: Sequence[Sequence[tuple[str, float]]]) -> Mapping[str, float]:
    """Return each phrase once, with its best score."""
    best: dict[str, float] = {}
    for keyphrases in per_caption:
        for text, score in keyphrases:
            best[text] = max(score, best.get(text, score))
    return best
