from __future__ import annotations

import numpy as np
import pytest

from autotag.errors import ConfigError
from autotag.evaluation.ensembles import mean_embedding, shares_of

EAST, NORTH, NOTHING = [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]


def test_weights_are_shares_and_equal_when_not_given():
    assert shares_of((3, 1), 2) == (0.75, 0.25)
    assert shares_of(None, 4) == (0.25,) * 4
    assert shares_of((0, 2), 2) == (0, 1)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((1.0,), r"models: 2, weights: 1 \(1\)"),
        ((0.5, 0.25, 0.25), r"weights: 3 \(0\.5, 0\.25, 0\.25\)"),
        ((), "weights: 0"),
        ((1.0, -0.5), r"at least 0, not 1, -0\.5"),
        ((1.0, float("nan")), "at least 0, not 1, nan"),
        ((1.0, float("inf")), "at least 0, not 1, inf"),
        ((0.0, 0.0), "all weights are 0"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, message):
    with pytest.raises(ConfigError, match=message):
        shares_of(weights, 2)
    with pytest.raises(ConfigError, match=message):
        mean_embedding([np.array([EAST]), np.array([NORTH])], weights)


def test_the_mean_is_weighted_and_of_length_1():
    found = mean_embedding([np.array([EAST, EAST]), np.array([NORTH, EAST])], (3, 4))
    assert found.dtype == np.float32
    assert found == pytest.approx(np.array([[0.6, 0.8], [1, 0]]), abs=1e-7)


def test_a_members_embeddings_count_by_their_weight_and_not_by_their_length():
    short, long = np.array([EAST]) / 100, np.array([NORTH]) * 100
    assert mean_embedding([short, long]) == pytest.approx(np.array([[0.5, 0.5]]) * 2**0.5, abs=1e-7)


def test_a_member_that_says_nothing_does_not_count():
    found = mean_embedding([np.array([NOTHING, NOTHING]), np.array([NORTH, NOTHING])], (9, 1))
    assert found.tolist() == [NORTH, NOTHING]


def test_one_member_is_itself():
    rows = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert mean_embedding([rows]) == pytest.approx(rows, abs=1e-7)


def test_members_of_different_shapes_are_no_ensemble():
    with pytest.raises(ValueError, match="members of one shape"):
        mean_embedding([np.zeros((2, 2)), np.zeros((3, 2))])
    with pytest.raises(ValueError, match="members of one shape"):
        mean_embedding([])
