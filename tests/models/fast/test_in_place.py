from __future__ import annotations

import logging
from typing import Any

import open_clip
import pytest
import torch
import transformers
from open_clip.transformer import QuickGELU
from torch import nn
from transformers.activations import ACT2FN, GELUActivation, QuickGELUActivation

from autotag.models.fast import fast_paths
from autotag.models.fast.in_place import InPlaceGelu, InPlaceQuickGelu, activations_in_place, in_place

KNOWN = {
    "gelu": nn.GELU(),
    "tanh": nn.GELU("tanh"),
    "transformers gelu": ACT2FN["gelu"],
    "transformers tanh": ACT2FN["gelu_pytorch_tanh"],
    "transformers quick_gelu": QuickGELUActivation(),
    "open_clip quick_gelu": QuickGELU(),
}
UNKNOWN = [nn.ReLU(), nn.SiLU(), ACT2FN["gelu_new"], ACT2FN["gelu_python"], ACT2FN["gelu_python_tanh"]]
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}
PIXELS = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_paths, "_said", set())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", KNOWN)
def test_an_activation_in_place_gives_the_same_where_it_read(name: str, dtype: torch.dtype) -> None:
    replacement: Any = in_place(KNOWN[name])
    rows = torch.linspace(-9, 9, 700).view(7, 100).to(dtype)
    expected = KNOWN[name](rows)

    given = replacement(rows)

    assert given.data_ptr() == rows.data_ptr()
    assert given.dtype == dtype
    torch.testing.assert_close(given, expected)


@pytest.mark.parametrize("activation", UNKNOWN, ids=lambda activation: type(activation).__name__)
def test_other_activations_are_left_alone(activation: nn.Module) -> None:
    assert in_place(activation) is None


def _towers() -> dict[str, tuple[Any, int]]:
    """Image towers with seeded weights, and how many networks they have."""
    torch.manual_seed(0)
    open_clip_tower = open_clip.CLIP(
        embed_dim=8,
        vision_cfg={"image_size": 16, "patch_size": 8, "width": 32, "head_width": 16, "layers": 3},
        text_cfg={"context_length": 8, "vocab_size": 16, "width": 8, "heads": 2, "layers": 1},
        quick_gelu=True,
    ).visual
    return {
        "blip": (transformers.BlipVisionModel(transformers.BlipVisionConfig(**VISION)), 2),
        "clip": (transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**VISION)), 2),
        "siglip": (transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**VISION)), 2 + 1),
        "open_clip": (open_clip_tower, 3),
    }


@pytest.mark.parametrize("name", ["blip", "clip", "siglip", "open_clip"])
def test_a_model_with_activations_in_place_gives_the_same(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    tower, networks = _towers()[name]
    tower.eval()
    with torch.inference_mode(), caplog.at_level(logging.WARNING, "autotag"):
        expected = tower(PIXELS)
        assert activations_in_place(tower) == networks
        given = tower(PIXELS)

    replaced = [module for module in tower.modules() if isinstance(module, InPlaceGelu | InPlaceQuickGelu)]
    assert len(replaced) == networks
    assert not caplog.records
    if name != "open_clip":
        expected, given = expected.pooler_output, given.pooler_output
    torch.testing.assert_close(given, expected, atol=1e-6, rtol=1e-5)


class _ReadsTwice(nn.Module):
    """What was activated is wanted once more as it was."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.activation_fn = nn.Linear(4, 8), nn.Linear(8, 4), GELUActivation()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        wide = self.fc1(rows)
        return self.fc2(self.activation_fn(wide)) + wide.mean()


class _Harmless(_ReadsTwice):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.activation_fn(self.fc1(rows)))


class _Views(_ReadsTwice):
    """What is activated has parts that lie in one place."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        wide = self.fc1(rows)[:, :1].expand(-1, 8)
        return self.fc2(self.activation_fn(wide))


def test_each_kind_of_network_is_tried() -> None:
    model = nn.Sequential(_Harmless(), _ReadsTwice())
    rows = torch.randn(2, 4)
    with torch.inference_mode():
        expected = model(rows)
        assert activations_in_place(model) == 1
        torch.testing.assert_close(model(rows), expected)


@pytest.mark.parametrize(
    ("kind", "reason"), [(_ReadsTwice, "gives something else"), (_Views, "GELUActivation in place fails")]
)
def test_a_network_that_reads_what_was_overwritten_is_left_as_it_was(
    kind: type[nn.Module], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = nn.Sequential(kind(), kind())
    rows = torch.randn(2, 4)
    with torch.inference_mode(), caplog.at_level(logging.WARNING, "autotag"):
        expected = model(rows)
        assert activations_in_place(model) == 0
        assert torch.equal(model(rows), expected)

    [record] = caplog.records
    assert "'in_place' is not used" in record.message
    assert reason in record.message
