from __future__ import annotations

import numpy as np
import pytest

from autotag.errors import ConfigError, ModelUnavailableError
from autotag.evaluation.metrics.text_similarity import matched_similarity
from autotag.evaluation.sentence_encoder import load_sentence_encoder


def test_similar_texts_are_near(minilm) -> None:
    encoder = load_sentence_encoder(str(minilm), device="cpu")
    dog, dogs, tax, nothing = encoder.vectors(["a dog runs", "dogs running", "tax law", " \n"])
    assert dog.shape == (384,)
    assert np.linalg.norm(dog) == pytest.approx(1, abs=1e-5)
    assert dog @ dogs > 0.6 > 0.3 > dog @ tax
    assert not nothing.any()


def test_the_bundled_one_works_offline_and_in_any_language() -> None:
    vectors = load_sentence_encoder("minilm-mini", device="cpu").vectors(
        ["a dog", "ein Mädchen läuft", "一只狗"]
    )
    assert np.isfinite(vectors).all()
    lengths = matched_similarity(vectors, vectors)
    assert lengths == pytest.approx(
        [1, 1, 0], abs=1e-5
    )  # it knows no Chinese word: like nothing, not like all


def test_a_text_has_the_same_vector_alone_and_among_others(minilm) -> None:
    encoder = load_sentence_encoder(str(minilm), device="cpu")
    together = encoder.vectors(["a dog", "a much longer text about two dogs in a green park at night"])
    assert encoder.vectors(["a dog"])[0] == pytest.approx(together[0], abs=1e-5)


def test_weights_that_are_not_here_name_the_way_out(local_hub) -> None:
    local_hub.status = 503
    with pytest.raises(ModelUnavailableError, match="--similarity-model minilm-mini"):
        load_sentence_encoder()


def test_a_model_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="'clip-mini' is an encoder"):
        load_sentence_encoder("clip-mini")
