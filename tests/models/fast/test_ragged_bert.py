from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from autotag.models.extractors.keybert_extractor import KeybertExtractor
from autotag.models.fast import packed_linears
from autotag.models.fast import ragged_bert as ragged_bert_module
from autotag.models.fast.keyphrase_vectors import sentence_vectors
from autotag.models.fast.packed_linears import PackedLinear, pack_linears
from autotag.models.fast.padded_texts import PaddedTexts
from autotag.models.fast.ragged_bert import RaggedBert, ragged_bert
from autotag.protocols import KeyphraseOptions

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

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


def test_a_gpu_gets_the_same_vectors_from_padded_blocks(
    minilm: Path, pretended_gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"{number} dogs" + " and a cat" * (number % 7) for number in range(40)] + TEXTS
    expected = ragged_bert(SentenceTransformer(str(minilm), device="cpu").eval())(texts)  # type: ignore[misc]
    with pretended_gpu.pretended(), torch.no_grad():
        there = SentenceTransformer(str(minilm), device="cpu").eval().to("cuda")
        assert isinstance(sentence_vectors(there)._encode, RaggedBert)  # type: ignore[union-attr]
        ragged: Any = ragged_bert(there)
        np.testing.assert_allclose(ragged(texts), expected, atol=1e-5)
        monkeypatch.setattr(ragged_bert_module, "_TOKENS_ON_GPU", 50)
        np.testing.assert_allclose(ragged(texts), expected, atol=1e-5)


@pytest.mark.parametrize("lengths", [[1], [8, 9], [3, 40, 5, 8, 16, 17, 3, 1, 128]], ids=str)
def test_padded_texts_attend_as_each_text_alone(lengths: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(sum(lengths), 3, 2, 4, generator=generator)
    padded = PaddedTexts(lengths, qkv)

    seen, means = padded.attend(qkv), padded.means(qkv.flatten(1))

    alone = []
    for text in qkv.split(lengths):
        query, key, value = text.permute(1, 2, 0, 3)
        weights = (query @ key.mT).softmax(-1)
        alone.append((weights @ value).transpose(0, 1).flatten(1))
    torch.testing.assert_close(seen, torch.cat(alone))
    torch.testing.assert_close(means, torch.stack([text.flatten(1).mean(0) for text in qkv.split(lengths)]))


def test_chunks_are_filled_up_and_hold_each_text_once() -> None:
    chance = random.Random(0)  # noqa: S311 - no secret
    lengths = [chance.choice([3, 4, 4, 5, 9, 17, 31]) for _ in range(2000)]
    chunks = list(ragged_bert_module._chunks(lengths))

    assert sorted(text for chunk in chunks for text in chunk) == list(range(2000))
    most, sizes = (
        ragged_bert_module._TOKENS_AT_ONCE,
        [sum(lengths[text] for text in chunk) for chunk in chunks],
    )
    assert all(most - 5 <= size <= most for size in sizes[:-1])
    assert all(lengths[one] <= lengths[other] for chunk in chunks for one, other in itertools.pairwise(chunk))
    assert list(ragged_bert_module._chunks([5000, 3])) == [[0], [1]]


def test_a_token_at_its_place_is_calculated_once_in_the_first_layer(
    model: SentenceTransformer,
) -> None:
    ragged: Any = ragged_bert(model)
    rows = []
    ragged.layers[0].qkv.register_forward_hook(lambda layer, given, made: rows.append(len(made)))
    ragged([f"dogs {number % 10}" for number in range(1000)] + ["a cat"] * 1000)

    assert rows == [ragged_bert_module._ROWS]


def test_many_texts_are_held_in_parts(model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    ragged: Any = ragged_bert(model)
    texts = [f"{number} dogs" + " and a cat" * (number % 7) for number in range(200)]
    expected = ragged(texts)
    monkeypatch.setattr(ragged_bert_module, "_TOKENS_OF_FIRST_STEP", 30)

    np.testing.assert_allclose(ragged(texts), expected, atol=1e-5)
    parts = list(ragged_bert_module._parts([[1] * 20, [1] * 10, [1] * 50, [1], [1]], 30))
    assert [len(part) for part in parts] == [2, 1, 2]


def test_a_model_that_was_packed_is_read_by_length(minilm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_linears, "_best_layout", lambda *shape: PackedLinear)
    packed = SentenceTransformer(str(minilm), device="cpu").eval()
    pack_linears(packed)

    assert ragged_bert(packed) is None
    found = KeybertExtractor(packed).extract(["two dogs play in the snow"], KeyphraseOptions())
    plain = KeybertExtractor(SentenceTransformer(str(minilm), device="cpu"))
    assert found == plain.extract(["two dogs play in the snow"], KeyphraseOptions())


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
