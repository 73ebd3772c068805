"""Texts through a causal tower, where what they share at their beginnings is calculated once.

In a causal tower no token sees a later one: what "a photo of a" leaves behind is the same whatever follows.
All texts together are a trie of tokens (``token_trie``); each node goes through the linear layers once, and
attends to the nodes on the way to it. On a CPU those of one depth do so at a time; on a GPU, where each
operation costs the host the same however small it is, those of several depths, their ways padded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from autotag.models.fast.token_trie import in_chunks, token_trie

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from autotag.models.fast.causal_tower import CausalTower
    from autotag.models.fast.token_trie import TokenTrie

_FEW_DEPTHS = 8
"""Depths that a GPU takes together first; then as many as there were before, and so on."""


@dataclass(frozen=True, slots=True)
class _Ways:
    """The ways to some nodes.

    Attributes:
        nodes: that are side by side, n of them.
        ways: (n, L) int64, the nodes on the way to each, itself included.
        mask: (n, L, 1), 0 and -inf for padding, which is added to scores; None where there is none.
    """

    nodes: slice
    ways: Tensor
    mask: Tensor | None = None


def vectors_of(tower: CausalTower, sequences: Sequence[Sequence[int]], *, tokens_at_once: int) -> Tensor:
    """(N, E), not normalised.

    Args:
        tower: that reads them.
        sequences: token ids of each text, the last its end token.
        tokens_at_once: of all texts together, before any is found to be shared.
    """
    parts, order = [], []
    for chunk in in_chunks(sequences, tokens_at_once):
        parts.append(_vectors_of_trie(tower, token_trie([sequences[place] for place in chunk])))
        order.append(chunk)
    places = np.argsort(np.concatenate(order))
    return torch.cat(parts)[torch.from_numpy(places).to(tower.device)]


def _vectors_of_trie(tower: CausalTower, trie: TokenTrie) -> Tensor:
    """(N, E), not normalised, of the sequences of a trie."""
    depths = np.repeat(np.arange(len(trie.ancestors)), np.diff(trie.levels))
    tokens, places, ends = (
        torch.from_numpy(array).to(tower.device) for array in (trie.tokens, depths, trie.ends)
    )
    ways = list(
        _of_each_depth(trie) if tower.device.type == "cpu" else _of_several_depths(trie, tower.device)
    )
    states = tower.embed(tokens, places)
    for layer in tower.layers:
        split = (len(states), tower.heads, -1)
        keys, values = (rows.reshape(split) for rows in layer.keys_and_values(states))
        attended = _attended(layer.queries(states).reshape(split), keys, values, ways)
        states = states + layer.out(attended.flatten(1))
        states = states + layer.mlp(states)
    return tower.finish(states[ends])


def _of_each_depth(trie: TokenTrie) -> Iterator[_Ways]:
    for start, ways in zip(trie.levels, trie.ancestors, strict=False):
        yield _Ways(slice(start, start + len(ways)), torch.from_numpy(ways))


def _of_several_depths(trie: TokenTrie, device: torch.device) -> Iterator[_Ways]:
    first, depths = 0, _FEW_DEPTHS
    while first < len(trie.ancestors):
        last = min(depths, len(trie.ancestors))
        padded = [
            np.pad(ways, ((0, 0), (0, last - ways.shape[1])), constant_values=-1)
            for ways in trie.ancestors[first:last]
        ]
        ways = torch.from_numpy(np.concatenate(padded)).to(device)
        mask = torch.zeros(ways.shape, device=device).masked_fill_(ways < 0, float("-inf"))
        yield _Ways(slice(trie.levels[first], trie.levels[last]), ways.clamp(min=0), mask[..., None])
        first, depths = last, 2 * depths


def _attended(queries: Tensor, keys: Tensor, values: Tensor, ways: Sequence[_Ways]) -> Tensor:
    """(M, heads, D): what each node sees of those on the way to it."""
    scaled = queries * queries.shape[-1] ** -0.5
    attended = torch.empty_like(queries)
    for some in ways:
        scores = (scaled[some.nodes, None] * keys[some.ways]).sum(-1)
        if some.mask is not None:
            scores = scores + some.mask
        weights = scores.softmax(1, dtype=torch.float32).to(values.dtype)
        attended[some.nodes] = (weights[..., None] * values[some.ways]).sum(1)
    return attended
