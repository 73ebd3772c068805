"""Learning-rate schedule, and the optimiser with its weight decay."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn


def one_cycle(step: int, steps: int, *, warmup: float = 0.05) -> float:
    """Return the learning rate at a step, relative to its peak: linear warm-up, then half a cosine to 1 %.

    Args:
        step: from 0.
        steps: length of the cycle.
        warmup: share of the steps for the warm-up, in (0, 1).
    """
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
    """Return AdamW over the trainable parameters; those with fewer than two dimensions do not decay."""
    parameters = [weight for module in modules for weight in module.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in parameters if weight.ndim >= 2], "weight_decay": weight_decay},
        {"params": [weight for weight in parameters if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the same learning rate for all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
