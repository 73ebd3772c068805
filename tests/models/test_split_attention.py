from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import open_clip
import pytest
import torch
from torch import nn

from autotag import fast_paths
from autotag.models import packed_linears, split_attention
from autotag.models.packed_linears import PackedLinear, pack_linears
from autotag.models.pool import ModelPool
from autotag.models.split_attention import SplitAttention

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


def _clip(**tower: Any) -> Any:
    torch.manual_seed(0)
    return open_clip.CLIP(
        embed_dim=8,
        vision_cfg={"image_size": 16, "patch_size": 8, "width": 32, "head_width": 16, "layers": 3, **tower},
        text_cfg={"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 2},
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
