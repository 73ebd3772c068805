from __future__ import annotations

import logging
from typing import Any

import open_clip
import pytest
import torch

from autotag.config import fast_paths
from autotag.models.fast import coca_decoder
from autotag.models.fast.coca_decoder import CachedDecoder, PlainDecoder, cached_decoder

PADDING = 0


@pytest.fixture(autouse=True)
def _said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_paths, "_said", set())


def coca(
    *,
    quick_gelu: bool = False,
    ls_init_value: float | None = None,
    correct_cls_mask: bool = False,
    **text: Any,
) -> Any:
    """A CoCa with seeded weights."""
    tower = {"context_length": 12, "vocab_size": 20, "width": 16, "heads": 2, "layers": 2}
    tower = {**tower, "ls_init_value": ls_init_value}
    model = open_clip.CoCa(
        embed_dim=16,
        multimodal_cfg={**tower, "attn_pooler_heads": 2},
        text_cfg={**tower, "embed_cls": True, "output_tokens": True, **text},
        vision_cfg={"image_size": 8, "patch_size": 4, "width": 16, "head_width": 8, "layers": 1},
        quick_gelu=quick_gelu,
    )
    model.text.correct_cls_mask = correct_cls_mask
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5, generator=generator)
    return model.eval()


@torch.inference_mode()
def logits_of(decoder: Any, *, expected: int) -> list[torch.Tensor]:
    """What three rows, then others of them, get; two padding tokens are among them."""
    states = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(1))
    writing = decoder.begin(states, rows=4, length=8, expected=expected)
    found = [writing.next_logits(torch.tensor([[1, 5, 6], [1, PADDING, 7], [1, 8, 9]]))]
    writing.take(torch.tensor([1, 1, 2, 2]), torch.tensor([1, 2]))
    found.append(writing.next_logits(torch.tensor([[4], [PADDING], [7], [8]])))
    writing.take(torch.tensor([1, 0, 3, 3]))
    found.append(writing.next_logits(torch.tensor([[9], [3], [5], [6]])))
    return found


@pytest.mark.parametrize("expected", [1, 1000], ids=["absorbed", "projected"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"embed_cls": False},
        {"correct_cls_mask": True},
        {"pad_id": 5},
        {"quick_gelu": True},
        {"ls_init_value": 0.5},
    ],
    ids=str,
)
def test_logits_are_those_of_open_clips_own_calls(settings: dict[str, Any], expected: int) -> None:
    model = coca(**settings)
    cached = cached_decoder(model)
    assert isinstance(cached, CachedDecoder)

    for ours, plain in zip(
        logits_of(cached, expected=expected), logits_of(PlainDecoder(model), expected=expected), strict=True
    ):
        assert ours.shape == plain.shape
        torch.testing.assert_close(ours, plain, atol=2e-4, rtol=1e-4)


def test_the_parity_test_sees_padding_and_images() -> None:
    model = coca()
    first, last = logits_of(PlainDecoder(model), expected=1)[::2]
    model.text.pad_id = 19

    assert not torch.allclose(last, logits_of(PlainDecoder(model), expected=1)[2], atol=1e-2)
    assert (first - first[0]).abs().max() > 0.1


def test_weights_are_shared_with_the_model() -> None:
    model = coca()
    decoder = CachedDecoder(model)

    assert decoder.text_layers[0].qkv.weight.data_ptr() == (
        model.text.transformer.resblocks[0].attn.in_proj_weight.data_ptr()
    )
    assert decoder.head.weight.data_ptr() == model.text_decoder.text_projection.data_ptr()


def test_a_text_tower_that_is_not_causal_keeps_open_clips_calls(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="autotag"):
        assert cached_decoder(coca(no_causal_mask=True)) is None

    assert "'coca_decoder' is not used: the text tower is not causal" in caplog.text


def test_layers_of_another_kind_keep_open_clips_calls(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="autotag"):
        assert cached_decoder(coca(qk_norm=True)) is None

    assert "a layer is a CustomResidualAttentionBlock" in caplog.text


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (lambda self, images, texts: texts @ self.text_projection + 1, "gives other logits"),
        (lambda self: None, "has another structure"),
    ],
)
def test_an_open_clip_that_calculates_otherwise_keeps_its_own_calls(
    forward: Any, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = coca()
    monkeypatch.setattr(coca_decoder.MultimodalTransformer, "forward", forward)
    coca_decoder._fault.cache_clear()
    try:
        with caplog.at_level(logging.WARNING, logger="autotag"):
            assert cached_decoder(model) is None
    finally:
        coca_decoder._fault.cache_clear()

    assert f"open_clip {open_clip.__version__}" in caplog.text
    assert reason in caplog.text


def test_the_trial_leaves_torchs_random_numbers_alone() -> None:
    coca_decoder._fault.cache_clear()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)

    assert coca_decoder._fault() is None
    assert torch.equal(torch.rand(2), expected)
