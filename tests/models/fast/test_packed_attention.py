from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import torch

from autotag.config import fast_paths
from autotag.models.fast import packed_attention
from autotag.models.fast.packed_attention import (
    PackedStates,
    StackedStates,
    fused,
    head_by_head,
    image_states,
    self_attention,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]
    reason="this torch has no oneDNN",
)


@pytest.fixture(autouse=True)
def _gains(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """On a processor that gains, with nothing tried and nothing said."""
    monkeypatch.setattr(fast_paths, "_said", set())
    monkeypatch.setattr(packed_attention, "multiplies_slowly", lambda: True)
    monkeypatch.setattr(packed_attention, "has_avx512", lambda: True)
    packed_attention._fits.cache_clear()
    yield
    monkeypatch.undo()
    packed_attention._fits.cache_clear()


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(1, 1, 1, 8), (2, 3, 5, 8), (3, 2, 40, 16), (1, 4, 17, 6)])
def test_head_by_head_sees_what_fused_attention_sees(shape: tuple[int, ...]) -> None:
    batch, heads, tokens, size = shape
    mixed = _random(batch, tokens, 3, heads, size).permute(2, 0, 3, 1, 4)  # as a projection leaves them
    for query, key, value in (mixed, mixed.contiguous()):
        given = head_by_head(query, key, value, 0.7)

        assert given.shape == (batch, tokens, heads * size)
        torch.testing.assert_close(given, fused(query, key, value, 0.7), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        fused(query, key, value, 0.7),
        ((query @ key.mT * 0.7).softmax(-1) @ value).transpose(1, 2).flatten(2),
        atol=1e-5,
        rtol=1e-5,
    )


def test_head_by_head_leaves_what_it_is_given_alone() -> None:
    given = [_random(2, 3, 5, 8, seed=seed) for seed in range(3)]
    before = [tensor.clone() for tensor in given]

    head_by_head(*given, scale=0.5)

    assert all(torch.equal(one, other) for one, other in zip(given, before, strict=True))


def test_packed_states_are_seen_as_stacked_ones_also_when_images_move_and_leave() -> None:
    states = _random(4, 9, 12)
    stacked, packed = StackedStates(states), PackedStates(states)
    for places in ([0, 1, 2, 3], [3, 1], [1, 0, 0], [2]):
        stacked.take(torch.tensor(places))
        packed.take(torch.tensor(places))
        queries = _random(len(places), 5, 12, seed=len(places))

        assert packed.count == stacked.count == len(places)
        torch.testing.assert_close(packed.attend(queries), stacked.attend(queries), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("lacking", [None, "multiplies_slowly", "has_avx512"])
@pytest.mark.parametrize("tokens", [8, 577])
def test_many_tokens_are_packed_on_a_processor_that_gains(
    tokens: int, lacking: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lacking is not None:
        monkeypatch.setattr(packed_attention, lacking, lambda: False)
    gains = tokens == 577 and lacking is None

    assert self_attention(tokens, _random(1)) is (head_by_head if gains else fused)
    assert isinstance(image_states(_random(2, tokens, 4)), PackedStates if gains else StackedStates)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_only_float32_is_packed(dtype: torch.dtype) -> None:
    states = _random(2, 577, 4).to(dtype)

    assert self_attention(577, states) is fused
    assert isinstance(image_states(states), StackedStates)


def _gone(*arguments: Any) -> Any:
    raise AttributeError("no such operator")


def _wrong(rows: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    return rows.new_zeros(*rows.shape[:-1], len(matrix))


@pytest.mark.parametrize(("product", "reason"), [(_gone, "no such operator"), (_wrong, "gives other values")])
def test_a_torch_whose_product_changed_is_noticed_once(
    product: Any, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(packed_attention, "product", product)
    with caplog.at_level(logging.WARNING, "autotag"):
        assert self_attention(577, _random(1)) is fused
        assert isinstance(image_states(_random(2, 577, 4)), StackedStates)

    [record] = caplog.records
    assert "'packed_attention' is not used" in record.message
    assert reason in record.message
