from __future__ import annotations

import pytest
import torch
from torch import nn

from autotag.training.schedule import adamw, one_cycle, set_learning_rate


def test_the_rate_rises_in_a_line_to_its_peak_and_falls_to_a_hundredth() -> None:
    shares = [one_cycle(step, 1000, warmup=0.1) for step in range(1001)]
    assert shares[0] == 0.01
    assert shares[50] == pytest.approx(0.5)
    assert shares[100] == pytest.approx(1.0)
    assert shares[550] == pytest.approx(0.505)
    assert shares[1000] == pytest.approx(0.01)
    assert shares[1:101] == sorted(shares[1:101])
    assert shares[100:] == sorted(shares[100:], reverse=True)


def test_the_rate_stays_low_after_the_last_step() -> None:
    assert one_cycle(1500, 1000) == pytest.approx(0.01)


def test_only_matrices_decay_and_frozen_parameters_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    model[2].requires_grad_(False)
    optimizer = adamw([model], learning_rate=0.5, weight_decay=0.1)
    decaying, others = optimizer.param_groups
    assert [weight.shape for weight in decaying["params"]] == [(4, 3)]
    assert [weight.shape for weight in others["params"]] == [(4,), (4,), (4,)]
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.1, 0.0)


def test_decay_shrinks_matrices_and_leaves_biases() -> None:
    layer = nn.Linear(2, 2)
    before, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    optimizer = adamw([layer], learning_rate=0.5, weight_decay=0.1)
    for weight in layer.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    torch.testing.assert_close(layer.weight, before * (1 - 0.5 * 0.1))
    torch.testing.assert_close(layer.bias, bias)


def test_one_learning_rate_is_set_for_all() -> None:
    optimizer = adamw([nn.Linear(2, 2)], learning_rate=0.0, weight_decay=0.1)
    set_learning_rate(optimizer, 0.25)
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}
