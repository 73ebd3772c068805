from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from autotag.models.ragged_bert import ragged_bert

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = [
    "a dog",
    "",
    "two men in red jackets climb a steep and snowy mountain",
    "dogs",
    "a dog",
    "word " * 700,
]


@pytest.fixture(scope="module")
def model(minilm: Path) -> SentenceTransformer:
    return SentenceTransformer(str(minilm), device="cpu").eval()


def test_texts_of_all_lengths_get_the_models_own_vectors(model: SentenceTransformer) -> None:
    ragged = ragged_bert(model)
    assert ragged is not None
    np.testing.assert_allclose(
        ragged(TEXTS) / np.linalg.norm(ragged(TEXTS), axis=1, keepdims=True), model.encode(TEXTS), atol=1e-6
    )


def test_more_texts_than_are_read_at_once_come_out_in_their_order(model: SentenceTransformer) -> None:
    ragged: Any = ragged_bert(model)
    texts = [f"{number} dogs" + " and a cat" * (number % 7) for number in range(300)]
    np.testing.assert_allclose(ragged(texts)[::37], ragged(texts[::37]), atol=1e-5)


def test_attention_of_a_wide_range_is_not_lost(model: SentenceTransformer) -> None:
    query = model[0].auto_model.encoder.layer[0].attention.self.query
    before = query.weight.data.clone()
    try:
        query.weight.data *= 1000
        ragged: Any = ragged_bert(model)
        vectors = ragged(TEXTS)
        expected = model.encode(TEXTS, normalize_embeddings=False)
    finally:
        query.weight.data = before
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), expected, atol=1e-4)


def test_the_models_own_tokenizer_is_left_alone(model: SentenceTransformer) -> None:
    padded = model.preprocess(["a dog", "two dogs and a cat"])["input_ids"]
    ragged: Any = ragged_bert(model)
    ragged(TEXTS)
    assert torch.equal(model.preprocess(["a dog", "two dogs and a cat"])["input_ids"], padded)


def test_other_models_are_not_taken_for_one(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model[1], "pooling_mode", "cls")
    assert ragged_bert(model) is None
