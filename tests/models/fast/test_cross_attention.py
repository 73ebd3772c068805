from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.nn import functional

from autotag.models.fast import cross_attention
from autotag.models.fast.cross_attention import attend_to_words, by_products
from autotag.models.fast.key_value_cache import KeyValueCache

if TYPE_CHECKING:
    from types import ModuleType

HEADS, SIZE = 3, 4
WIDTH = HEADS * SIZE


def _states(tokens: int, rows: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    """(R, heads, 1, D) queries, (L, R, W) keys and values."""
    generator = torch.Generator().manual_seed(tokens)
    query = torch.randn(rows, HEADS, 1, SIZE, generator=generator)
    keys, values = torch.randn(2, tokens, rows, WIDTH, generator=generator)
    return query.to(dtype), keys.to(dtype), values.to(dtype)


def _plain(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    key, value = (rows.unflatten(2, (HEADS, SIZE)).permute(1, 2, 0, 3) for rows in (keys, values))
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)


@pytest.mark.parametrize("rows", [1, 127, 128])
@pytest.mark.parametrize("tokens", [1, 2, 9])
def test_a_new_word_attends_to_all_words(tokens: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    by_element = cross_attention._by_element

    def counted(*given: Any) -> torch.Tensor:
        calls.append(given)
        return by_element(*given)

    monkeypatch.setattr(cross_attention, "_by_element", counted)
    states = _states(tokens, rows)
    torch.testing.assert_close(attend_to_words(*states, None), _plain(*states))
    assert len(calls) == (rows * HEADS >= 384)


def test_other_precision_and_masks_go_through_torch_itself() -> None:
    states = _states(5, 200, torch.bfloat16)
    assert torch.equal(attend_to_words(*states, None), _plain(*states))
    states = _states(5, 200)
    mask = torch.rand(200, 1, 1, 5) > 0.5
    mask[..., 0] = True
    assert torch.equal(attend_to_words(*states, mask), _plain(*states, mask))


def test_several_new_words_do_not_see_later_ones() -> None:
    _, keys, values = _states(4, 200)
    query = keys.unflatten(2, (HEADS, SIZE)).permute(1, 2, 0, 3)
    key, value = (rows.unflatten(2, (HEADS, SIZE)).permute(1, 2, 0, 3) for rows in (keys, values))
    expected = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    torch.testing.assert_close(attend_to_words(query, keys, values, None), expected)


@pytest.mark.parametrize("kind", [None, "bool"])
def test_a_gpu_attends_by_products(pretended_gpu: ModuleType, kind: str | None) -> None:
    query, keys, values = _states(6, 5)
    mask = None
    if kind is not None:
        mask = torch.rand(5, 1, 1, 6, generator=torch.Generator().manual_seed(0)) > 0.5
        mask[..., 0] = True
    expected = _plain(query, keys, values, mask)
    with pretended_gpu.pretended(), torch.no_grad():
        there = [None if one is None else one.to("cuda") for one in (query, keys, values, mask)]
        with pretended_gpu.counted() as operations:
            found = attend_to_words(*there)
        assert not operations["scaled_dot_product_attention"]
        torch.testing.assert_close(found.cpu(), expected)
    key, value = (rows.unflatten(2, (HEADS, SIZE)).permute(1, 2, 0, 3) for rows in (keys, values))
    torch.testing.assert_close(by_products(query, key, value, mask), expected)


def test_a_cache_keeps_and_moves_rows() -> None:
    new = torch.randn(3, 5, 2, 2 * WIDTH)  # steps, rows, layers, keys and values
    cache = KeyValueCache(4, 8, 2, WIDTH, new)
    cache.start(5)
    for step in new:
        for layer in range(2):
            keys, values = cache.layer(layer, step[:, layer, None])
        cache.grow(1)
    torch.testing.assert_close(keys, new[:, :, 1, :WIDTH])
    torch.testing.assert_close(values, new[:, :, 1, WIDTH:])

    order = torch.tensor([4, 4, 0, 2, 1, 1, 3, 0])
    for rows in (order, torch.tensor([7, 2])):
        cache.take(rows)
        new = new[:, rows]
        for layer in range(2):
            keys, values = cache.layer(layer, torch.zeros(len(rows), 1, 2 * WIDTH))
            torch.testing.assert_close(keys[:3], new[:, :, layer, :WIDTH])
            torch.testing.assert_close(values[:3], new[:, :, layer, WIDTH:])
            assert keys.shape == (4, len(rows), WIDTH)
