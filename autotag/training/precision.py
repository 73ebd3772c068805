"""Precisions: of training, bfloat16 where the processor calculates in it; of saved weights, float16."""

from __future__ import annotations

import torch
from torch import Tensor

from autotag.models.loading.processor import calculates_in


def mixed_precision() -> torch.autocast:
    """Return a context for forward passes on the CPU; an emulated bfloat16 would take many times as long."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=calculates_in("bfloat16"))


def in_half_precision(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights as float16, contiguous; whole numbers stay as they are."""
    return {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in weights.items()
    }
