"""Weights on the line between two models."""

from __future__ import annotations

import pytest
import torch

from autotag.training.averaging import average_states


def states() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    first = {"weight": torch.tensor([0.0, 4.0], dtype=torch.float16), "steps": torch.tensor(3)}
    return first, {"weight": torch.tensor([2.0, 0.0], dtype=torch.float16), "steps": torch.tensor(5)}


@pytest.mark.parametrize(("share", "expected"), [(0, [0.0, 4.0]), (0.25, [0.5, 3.0]), (1, [2.0, 0.0])])
def test_weights_lie_on_the_line_and_keep_their_dtype(share: float, expected: list[float]) -> None:
    found = average_states(*states(), share)
    assert found["weight"].tolist() == expected
    assert found["weight"].dtype == torch.float16
    assert found["steps"] == 5


def test_a_share_outside_0_to_1_is_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to 1, not 1.5"):
        average_states(*states(), 1.5)


def test_states_of_different_models_are_refused() -> None:
    first, second = states()
    with pytest.raises(ValueError, match="different models"):
        average_states(first, {**second, "bias": torch.zeros(2)}, 0.5)
    with pytest.raises(ValueError, match="different models"):
        average_states(first, {**second, "weight": torch.zeros(3)}, 0.5)
