"""How the learning rate goes, and which parameters decay."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn


def one_cycle(step: int, steps: int, *, warmup: float = 0.05) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then half a cosine down to 1 %."""
    done = step / max(1, steps)
    if done < warmup:
        return max(0.01, done / warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / (1 - warmup))))


def adamw(
    modules: Iterable[nn.Module],
    *,
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.98),
) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; those of less than two dimensions (biases, norms) do not decay."""
    parameters = [weight for module in modules for weight in module.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in parameters if weight.ndim >= 2], "weight_decay": weight_decay},
        {"params": [weight for weight in parameters if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Sets one learning rate for every group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
