from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision

from autotag.images.boxes import best_of_overlapping, inside


def test_boxes_are_cut_at_the_edges_and_what_has_no_area_goes() -> None:
    boxes = np.array(
        [
            [-5, -5, 10, 10],
            [3, 3, 3, 9],  # no width
            [9, 9, 2, 2],  # the wrong way round
            [50, 0, 60, 10],  # outside
            [0, np.nan, 5, 5],
            [2, 2, np.inf, 8],
        ]
    )
    cut, kept = inside(boxes, 20, 15)
    assert kept.tolist() == [0, 5]
    assert cut.tolist() == [[0, 0, 10, 10], [2, 2, 20, 8]]
    assert inside(np.zeros((0, 4)), 20, 15)[0].shape == (0, 4)


@pytest.mark.parametrize("spread", [20, 200, 2000, 20_000])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5, 0.9])
def test_suppression_is_that_of_torchvision(spread: int, overlap: float) -> None:
    random = np.random.default_rng(spread)
    corner, size = random.uniform(0, spread, (400, 2)), random.uniform(1, 60, (400, 2))
    boxes = np.concatenate([corner, corner + size], axis=1)
    scores = random.permutation(400) / 400
    expected = torchvision.ops.nms(torch.tensor(boxes), torch.tensor(scores), overlap)
    assert best_of_overlapping(boxes, scores, overlap).tolist() == expected.tolist()
    groups = random.integers(0, 5, 400)
    expected = torchvision.ops.batched_nms(
        torch.tensor(boxes), torch.tensor(scores), torch.tensor(groups), overlap
    )
    assert best_of_overlapping(boxes, scores, overlap, groups).tolist() == expected.tolist()


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("spread", [60, 600, 6000])
def test_whole_pixels_where_overlaps_are_just_at_the_limit(spread: int, overlap: float) -> None:
    random = np.random.default_rng(spread)
    corner, size = random.integers(0, spread, (3000, 2)), random.integers(1, 40, (3000, 2))
    boxes = np.concatenate([corner, corner + size], axis=1).astype(float)
    scores = random.permutation(3000) / 3000
    expected = torchvision.ops.nms(torch.tensor(boxes), torch.tensor(scores), overlap)
    assert best_of_overlapping(boxes, scores, overlap).tolist() == expected.tolist()


def test_equal_scores_keep_their_order_and_nothing_gives_nothing() -> None:
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 4], [10, 10, 12, 12]])
    assert best_of_overlapping(boxes, np.array([0.5, 0.5, 0.5]), 0.5).tolist() == [0, 2]
    assert best_of_overlapping(np.zeros((0, 4)), np.zeros(0), 0.5, np.zeros(0, int)).tolist() == []
