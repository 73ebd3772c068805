from __future__ import annotations

import numpy as np
import pytest

from autotag.evaluation.metrics.retrieval import found_at, partner_ranks

SIMILARITIES = np.array([[0.9, 0.1, 0.2], [0.5, 0.4, 0.1], [0.3, 0.2, 0.1]])


def test_ranks_count_from_the_most_similar() -> None:
    assert partner_ranks(SIMILARITIES).tolist() == [1, 2, 3]


def test_a_few_queries_at_a_time_rank_as_all_at_once() -> None:
    assert partner_ranks(SIMILARITIES[1:], first=1).tolist() == [2, 3]
    with pytest.raises(ValueError, match="every query needs a partner"):
        partner_ranks(SIMILARITIES[1:], first=2)


def test_recall_at_k_grows_with_k() -> None:
    assert [found_at(partner_ranks(SIMILARITIES), k).mean() for k in (1, 2, 3)] == pytest.approx(
        [1 / 3, 2 / 3, 1]
    )


def test_a_model_that_finds_all_alike_finds_nothing() -> None:
    assert found_at(partner_ranks(np.ones((4, 4))), 3).sum() == 0


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="every query needs a partner"):
        partner_ranks(np.ones((3, 2)))
    with pytest.raises(ValueError, match="the least is 1"):
        found_at(partner_ranks(SIMILARITIES), 0)
