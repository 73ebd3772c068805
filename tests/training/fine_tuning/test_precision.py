"""Every family trains in bfloat16; its weights and gradients stay in float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from autotag.evaluation.datasets import Example
from autotag.models.names import parse_name
from autotag.training.fine_tuning.captioner import Lora, LoraCaptioner
from autotag.training.fine_tuning.encoder import ContrastiveEncoder
from autotag.training.fine_tuning.photographs import Batch

pytestmark = pytest.mark.slow

TEXTS = ["a red bus", "the green grass"]


@pytest.mark.parametrize(
    "name",
    [
        "blip",
        "git",
        "blip2_opt",
        "blip2_t5",
        "florence2",
        "clip",
        "siglip",
        "open_clip_folder",
        "open_clip_folder/timm",
    ],
)
def test_a_family_trains_in_bfloat16(name: str, tiny_folder: Callable[[str], Path]) -> None:
    kind: Any = "encoder" if "clip" in name or name == "siglip" else "captioner"
    address = parse_name(str(tiny_folder(name)), kind)
    request = address.request("cpu", "float32")
    learner: Any = (
        LoraCaptioner(request, Lora(dropout=0.0), seed=0)
        if kind == "captioner"
        else ContrastiveEncoder(address.factory, request)
    )
    learner.model.eval()
    images = [Image.new("RGB", (40, 40), colour) for colour in ("red", "green")]
    batch = Batch(learner.prepare(images), TEXTS, [Example(text, b"", (text,)) for text in TEXTS])
    exact = learner.loss(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = learner.loss(batch)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=0.1)
    assert loss.item() != exact.item()
    torch.autograd.backward(loss)
    gradients = [one.grad for one in learner.model.parameters() if one.grad is not None]
    assert gradients
    assert all(one.dtype == torch.float32 and one.isfinite().all() for one in gradients)
