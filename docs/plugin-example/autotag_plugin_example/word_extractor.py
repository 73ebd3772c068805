"""A keyphrase extractor."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from autotag.errors import ConfigError
from autotag.language.english import function_words
from autotag.language.phrases import words
from autotag.protocols import KeyphraseOptions, ModelRequest


class WordExtractor:
    """Takes the words of a text that are long or frequent.

    The score is the cosine of the word and the text, both as bags of words in which a word weighs its
    number of letters. Only single words are proposed.
    """

    @classmethod
    def load(cls, request: ModelRequest) -> WordExtractor:
        """What the entry point names.

        Raises:
            ConfigError: a location was given, and there is nothing to load.
        """
        if request.location:
            raise ConfigError(f"{request.name!r}: this extractor has no weights; write 'long-words'")
        return cls()

    def extract(self, texts: Sequence[str], /, options: KeyphraseOptions) -> list[list[tuple[str, float]]]:
        """Per text its words with their scores, best first.

        Raises:
            ConfigError: single words are not asked for, or ``diversity`` is.
        """
        if options.ngram_range[0] > 1 or options.diversity is not None:
            raise ConfigError("long-words proposes single words, and without diversity")
        return [_keyphrases(text, options) for text in texts]


def _keyphrases(text: str, options: KeyphraseOptions) -> list[tuple[str, float]]:
    stop_words = function_words() if options.stop_words == "english" else (options.stop_words or ())
    counts = Counter(word for word in words(text) if word not in stop_words)
    weights = {word: count * len(word) for word, count in counts.items()}
    length = math.hypot(*weights.values())
    best_first = sorted(weights, key=lambda word: (-weights[word], word))[: options.top_n]
    return [(word, weights[word] / length) for word in best_first]
