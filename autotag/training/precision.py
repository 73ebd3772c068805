"""The precision of training: bfloat16 where the processor calculates in it, float32 elsewhere."""

from __future__ import annotations

import torch

from autotag.models.loading.processor import calculates_in


def mixed_precision() -> torch.autocast:
    """Return a context for forward passes on the CPU; an emulated bfloat16 would take many times as long."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=calculates_in("bfloat16"))
