"""What a GPU needs and a CPU forgives: every tensor of a loss on the device, on a GPU that is pretended."""

from __future__ import annotations

import runpy
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


@pytest.fixture(scope="module")
def pretended() -> Any:
    return runpy.run_path(str(Path(__file__).parents[2] / "models" / "pretended_gpu.py"))["pretended"]


def loss_on(device: str, kind: str, folder: Path) -> float:
    address = parse_name(str(folder), "captioner" if kind == "captioner" else "encoder")
    request = address.request(device, "float32")
    learner: Any = (
        LoraCaptioner(request, Lora(), seed=0)
        if kind == "captioner"
        else ContrastiveEncoder(address.factory, request)
    )
    learner.model.eval()
    images = [Image.new("RGB", (40, 40), colour) for colour in ("red", "green")]
    batch = Batch(learner.prepare(images), TEXTS, [Example(text, b"", (text,)) for text in TEXTS])
    with torch.no_grad():
        loss: float = learner.loss(batch).item()
    return loss


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("captioner", name) for name in ("blip", "git", "blip2_opt", "blip2_t5", "florence2")),
        *(("encoder", name) for name in ("clip", "siglip", "open_clip_folder")),
    ],
)
def test_the_loss_on_a_gpu_is_that_on_a_cpu(
    kind: str, name: str, tiny_folder: Callable[[str], Path], pretended: Any
) -> None:
    folder = tiny_folder(name)
    expected = loss_on("cpu", kind, folder)
    with pretended():
        assert loss_on("cuda", kind, folder) == pytest.approx(expected, rel=1e-4)
