"""Keyphrases by KeyBERT's formula with a sentence-transformers model."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from autotag.errors import ModelLoadError
from autotag.models import folders, hub
from autotag.models.quiet import no_chatter

with warnings.catch_warnings():  # keybert hides FutureWarning for the whole process when it is imported
    from keybert import KeyBERT
    from sentence_transformers import SentenceTransformer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from autotag.protocols import KeyphraseOptions, ModelRequest

Keyphrases = list[tuple[str, float]]


class KeybertExtractor:
    """Finds the keyphrases of texts: the candidates nearest in meaning to the whole text.

    Always in float32: in less, the order of keyphrases changes in about one text of twenty.

    Args:
        model: the sentence-transformers model that embeds texts and candidates.
    """

    def __init__(self, model: SentenceTransformer) -> None:
        self.model = model.float()
        self._keybert = KeyBERT(model)

    @classmethod
    def load(cls, request: ModelRequest) -> KeybertExtractor:
        """The extractor with the sentence-transformers model in a folder or hub repository.

        ``request.dtype`` is not heeded: see the class.

        Raises:
            ModelUnavailableError: the weights are not to be had.
            ModelLoadError: they are there but damaged or incomplete.
        """
        folder = hub.model_folder(request, "extractor", folders.SENTENCE_TRANSFORMERS)
        try:
            with no_chatter():
                model = SentenceTransformer(str(folder), device=request.device, local_files_only=True)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError) as error:
            raise ModelLoadError(
                request.name,
                f"model {request.name!r}: folder {folder} does not load in sentence-transformers: {error}",
            ) from error
        return cls(model.eval())

    def extract(self, texts: Sequence[str], /, options: KeyphraseOptions) -> list[Keyphrases]:
        """Per text its keyphrases with cosine similarity to the text, best first; [] if there is none.

        Candidates ``"ngrams"`` are KeyBERT's own (Grootendorst 2020) to the last digit. ``"phrases"`` are
        those of ``autotag.phrases``, ranked by the same formula, with maximal marginal relevance
        (Carbonell and Goldstein 1998) as KeyBERT has it when ``options.diversity`` is given.
        """
        if not texts:
            return []
        if options.candidates == "ngrams":
            return self._by_keybert(list(texts), options)
        return self._by_phrases(list(texts), options)

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

    def _by_phrases(self, texts: list[str], options: KeyphraseOptions) -> list[Keyphrases]:
        from autotag.phrases import phrase_candidates

        candidates = [
            sorted(
                set(phrase_candidates(text, ngram_range=options.ngram_range, stop_words=options.stop_words))
            )
            for text in texts
        ]
        vectors = self._vectors([*texts, *(phrase for phrases in candidates for phrase in phrases)])
        return [
            _ranked(vectors[text], phrases, np.stack([vectors[phrase] for phrase in phrases]), options)
            if phrases
            else []
            for text, phrases in zip(texts, candidates, strict=True)
        ]

    def _vectors(self, texts: list[str]) -> dict[str, NDArray[np.float32]]:
        """Each text's vector (D,), float32, of length 1; embedded once however often it occurs."""
        unique = list(dict.fromkeys(texts))
        rows = self.model.encode(unique, show_progress_bar=False, normalize_embeddings=True)
        return dict(zip(unique, np.asarray(rows, dtype=np.float32), strict=True))


def _ranked(
    text: NDArray[np.float32],
    phrases: list[str],
    vectors: NDArray[np.float32],
    options: KeyphraseOptions,
) -> Keyphrases:
    """The best phrases by cosine, best first; as KeyBERT, rounded to 4 digits."""
    similarities = vectors @ text
    if options.diversity is None:
        chosen = [int(index) for index in np.argsort(similarities)[::-1][: options.top_n]]
    else:
        chosen = _diverse(similarities, vectors @ vectors.T, options.top_n, options.diversity)
    keyphrases = [(phrases[index], round(float(similarities[index]), 4)) for index in chosen]
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
