from __future__ import annotations

import numpy as np
import pytest

from autotag.evaluation.metrics.text_similarity import (
    best_matches,
    matched_similarity,
    nearest_similarity,
    similarity_matrix,
    unit_rows,
)

GENERATED = np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]], dtype=np.float32)
TRUE = np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, -1.0]], dtype=np.float32)


def test_pairs_are_compared_by_direction_alone() -> None:
    assert matched_similarity(GENERATED, TRUE).tolist() == pytest.approx([1, 0, -1])


def test_pairs_are_the_diagonal_of_the_matrix() -> None:
    matrix = similarity_matrix(GENERATED, TRUE)
    assert np.diagonal(matrix) == pytest.approx(matched_similarity(GENERATED, TRUE))
    assert matrix.shape == (3, 3)
    assert best_matches(matrix).tolist() == [0, 0, 0]


def test_the_first_of_equally_good_matches_is_taken() -> None:
    assert best_matches(np.array([[0.5, 0.5], [0.1, 0.9]])).tolist() == [0, 1]


def test_a_text_without_a_vector_is_like_nothing() -> None:
    zero = np.zeros((1, 2))
    assert matched_similarity(zero, np.ones((1, 2))).tolist() == [0]
    assert unit_rows(zero).tolist() == [[0, 0]]


def test_the_nearest_reference_of_its_own_image_counts() -> None:
    references = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    owners = np.array([0, 0, 1])
    assert nearest_similarity(GENERATED[:2], references, owners).tolist() == [1, 0]


def test_pairs_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="equal shapes"):
        matched_similarity(GENERATED, TRUE[:2])
    with pytest.raises(ValueError, match="every text needs a reference"):
        nearest_similarity(GENERATED, TRUE[:1], np.array([0]))
