from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from tokenizers.processors import TemplateProcessing

from autotag.models.fast import fast_paths, keyphrase_vectors
from autotag.models.fast.keyphrase_vectors import SentenceVectors, sentence_vectors

TEXTS = ["a dog", "", "a dog in the snow", "café", "the snow", "one two three four five", "a cat"]


@pytest.fixture(scope="module")
def model(minilm: Path) -> SentenceTransformer:
    return SentenceTransformer(str(minilm), device="cpu").eval()


def _counting(capacity: int) -> tuple[SentenceVectors, list[str]]:
    """Vectors that say what was calculated, in order."""
    calculated: list[str] = []

    def encode(texts: list[str]) -> Any:
        calculated.extend(texts)
        return np.array([[len(text), 1] for text in texts], dtype=np.float32)

    return SentenceVectors(encode, capacity=capacity), calculated


def test_vectors_are_those_of_encode_whatever_the_batch(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = model.encode(TEXTS, normalize_embeddings=True)

    for tokens in (512, 8):
        monkeypatch.setattr(keyphrase_vectors, "_TOKENS_ON_CPU", tokens)
        vectors = sentence_vectors(model)
        assert vectors
        found = vectors(TEXTS)
        np.testing.assert_allclose([found[text] for text in TEXTS], expected, atol=1e-6)


def test_a_tokenizer_without_marks_falls_back_to_encode(
    minilm: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fast_paths, "_said", set())
    model = SentenceTransformer(str(minilm), device="cpu").eval()
    model.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B")

    assert sentence_vectors(model) is None  # the text "" has no token at all
    assert "'keyphrase_vectors' is not used" in caplog.text


def test_a_text_is_calculated_once_while_it_is_kept() -> None:
    vectors, calculated = _counting(3)

    vectors(["a", "b", "a"])
    vectors(["b", "c"])
    assert calculated == ["a", "b", "c"]
    vectors(["a", "d"])  # b was used before a and c
    vectors(["a", "d", "c"])
    assert calculated == ["a", "b", "c", "d"]
    vectors(["b"])
    assert calculated == ["a", "b", "c", "d", "b"]


def test_a_batch_larger_than_what_is_kept_is_answered_whole() -> None:
    vectors, _ = _counting(2)

    assert vectors(["a", "b", "c", "d"]).keys() == {"a", "b", "c", "d"}


def test_threads_get_what_one_thread_gets() -> None:
    vectors, calculated = _counting(5)
    texts = [f"{'x' * number}" for number in range(40)]
    wrong: list[str] = []

    def ask(first: int) -> None:
        for _ in range(50):
            found = vectors(texts[first : first + 8])
            wrong.extend(text for text, row in found.items() if round(float(row[0] / row[1])) != len(text))

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(0, 32, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calculated
    assert wrong == []


@pytest.mark.parametrize("spoilt", ["values", "call"])
def test_a_model_that_calculates_otherwise_is_noticed(
    model: SentenceTransformer,
    spoilt: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(fast_paths, "_said", set())
    if spoilt == "values":
        monkeypatch.setattr(model, "prompts", {"say": "query: "})
        monkeypatch.setattr(model, "default_prompt_name", "say")
    else:
        monkeypatch.setattr(model, "preprocess" if hasattr(model, "preprocess") else "tokenize", lambda _: {})
        monkeypatch.setattr(model, "encode", lambda texts, **_: np.ones((len(texts), 384)))

    assert sentence_vectors(model) is None
    assert "'keyphrase_vectors' is not used" in caplog.text
