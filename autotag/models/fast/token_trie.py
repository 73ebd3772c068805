"""Token sequences as a trie in arrays, so that common beginnings are computed once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class TokenTrie:
    """A trie whose M nodes are ordered by depth.

    Attributes:
        tokens: (M,) int64, the token at each node.
        levels: first node of each depth, then M: depth 0 is ``levels[0]`` to ``levels[1]``.
        ancestors: for each depth d, (nodes of that depth, d + 1) int64: the path from the root to each node,
            itself included.
        ends: (N,) int64, the node at which each sequence ends. Equal sequences end at one node.
    """

    tokens: NDArray[np.int64]
    levels: list[int]
    ancestors: list[NDArray[np.int64]]
    ends: NDArray[np.int64]


def token_trie(sequences: Sequence[Sequence[int]]) -> TokenTrie:
    """Return the trie of sequences, which must not be empty."""
    rows, lengths = _padded(sequences)
    above = np.zeros(len(rows), dtype=np.int64)  # current node of each sequence; all start at the root
    tokens, levels, ancestors = [], [0], []
    ways = np.zeros((1, 0), dtype=np.int64)
    ends = np.zeros(len(rows), dtype=np.int64)
    base = 0
    for depth in range(rows.shape[1]):
        here = np.flatnonzero(lengths > depth)
        branches = (above[here] - base << 32) | rows[here, depth]
        distinct, place = np.unique(branches, return_inverse=True)
        parents, base = distinct >> 32, levels[-1]
        nodes = base + np.arange(len(distinct))
        ways = np.concatenate([ways[parents], nodes[:, None]], axis=1)
        tokens.append(distinct & 0xFFFFFFFF)
        ancestors.append(ways)
        levels.append(base + len(distinct))
        above[here] = ends[here] = base + place
    return TokenTrie(np.concatenate(tokens), levels, ancestors, ends)


def in_chunks(sequences: Sequence[Sequence[int]], most_tokens: int) -> list[NDArray[np.intp]]:
    """Return indices of sequences, sorted by beginning, in chunks of at most ``most_tokens``.

    A sequence with more tokens forms a chunk by itself.
    """
    rows, lengths = _padded(sequences)
    order = np.lexsort(rows.T[::-1])
    cuts, held = [0], 0
    for at, length in enumerate(lengths[order].tolist()):
        if held and held + length > most_tokens:
            cuts.append(at)
            held = 0
        held += length
    return [order[start:stop] for start, stop in pairwise([*cuts, len(order)])]


def _padded(sequences: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (N, longest) int64 tokens padded with -1, and the (N,) lengths."""
    lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
    rows = np.full((len(sequences), int(lengths.max())), -1, dtype=np.int64)
    rows[np.arange(rows.shape[1]) < lengths[:, None]] = np.fromiter(
        chain.from_iterable(sequences), dtype=np.int64, count=int(lengths.sum())
    )
    return rows, lengths
