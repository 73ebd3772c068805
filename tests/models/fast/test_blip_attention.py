from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from transformers.models.blip import modeling_blip

from autotag.config import fast_paths
from autotag.models.fast import blip_attention, packed_attention
from autotag.models.fast.blip_attention import FastBlipAttention, fuse_attention
from autotag.models.fast.packed_attention import fused, head_by_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _tower(seed: int = 0) -> Any:
    config = transformers.BlipVisionConfig(
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=32,
        patch_size=4,
        initializer_range=0.02,
    )
    tower: Any = modeling_blip.BlipVisionModel(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.normal_(std=0.3, generator=generator)
    tower.eval()
    return tower


@pytest.fixture(autouse=True)
def _untried(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a new process: nothing was tried and nothing said."""
    monkeypatch.setattr(fast_paths, "_said", set())
    blip_attention._fault.cache_clear()
    yield
    monkeypatch.undo()
    blip_attention._fault.cache_clear()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_a_tower_gives_the_same_states(dtype: torch.dtype, tolerance: float) -> None:
    tower = _tower().to(dtype)
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1)).to(dtype)
    with torch.inference_mode():
        expected = tower(pixel_values=pixels).last_hidden_state
        assert fuse_attention(tower)
        given = tower(pixel_values=pixels).last_hidden_state

    assert all(isinstance(layer.self_attn, FastBlipAttention) for layer in tower.encoder.layers)
    torch.testing.assert_close(given, expected, atol=tolerance, rtol=tolerance)


def test_heads_one_by_one_give_the_same_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_attention, "_gains", lambda *_: packed_attention._fits())
    tower = _tower()
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = tower(pixel_values=pixels).last_hidden_state
        assert fuse_attention(tower, packed=True)
        given = tower(pixel_values=pixels).last_hidden_state

    way = head_by_head if packed_attention._fits() else fused
    assert all(layer.self_attn.attend is way for layer in tower.encoder.layers)
    torch.testing.assert_close(given, expected, atol=1e-5, rtol=1e-5)


def test_the_weights_keep_their_names() -> None:
    tower = _tower()
    names = list(tower.state_dict())

    fuse_attention(tower)

    assert list(tower.state_dict()) == names


def _rescaled(monkeypatch: pytest.MonkeyPatch) -> None:
    init: Any = modeling_blip.BlipAttention.__init__

    def other_scale(self: Any, config: Any) -> None:
        init(self, config)
        self.scale = 1.0
        self.divisor = self.head_dim**0.5
        forward = self.forward

        def divided(hidden_states: torch.Tensor, **named: Any) -> Any:
            context, weights = forward(hidden_states, **named)
            return context / self.divisor, weights

        self.forward = divided

    monkeypatch.setattr(modeling_blip.BlipAttention, "__init__", other_scale)


def _renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    init: Any = modeling_blip.BlipAttention.__init__

    def other_names(self: Any, config: Any) -> None:
        init(self, config)
        self.heads = self.num_heads
        del self.num_heads

    monkeypatch.setattr(modeling_blip.BlipAttention, "__init__", other_names)
    monkeypatch.setattr(
        modeling_blip.BlipAttention, "forward", lambda self, hidden_states: (hidden_states, None)
    )


@pytest.mark.parametrize(
    ("change", "reason"), [(_rescaled, "returns other values"), (_renamed, "has another structure")]
)
def test_a_transformers_that_changed_leaves_the_tower_plain_and_says_so_once(
    change: Callable[[pytest.MonkeyPatch], None],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    change(monkeypatch)
    towers = [_tower(), _tower()]

    with caplog.at_level(logging.WARNING, "autotag"):
        assert [fuse_attention(tower) for tower in towers] == [False, False]

    assert type(towers[0].encoder.layers[0].self_attn) is modeling_blip.BlipAttention
    [record] = caplog.records
    assert "'blip_attention' is not used" in record.message
    assert reason in record.message
