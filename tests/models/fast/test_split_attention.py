from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import open_clip
import pytest
import torch
from timm.models.eva import EvaAttention
from torch import nn

from autotag.models.encoders import openclip_encoder
from autotag.models.fast import fast_paths, packed_linears, split_attention
from autotag.models.fast.packed_linears import PackedLinear, pack_linears
from autotag.models.fast.split_attention import SplitAttention
from autotag.models.pool import ModelPool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PIXELS = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
TOKENS = torch.tensor([[1, 5, 6, 15, 0, 0, 0, 0], [1, 7, 15, 0, 0, 0, 0, 0]])


@pytest.fixture(autouse=True)
def _gaining(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the CPU: packed layers gain."""
    monkeypatch.setattr(fast_paths, "_said", set())
    monkeypatch.setattr(packed_linears, "_best_layout", lambda *shape: PackedLinear)


def _clip(*, custom_text: dict[str, Any] | None = None, **tower: Any) -> Any:
    torch.manual_seed(0)
    text = {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 2}
    kind = open_clip.CLIP if custom_text is None else open_clip.CustomTextCLIP
    return kind(
        embed_dim=8,
        vision_cfg={"image_size": 16, "patch_size": 8, "width": 32, "head_width": 16, "layers": 3, **tower},
        text_cfg={**text, **(custom_text or {})},
    ).eval()


def _kinds(model: nn.Module) -> set[str]:
    return {type(block.attn).__name__ for block in model.modules() if hasattr(block, "attn")}


def test_a_model_with_split_attention_gives_the_same_and_can_be_packed() -> None:
    model = _clip()
    with torch.inference_mode():
        expected = model.encode_image(PIXELS), model.encode_text(TOKENS)
        assert split_attention.split_attention(model) == 3 + 2
        split = model.encode_image(PIXELS), model.encode_text(TOKENS)
        packed_layers = pack_linears(model)
        packed = model.encode_image(PIXELS), model.encode_text(TOKENS)

    assert packed_layers == 6 * (3 + 2)
    for given in (split, packed):
        for one, other in zip(given, expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


TEXT_TOWERS: dict[str, dict[str, Any]] = {
    "of its own": {},
    "with a class token": {"embed_cls": True},  # as in CoCa: its mask is another for each text
    "not causal": {"no_causal_mask": True},
    "with a biased projection": {"proj_bias": True},  # as in SigLIP: asks whether it is an nn.Linear
    "pooled at its last place": {"pool_type": "last"},
}


@pytest.mark.parametrize("name", TEXT_TOWERS)
def test_every_kind_of_text_tower_gives_the_same_when_it_is_packed(name: str) -> None:
    model = _clip(custom_text=TEXT_TOWERS[name])
    with torch.inference_mode():
        expected = model.encode_image(PIXELS), model.encode_text(TOKENS)
        split_attention.split_attention(model)
        pack_linears(model, besides=openclip_encoder._READ_WEIGHTS)
        given = model.encode_image(PIXELS), model.encode_text(TOKENS)

    assert any(isinstance(module, PackedLinear) for module in model.text.modules())
    for one, other in zip(given, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_an_eva_tower_that_reads_weights_gives_the_same_when_it_is_packed() -> None:
    torch.manual_seed(0)
    attention: Any = EvaAttention(16, num_heads=2, qkv_fused=True, scale_norm=False).eval()
    tower = nn.Sequential(attention, nn.Linear(16, 8))
    rows = torch.randn(2, 5, 16)
    with torch.inference_mode():
        expected = tower(rows)
        assert pack_linears(tower, besides=openclip_encoder._READ_WEIGHTS) == 1
        torch.testing.assert_close(tower(rows), expected, atol=1e-5, rtol=1e-4)


def test_masks_mean_what_they_mean_to_the_plain_module() -> None:
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    split, rows = SplitAttention(plain), torch.randn(3, 4, 8)
    hidden = torch.ones(4, 4, dtype=torch.bool).triu(1)
    for mask in (hidden, torch.randn(4, 4), torch.randn(3 * 2, 4, 4), hidden.repeat(6, 1, 1)):
        with torch.inference_mode():
            expected, _ = plain(rows, rows, rows, need_weights=False, attn_mask=mask)
            given, _ = split(rows, rows, rows, attn_mask=mask)
        torch.testing.assert_close(given, expected, atol=1e-6, rtol=1e-5)


def test_weights_are_shared_until_they_are_packed() -> None:
    model = _clip()
    weight = model.visual.transformer.resblocks[0].attn.in_proj_weight
    split_attention.split_attention(model)

    layer = model.visual.transformer.resblocks[0].attn
    assert layer.q_proj.weight.data_ptr() == weight.data_ptr()
    assert not layer.q_proj.weight.requires_grad


def test_where_packing_gains_nothing_attention_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_linears, "_best_layout", lambda *shape: None)
    model = _clip()

    assert split_attention.split_attention(model) == 0
    assert _kinds(model) == {"MultiheadAttention"}


def test_only_float32_is_split() -> None:
    assert split_attention.split_attention(_clip().bfloat16()) == 0


def test_an_attention_of_another_kind_stays_as_it_is() -> None:
    model = _clip()
    model.visual.transformer.resblocks[1].attn = nn.MultiheadAttention(32, 2, batch_first=True, bias=False)

    assert split_attention.split_attention(model) == 2 + 2
    assert _kinds(model) == {"MultiheadAttention", "SplitAttention"}


def test_weights_of_the_attention_are_refused() -> None:
    layer = SplitAttention(nn.MultiheadAttention(8, 2, batch_first=True))
    rows = torch.zeros(1, 3, 8)

    with pytest.raises(NotImplementedError, match="not kept"):
        layer(rows, rows, rows, need_weights=True)


def _doubled(self: Any, query: torch.Tensor, *more: Any, **named: Any) -> tuple[torch.Tensor, None]:
    return 2 * query, None


def _failing(self: Any, *given: Any, **named: Any) -> tuple[torch.Tensor, None]:
    raise TypeError("no such argument")


@pytest.mark.parametrize(
    ("forward", "reason"), [(_doubled, "something else"), (_failing, "no such argument")]
)
def test_a_torch_whose_attention_changed_is_noticed_once(
    forward: Any, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(nn.MultiheadAttention, "forward", forward)
    with caplog.at_level(logging.WARNING, "autotag"):
        models = [_clip(), _clip()]
        assert [split_attention.split_attention(model) for model in models] == [0, 0]

    assert _kinds(models[0]) == {"MultiheadAttention"}
    [record] = caplog.records
    assert "'packed_linears' is not used" in record.message
    assert reason in record.message


def test_encoders_split_it_unless_packing_is_switched_off(tiny_folder: Callable[[str], Path]) -> None:
    folder = str(tiny_folder("open_clip_folder"))
    encoders: list[Any] = [
        ModelPool(device="cpu", plain=plain).encoder(folder) for plain in ([], ["packed_linears"])
    ]

    assert [_kinds(encoder.model) for encoder in encoders] == [{"SplitAttention"}, {"MultiheadAttention"}]
    texts = ["a dog", "a photo of two dogs", ""]
    fast, plain = (encoder.embed_texts(texts) for encoder in encoders)
    torch.testing.assert_close(torch.from_numpy(fast), torch.from_numpy(plain), atol=1e-5, rtol=1e-4)
