"""Keyphrases by KeyBERT's formula with a sentence-transformers model."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from autotag.errors import ModelLoadError
from autotag.fast_paths import AUTO, FastPaths, say_not_used
from autotag.language import phrases
from autotag.models.fast.keyphrase_vectors import SentenceVectors, unit_rows
from autotag.models.fast.packed_linears import pack_linears
from autotag.models.loading import hub, model_folders
from autotag.models.loading.quiet import no_chatter
from autotag.protocols import KeyphraseOptions

with warnings.catch_warnings():  # keybert hides FutureWarning for the whole process when it is imported
    from keybert import KeyBERT
    from sentence_transformers import SentenceTransformer
    from sklearn.feature_extraction.text import CountVectorizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from autotag.protocols import ModelRequest

Keyphrases = list[tuple[str, float]]

_PROBE = "a small brown dog plays with a red ball in front of an old wooden house near the café"


class KeybertExtractor:
    """Finds the keyphrases of texts: the candidates nearest in meaning to the whole text.

    Always in float32: in less, the order of keyphrases changes in about one text of twenty.

    Args:
        model: the sentence-transformers model that embeds texts and candidates.
        fast_paths: those to use. Packed layers are up to ``load``: a model that is given here keeps its
            weights.
    """

    def __init__(self, model: SentenceTransformer, *, fast_paths: FastPaths = AUTO) -> None:
        self.model = model.float()
        self._keybert = KeyBERT(model)
        self._vectors: SentenceVectors | None = None
        if fast_paths.keyphrase_vectors:
            self._vectors = SentenceVectors(self._rows)
            self._compare_with_keybert()

    @classmethod
    def load(cls, request: ModelRequest) -> KeybertExtractor:
        """The extractor with the sentence-transformers model in a folder or hub repository.

        ``request.dtype`` is not heeded: see the class.

        Raises:
            ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
            ModelLoadError: they are there but damaged or incomplete.
        """
        folder = hub.model_folder(request, "extractor", model_folders.SENTENCE_TRANSFORMERS)
        try:
            with no_chatter():
                model = SentenceTransformer(str(folder), device=request.device, local_files_only=True)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError) as error:
            raise ModelLoadError(
                request.name,
                f"model {request.name!r}: folder {folder} does not load in sentence-transformers: {error}",
            ) from error
        model = model.eval().float()
        if request.fast_paths.packed_linears:
            pack_linears(model)
        return cls(model, fast_paths=request.fast_paths)

    def extract(self, texts: Sequence[str], /, options: KeyphraseOptions) -> list[Keyphrases]:
        """Per text its keyphrases with cosine similarity to the text, best first; [] if there is none.

        Candidates ``"ngrams"`` are KeyBERT's own (Grootendorst 2020), in its order, with its scores to
        0.0001. ``"phrases"`` are those of ``autotag.language.phrases``, ranked by the same formula, with
        maximal marginal relevance (Carbonell and Goldstein 1998) as KeyBERT has it when ``options.diversity``
        is given.

        Raises:
            ConfigError: ``options.ngram_range`` or ``options.stop_words`` is out of range.
        """
        phrases.check_options(options.ngram_range, options.stop_words)
        if not texts:
            return []
        if options.candidates == "ngrams" and self._vectors is None:
            return self._by_keybert(list(texts), options)
        return self._ranked_candidates(texts, options, self._vectors or self._plain_vectors)

    def _by_keybert(self, texts: list[str], options: KeyphraseOptions) -> list[Keyphrases]:
        stop_words = options.stop_words
        found: Any = self._keybert.extract_keywords(
            texts,
            keyphrase_ngram_range=options.ngram_range,
            stop_words=list(stop_words) if isinstance(stop_words, tuple) else stop_words,
            top_n=options.top_n,
            use_mmr=options.diversity is not None,
            diversity=options.diversity or 0.0,
        )
        if len(texts) == 1:  # KeyBERT answers one text with a flat list
            return [found]
        return found or [[] for _ in texts]  # and texts that are all without candidates with a single []

    def _ranked_candidates(
        self,
        texts: Sequence[str],
        options: KeyphraseOptions,
        vectors_of: Callable[[list[str]], dict[str, NDArray[np.float32]]],
    ) -> list[Keyphrases]:
        propose = _ngrams if options.candidates == "ngrams" else _phrases
        candidates = [propose(text, options.ngram_range, options.stop_words) for text in texts]
        wanted = [
            text for whole, parts in zip(texts, candidates, strict=True) if parts for text in (whole, *parts)
        ]
        vectors = vectors_of(wanted) if wanted else {}
        return [
            _ranked(vectors[text], parts, np.stack([vectors[part] for part in parts]), options)
            if parts
            else []
            for text, parts in zip(texts, candidates, strict=True)
        ]

    def _plain_vectors(self, texts: list[str]) -> dict[str, NDArray[np.float32]]:
        """Each text's vector (D,), float32, of length 1; embedded once however often it occurs."""
        unique = list(dict.fromkeys(texts))
        return dict(zip(unique, unit_rows(self._rows(unique)), strict=True))

    def _rows(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed texts: (T, D) float32."""
        return np.asarray(self.model.encode(texts, show_progress_bar=False), dtype=np.float32)

    def _compare_with_keybert(self) -> None:
        """Goes back to KeyBERT itself where it has other keywords for a text of our own."""
        for options in (
            KeyphraseOptions(candidates="ngrams", top_n=8),
            KeyphraseOptions(candidates="ngrams", top_n=4, diversity=0.6),
        ):
            if self._vectors is None:
                return
            [expected] = self._by_keybert([_PROBE], options)
            [found] = self._ranked_candidates([_PROBE], options, self._vectors)
            if [text for text, _ in found] != [text for text, _ in expected]:
                say_not_used("keyphrase_vectors", "this release of KeyBERT chooses other keywords")
                self._vectors = None


@lru_cache(maxsize=20_000)
def _phrases(
    text: str, ngram_range: tuple[int, int], stop_words: str | tuple[str, ...] | None
) -> tuple[str, ...]:
    """The phrases of a text, each once, in the order of the alphabet."""
    found = phrases.phrase_candidates(text, ngram_range=ngram_range, stop_words=stop_words)
    return tuple(sorted(set(found)))


@lru_cache(maxsize=20_000)
def _ngrams(
    text: str, ngram_range: tuple[int, int], stop_words: str | tuple[str, ...] | None
) -> tuple[str, ...]:
    """KeyBERT's candidates: the n-grams of a text, each once, in the order of the alphabet."""
    return tuple(sorted(set(_analyser(ngram_range, stop_words)(text))))


@lru_cache(maxsize=16)
def _analyser(
    ngram_range: tuple[int, int], stop_words: str | tuple[str, ...] | None
) -> Callable[[str], list[str]]:
    vectorizer = CountVectorizer(
        ngram_range=ngram_range, stop_words=list(stop_words) if isinstance(stop_words, tuple) else stop_words
    )
    analyse: Callable[[str], list[str]] = vectorizer.build_analyzer()
    return analyse


def _ranked(
    text: NDArray[np.float32],
    candidates: Sequence[str],
    vectors: NDArray[np.float32],
    options: KeyphraseOptions,
) -> Keyphrases:
    """The best candidates by cosine, best first; as KeyBERT, rounded to 4 digits."""
    similarities = vectors @ text
    if options.diversity is None:
        chosen = [int(index) for index in np.argsort(similarities)[::-1][: options.top_n]]
    else:
        chosen = _diverse(similarities, vectors @ vectors.T, options.top_n, options.diversity)
    keyphrases = [(candidates[index], round(float(similarities[index]), 4)) for index in chosen]
    return sorted(keyphrases, key=lambda keyphrase: keyphrase[1], reverse=True)


def _diverse(
    relevance: NDArray[np.float32], alikeness: NDArray[np.float32], count: int, diversity: float
) -> list[int]:
    """Indices by maximal marginal relevance: near the text, but unlike what is chosen already.

    Args:
        relevance: (N,) cosine of candidate and text.
        alikeness: (N, N) cosines among candidates.
        count: how many to choose.
        diversity: 0 looks at relevance alone, 1 at unlikeness alone.
    """
    chosen = [int(np.argmax(relevance))]
    while len(chosen) < min(count, len(relevance)):
        gain = (1 - diversity) * relevance - diversity * alikeness[:, chosen].max(axis=1)
        gain[chosen] = -np.inf
        chosen.append(int(np.argmax(gain)))
    return chosen
