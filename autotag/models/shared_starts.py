"""Texts through a causal tower, where what they share at their beginnings is calculated once.

In a causal tower no token sees a later one: what "a photo of a" leaves behind is the same whatever follows.
All texts together are a trie of tokens (``token_trie``); each node goes through the linear layers once, and
attends to the nodes on the way to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from autotag.models.token_trie import in_chunks, token_trie

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from autotag.models.causal_tower import CausalTower
    from autotag.models.token_trie import TokenTrie

_Way = tuple[slice, "Tensor"]  # the nodes of one depth, and (n, depth + 1) those on the way to each


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
    ways = [
        (slice(start, start + len(nodes)), torch.from_numpy(nodes).to(tower.device))
        for start, nodes in zip(trie.levels, trie.ancestors, strict=False)
    ]
    states = tower.embed(tokens, places)
    for layer in tower.layers:
        split = (len(states), tower.heads, -1)
        keys, values = (rows.reshape(split) for rows in layer.keys_and_values(states))
        attended = _attended(layer.queries(states).reshape(split), keys, values, ways)
        states = states + layer.out(attended.flatten(1))
        states = states + layer.mlp(states)
    return tower.finish(states[ends])


def _attended(queries: Tensor, keys: Tensor, values: Tensor, ways: Sequence[_Way]) -> Tensor:
    """(M, heads, D): what each node sees of those on the way to it, itself included."""
    scaled = queries * queries.shape[-1] ** -0.5
    attended = torch.empty_like(queries)
    for level, nodes in ways:
        scores = (scaled[level, None] * keys[nodes]).sum(-1)
        weights = scores.softmax(1, dtype=torch.float32).to(values.dtype)
        attended[level] = (weights[..., None] * values[nodes]).sum(1)
    return attended
