"""Keyphrases by KeyBERT's method, with a sentence-transformers model."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from autotag.config.fast_paths import AUTO, FastPaths, say_not_used
from autotag.errors import ModelLoadError
from autotag.language import phrases
from autotag.language.other_languages import stop_words_of
from autotag.models.fast.keyphrase_vectors import SentenceVectors, unit_rows
from autotag.models.fast.packed_linears import pack_linears
from autotag.models.loading import hub, model_folders
from autotag.models.loading.load_errors import loading
from autotag.protocols import KeyphraseOptions

with warnings.catch_warnings():  # keybert hides FutureWarning for the whole process when it is imported
    from keybert import KeyBERT
    from sentence_transformers import SentenceTransformer
    from sklearn.feature_extraction.text import CountVectorizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from autotag.protocols import ModelRequest

Keyphrases = list[tuple[str, float]]

_PROBE = "a small brown dog plays with a red ball in front of an old wooden house near the café"


class KeybertExtractor:
    """Find the keyphrases of texts: the candidates nearest in meaning to the whole text.

    Always calculates in float32: with fewer bits, the order of keyphrases changes in about one text of
    twenty.

    Args:
        model: the sentence-transformers model that embeds texts and candidates.
        fast_paths: the fast paths to use. Only ``load`` packs layers; a model passed here keeps its weights.
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
        """Load the extractor with the sentence-transformers model in a folder or hub repository.

        Ignores ``request.dtype``: the model calculates in float32.

        Raises:
            ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
            ModelLoadError: the weights are damaged or incomplete, or of a model that looks at images.
        """
        folder = hub.model_folder(request, "extractor", model_folders.SENTENCE_TRANSFORMERS)
        _check_texts_only(request, folder)
        with loading(request.name, folder, "in sentence-transformers"):
            model = SentenceTransformer(str(folder), device=request.device, local_files_only=True)
        model = model.eval().float()
        if request.fast_paths.packed_linears:
            pack_linears(model)
        return cls(model, fast_paths=request.fast_paths)

    def extract(self, texts: Sequence[str], /, options: KeyphraseOptions) -> list[Keyphrases]:
        """Return the keyphrases of each text with their cosine similarity to it, best first; [] if none.

        With candidates ``"ngrams"``, candidates, order and scores (to 0.0001) are those of KeyBERT
        (Grootendorst 2020). ``"phrases"`` takes the candidates of ``autotag.language.phrases`` and ranks them
        by the same formula. ``options.diversity`` switches on maximal marginal relevance (Carbonell and
        Goldstein 1998), as in KeyBERT.

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
            stop_words=_stop_list(stop_words),
            top_n=options.top_n,
            use_mmr=options.diversity is not None,
            diversity=options.diversity or 0.0,
        )
        if len(texts) == 1:  # KeyBERT returns a flat list for one text
            return [found]
        return found or [[] for _ in texts]  # KeyBERT returns a single [] if no text has candidates

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
        """Return each text's (D,) float32 vector, of length 1; a repeated text is embedded once."""
        unique = list(dict.fromkeys(texts))
        return dict(zip(unique, unit_rows(self._rows(unique)), strict=True))

    def _rows(self, texts: list[str]) -> NDArray[np.float32]:
        """Return the (T, D) float32 vectors of texts."""
        return np.asarray(self.model.encode(texts, show_progress_bar=False), dtype=np.float32)

    def _compare_with_keybert(self) -> None:
        """Switch the fast path off if KeyBERT itself finds other keywords in a probe text."""
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


def _check_texts_only(request: ModelRequest, folder: Path) -> None:
    """Refuse an encoder or captioner; sentence-transformers would load its text part untrained or in part."""
    if (folder / "modules.json").is_file():
        return
    config = model_folders.read_json(request.name, folder / "config.json")
    if "vision_config" in config or config.get("model_type") == "vision-encoder-decoder":
        raise ModelLoadError(
            request.name,
            f"model {request.name!r}: folder {folder} holds a model that looks at images "
            f"(model_type {config.get('model_type')!r}); an extractor needs a sentence-transformers model, "
            "such as 'minilm-mini'",
        )


@lru_cache(maxsize=20_000)
def _phrases(
    text: str, ngram_range: tuple[int, int], stop_words: str | tuple[str, ...] | None
) -> tuple[str, ...]:
    """Return the phrases of a text, each once, in alphabetical order."""
    found = phrases.phrase_candidates(text, ngram_range=ngram_range, stop_words=stop_words)
    return tuple(sorted(set(found)))


@lru_cache(maxsize=20_000)
def _ngrams(
    text: str, ngram_range: tuple[int, int], stop_words: str | tuple[str, ...] | None
) -> tuple[str, ...]:
    """Return KeyBERT's candidates: the n-grams of a text, each once, in alphabetical order."""
    return tuple(sorted(set(_analyser(ngram_range, stop_words)(text))))


@lru_cache(maxsize=16)
def _analyser(
    ngram_range: tuple[int, int], stop_words: str | tuple[str, ...] | None
) -> Callable[[str], list[str]]:
    vectorizer = CountVectorizer(ngram_range=ngram_range, stop_words=_stop_list(stop_words))
    analyse: Callable[[str], list[str]] = vectorizer.build_analyzer()
    return analyse


def _stop_list(stop_words: str | Sequence[str] | None) -> str | list[str] | None:
    """Return stop words as KeyBERT and scikit-learn take them; those of a language as they split texts."""
    if isinstance(stop_words, str) and stop_words != "english":
        split = CountVectorizer().build_tokenizer()
        return sorted({word for phrase in stop_words_of(stop_words) for word in split(phrase)})
    return stop_words if stop_words is None or isinstance(stop_words, str) else list(stop_words)


def _ranked(
    text: NDArray[np.float32],
    candidates: Sequence[str],
    vectors: NDArray[np.float32],
    options: KeyphraseOptions,
) -> Keyphrases:
    """Return the best candidates by cosine, best first, rounded to 4 digits as in KeyBERT."""
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
    """Return indices by maximal marginal relevance: near the text, but unlike those already chosen.

    Args:
        relevance: (N,) cosine of candidate and text.
        alikeness: (N, N) cosines among candidates.
        count: how many to choose.
        diversity: between 0 (relevance only) and 1 (difference from chosen candidates only).
    """
    chosen = [int(np.argmax(relevance))]
    while len(chosen) < min(count, len(relevance)):
        gain = (1 - diversity) * relevance - diversity * alikeness[:, chosen].max(axis=1)
        gain[chosen] = -np.inf
        chosen.append(int(np.argmax(gain)))
    return chosen
