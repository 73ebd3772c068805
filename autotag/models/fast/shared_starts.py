"""Encodes texts with a causal tower and computes common beginnings once.

In a causal tower a token does not see later ones, so the states of "a photo of a" do not depend on the words
after it. All texts form a trie of tokens (``token_trie``). Each node goes through the linear layers once, and
attends to the nodes on its path, one depth at a time. These are many small operations, which suit CPUs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from autotag.models.fast.token_trie import in_chunks, token_trie

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotag.models.fast.causal_tower import CausalTower
    from autotag.models.fast.token_trie import TokenTrie


def vectors_of(tower: CausalTower, sequences: Sequence[Sequence[int]], *, tokens_at_once: int) -> Tensor:
    """Return (N, E) text vectors, not normalised.

    Args:
        tower: the text tower, on a CPU.
        sequences: token ids of each text, ending with its end token.
        tokens_at_once: most tokens in one pass, counted before sharing.
    """
    parts, order = [], []
    for chunk in in_chunks(sequences, tokens_at_once):
        parts.append(_vectors_of_trie(tower, token_trie([sequences[place] for place in chunk])))
        order.append(chunk)
    places = np.argsort(np.concatenate(order))
    return torch.cat(parts)[torch.from_numpy(places)]


def _vectors_of_trie(tower: CausalTower, trie: TokenTrie) -> Tensor:
    """Return (N, E) vectors, not normalised, of the sequences of a trie."""
    depths = np.repeat(np.arange(len(trie.ancestors)), np.diff(trie.levels))
    tokens, places, ends = (torch.from_numpy(array) for array in (trie.tokens, depths, trie.ends))
    ways = [torch.from_numpy(of_depth) for of_depth in trie.ancestors]
    states = tower.embed(tokens, places)
    for layer in tower.layers:
        split = (len(states), tower.heads, -1)
        keys, values = (rows.reshape(split) for rows in layer.keys_and_values(states))
        attended = _attended(layer.queries(states).reshape(split), keys, values, ways)
        states = states + layer.out(attended.flatten(1))
        states = states + layer.mlp(states)
    return tower.finish(states[ends])


def _attended(queries: Tensor, keys: Tensor, values: Tensor, ways: Sequence[Tensor]) -> Tensor:
    """Return the (M, heads, D) result of each node's attention to the nodes on its path.

    Args:
        queries: (M, heads, D), in the order of the trie's nodes.
        keys: of the same shape.
        values: of the same shape.
        ways: for each depth d, (nodes, d + 1) int64, the nodes on the path to each, itself included.
    """
    scaled = queries * queries.shape[-1] ** -0.5
    attended = torch.empty_like(queries)
    first = 0
    for nodes in ways:
        here = slice(first, first := first + len(nodes))
        scores = (scaled[here, None] * keys[nodes]).sum(-1)
        weights = scores.softmax(1, dtype=torch.float32).to(values.dtype)
        attended[here] = (weights[..., None] * values[nodes]).sum(1)
    return attended
