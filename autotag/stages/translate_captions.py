"""Translate the best captions."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, ClassVar

from autotag.config.checks import check_count
from autotag.config.options import convert_options
from autotag.errors import ConfigError
from autotag.models.names import check_model
from autotag.protocols import TranslationOptions
from autotag.records import Caption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotag.protocols import Models, Translator
    from autotag.records import Sample

_MOST_BEAMS = 1_000
_MOST_TOKENS = 100_000


@dataclass
class TranslateCaptions:
    """Put translations of the best captions before the captions, which stay.

    So the caption of a result is the translation of the one that was best, and none is lost. This stage
    stands after all that read captions or make tags: keyphrases are found in English, and single words are
    never translated, since "crane" is a bird or a machine; ``NameTags`` names tags. A translation's source is
    "<model> from <source of the caption>", and it has no score. A translation that is empty is left out.

    Args:
        model: a translator's name or folder, such as ``"hf:Helsinki-NLP/opus-mt-en-de"``, or a
            ``Translator``.
        target: the language to translate to, by the model's own code: ``"de"``.
        source: the language of the captions, likewise.
        most: the number of captions that are translated, best first, at least 1.
        num_beams: beams of the beam search, at least 1, which is greedy.
        max_new_tokens: upper bound on generated tokens, at least 1.
        name: the stage's name.

    Raises:
        ConfigError: an option is out of range, or the model's name is unknown; from ``setup``, if the model
            does not translate between these languages.
    """

    model: str | Translator = field(metadata={"model": "translator"})
    target: str
    _: KW_ONLY
    source: str = "en"
    most: int = 1
    num_beams: int = 4
    max_new_tokens: int = 128
    name: str = "translate_captions"
    _wanted: str | Translator = field(init=False, repr=False, compare=False)
    _translator: Translator = field(init=False, repr=False, compare=False)

    requires: ClassVar[frozenset[str]] = frozenset({"captions"})
    provides: ClassVar[frozenset[str]] = frozenset({"captions"})

    def __post_init__(self) -> None:
        convert_options(self, where=self.name)
        check_count(f"{self.name}.most", self.most)
        check_count(f"{self.name}.num_beams", self.num_beams, most=_MOST_BEAMS)
        check_count(f"{self.name}.max_new_tokens", self.max_new_tokens, most=_MOST_TOKENS)
        for option in ("target", "source"):
            if not getattr(self, option).strip():
                raise ConfigError(f"{self.name}.{option} is empty; name a language, such as 'de'.")
        if self.source == self.target:
            raise ConfigError(f"{self.name}: source and target are both {self.source!r}.")
        self._wanted = check_model(self.model, "translator")

    def setup(self, models: Models, /) -> None:
        """Get the translator.

        Raises:
            ConfigError: it does not translate between these languages.
        """
        self._translator = models.translator(self._wanted)
        self._translator.check_languages(self._options)

    @property
    def _options(self) -> TranslationOptions:
        return TranslationOptions(self.source, self.target, self.num_beams, self.max_new_tokens)

    def __call__(self, samples: Sequence[Sample], /) -> None:
        texts = list(
            dict.fromkeys(caption.text for sample in samples for caption in sample.captions[: self.most])
        )
        if not texts:
            return
        translated = dict(zip(texts, self._translator.translate(texts, self._options), strict=True))
        by = self.model if isinstance(self.model, str) else type(self.model).__name__
        for sample in samples:
            best = [
                Caption(text, f"{by} from {caption.source}")
                for caption in sample.captions[: self.most]
                if (text := translated[caption.text].strip())
            ]
            sample.captions = [*best, *sample.captions]
