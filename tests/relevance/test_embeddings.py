from __future__ import annotations

import numpy as np

from autotag.relevance.embeddings import TextVectors, image_vectors
from autotag.testing import FakeEncoder, make_samples


def test_each_sample_is_embedded_once_and_keeps_its_vector() -> None:
    encoder = FakeEncoder()
    samples = make_samples()
    first = image_vectors(samples[:2], encoder)
    both = image_vectors(samples, encoder)
    assert encoder.image_batches == [2, 1]
    assert both.shape == (3, 65)
    assert both.dtype == np.float32
    assert np.array_equal(both[:2], first)
    assert all(
        np.array_equal(sample.embeddings["fake"], row) for sample, row in zip(samples, both, strict=True)
    )


def test_vectors_of_two_encoders_are_not_mixed() -> None:
    samples = make_samples()
    image_vectors(samples, FakeEncoder(id="one"))
    other = FakeEncoder(id="two")
    image_vectors(samples, other)
    assert other.image_batches == [3]
    assert set(samples[0].embeddings) == {"one", "two"}


def test_each_text_is_embedded_once() -> None:
    encoder = FakeEncoder()
    vectors = TextVectors(encoder)
    rows = vectors(["dog", "cat", "dog"])
    assert encoder.text_batches == [2]
    assert np.array_equal(rows[0], rows[2])
    assert np.array_equal(rows[:2], encoder.embed_texts(["dog", "cat"]))
    encoder.text_batches.clear()
    vectors(["cat", "dog"])
    assert encoder.text_batches == []


def test_no_texts_give_no_rows() -> None:
    assert TextVectors(FakeEncoder())([]).shape == (0, 0)


def test_the_least_recently_used_texts_are_forgotten_beyond_the_capacity() -> None:
    encoder = FakeEncoder()
    vectors = TextVectors(encoder, capacity=2)
    vectors(["a", "b"])
    vectors(["a"])
    vectors(["c"])
    encoder.text_batches.clear()
    vectors(["a", "c"])
    assert encoder.text_batches == []
    vectors(["b"])
    assert encoder.text_batches == [1]


def test_more_texts_than_the_capacity_are_answered_at_once() -> None:
    encoder = FakeEncoder()
    texts = [f"tag {number}" for number in range(10)]
    assert np.array_equal(TextVectors(encoder, capacity=3)(texts), encoder.embed_texts(texts))
