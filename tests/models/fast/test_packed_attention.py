from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import torch

from autotag.models.fast import fast_paths, packed_attention
from autotag.models.fast.packed_attention import (
    PackedStates,
    StackedStates,
    fused,
    head_by_head,
    image_states,
    self_attention,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]
    reason="this torch has no oneDNN",
)


def _forget() -> None:
    for trial in (packed_attention._fits, packed_attention._faster_way, packed_attention._packing_gains):
        trial.cache_clear()


@pytest.fixture(autouse=True)
def _untried(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a new process: nothing was tried and nothing said."""
    monkeypatch.setattr(fast_paths, "_said", set())
    _forget()
    yield
    monkeypatch.undo()
    _forget()


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _takes(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> None:
    """Whatever the CPU: the plain way and the packed one take so long."""

    def measured(ways: Sequence[Callable[[], object]]) -> list[float]:
        for way in ways:
            way()
        return list(seconds)

    monkeypatch.setattr(packed_attention, "shortest_seconds", measured)


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


def test_the_faster_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    like = _random(1)
    _takes(monkeypatch, 1.0, 0.5)
    assert self_attention(2, 8, 4, like) is head_by_head
    assert isinstance(image_states(_random(2, 8, 4), 3), PackedStates)
    _forget()
    _takes(monkeypatch, 1.0, 0.95)
    assert self_attention(2, 8, 4, like) is fused
    assert isinstance(image_states(_random(2, 8, 4), 3), StackedStates)


def test_the_trial_is_real_made_once_and_leaves_the_random_state_alone() -> None:
    state = torch.get_rng_state()
    assert self_attention(2, 8, 4, _random(1)) in (fused, head_by_head)
    assert isinstance(image_states(_random(2, 8, 4), 3), PackedStates | StackedStates)
    image_states(_random(5, 8, 4), 3)

    assert torch.equal(torch.get_rng_state(), state)
    assert packed_attention._packing_gains.cache_info().misses == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_only_float32_is_packed(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    _takes(monkeypatch, 1.0, 0.5)
    states = _random(2, 8, 4).to(dtype)

    assert self_attention(2, 8, 4, states) is fused
    assert isinstance(image_states(states, 3), StackedStates)


def _gone(*arguments: Any) -> Any:
    raise AttributeError("no such operator")


def _wrong(rows: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    return rows.new_zeros(*rows.shape[:-1], len(matrix))


@pytest.mark.parametrize(("product", "reason"), [(_gone, "no such operator"), (_wrong, "gives other values")])
def test_a_torch_whose_product_changed_is_noticed_once(
    product: Any, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _takes(monkeypatch, 1.0, 0.5)
    monkeypatch.setattr(packed_attention, "product", product)
    with caplog.at_level(logging.WARNING, "autotag"):
        assert self_attention(2, 8, 4, _random(1)) is fused
        assert isinstance(image_states(_random(2, 8, 4), 3), StackedStates)

    [record] = caplog.records
    assert "'packed_attention' is not used" in record.message
    assert reason in record.message
