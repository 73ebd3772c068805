from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from keybert import KeyBERT
from sentence_transformers import SentenceTransformer

from autotag.models.extractors.keybert_extractor import KeybertExtractor
from autotag.training.sentence_encoder import (
    distil_tokens,
    kept_tokens,
    reduced_tokenizer,
    train_sentence_encoder,
    zipf_weights,
)

ANIMALS, VEHICLES = ["dog", "cat", "horse"], ["car", "train", "bus"]


@pytest.fixture(scope="module")
def teacher(minilm: Path) -> SentenceTransformer:
    return SentenceTransformer(str(minilm), device="cpu")


@pytest.fixture(scope="module")
def student(teacher: SentenceTransformer) -> SentenceTransformer:
    return train_sentence_encoder(teacher, dimensions=128, most=4000)


@pytest.mark.slow
def test_words_stay_near_in_meaning(student: SentenceTransformer) -> None:
    vectors = student.encode([*ANIMALS, *VEHICLES], normalize_embeddings=True)
    cosines = vectors @ vectors.T
    off_diagonal = ~np.eye(3, dtype=bool)
    assert cosines[:3, :3][off_diagonal].mean() > cosines[:3, 3:].mean() + 0.1
    assert cosines[3:, 3:][off_diagonal].mean() > cosines[:3, 3:].mean() + 0.1


@pytest.mark.slow
def test_rare_words_weigh_more_in_a_text(student: SentenceTransformer) -> None:
    text, the, dog = student.encode(["the dog", "the", "dog"], normalize_embeddings=True)
    assert text @ dog > text @ the


def test_training_twice_gives_the_same(teacher: SentenceTransformer) -> None:
    one, two = (train_sentence_encoder(teacher, dimensions=64, most=200) for _ in range(2))
    np.testing.assert_array_equal(one.encode(["the dog"]), two.encode(["the dog"]))
    assert one.encode(["the dog"]).shape == (1, 64)


@pytest.mark.slow
def test_keybert_finds_what_a_text_is_about(student: SentenceTransformer) -> None:
    text = "a small dog runs over the green grass"
    plain = KeyBERT(student).extract_keywords(text, stop_words="english", top_n=3)
    assert "dog" in {phrase for phrase, _ in plain}
    assert isinstance(KeybertExtractor(student), KeybertExtractor)


def test_distilled_vectors_keep_the_teachers_distances(teacher: SentenceTransformer) -> None:
    tokens = [*ANIMALS, *VEHICLES, "##ing", "of"]
    whole = distil_tokens(teacher, tokens, dimensions=8)
    originals = teacher.encode([token.removeprefix("##") for token in tokens], convert_to_tensor=True).float()
    torch.testing.assert_close(
        torch.cdist(whole, whole), torch.cdist(originals, originals), atol=1e-4, rtol=0
    )
    fewer = distil_tokens(teacher, tokens, dimensions=2)
    assert fewer.shape == (8, 2)
    assert (whole.var(dim=0).diff() <= 1e-6).all(), "the first directions hold the most"


def test_weights_rise_with_the_rank_up_to_1() -> None:
    weights = zipf_weights(torch.arange(50))
    assert (weights.diff() > 0).all()
    assert weights[0] > 0
    assert weights[-1] == 1


def test_only_english_tokens_are_kept_in_their_order() -> None:
    vocabulary = {"the": 3, "[PAD]": 0, "[unused7]": 1, "は": 2, "##s": 5, "dog": 4, "[UNK]": 6, "[": 7}
    assert kept_tokens(vocabulary) == ["the", "dog", "##s", "["]


def test_the_reduced_tokenizer_splits_as_the_teachers(teacher: SentenceTransformer) -> None:
    tokenizer = teacher.tokenizer.backend_tokenizer
    kept = kept_tokens(tokenizer.get_vocab(with_added_tokens=True))
    reduced = reduced_tokenizer(tokenizer, kept)
    text = "Two snowboarders, jumping!"
    assert reduced.encode(text).tokens == tokenizer.encode(text, add_special_tokens=False).tokens
    assert reduced.encode("日本").tokens == ["[UNK]", "[UNK]"]
    assert reduced.token_to_id(kept[0]) == 1
    long = reduced.encode("dog " * 600)
    assert len(long.ids) == 600
