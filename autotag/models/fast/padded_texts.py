"""Texts one after the other in rows of tokens, and the same texts padded, for attention on a GPU.

A GPU takes as long for a small operation as for a large one. ``ragged_bert`` looks at texts of one length at
a time, which on a CPU wastes no arithmetic; on a GPU it would be dozens of small operations for each layer.
Here texts are padded to the next power of two, in a few blocks, and only for the attention: all else in a
BERT works on the tokens there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

_SHORTEST = 8
"""The length that the shortest texts are padded to."""


@dataclass(frozen=True, slots=True)
class _Block:
    """Texts padded to one length.

    Attributes:
        where: (T, L) int64, the row of each token; any row for padding.
        there: (T, L, 1), 1 for a token and 0 for padding.
        mask: (T, 1, 1, L), 0 for a token and -inf for padding.
    """

    where: Tensor
    there: Tensor
    mask: Tensor


class PaddedTexts:
    """Where the tokens of T texts stand, of N tokens in all.

    Args:
        lengths: of the texts, in tokens, each at least 1.
        like: of the device and dtype of the tokens' states.
    """

    def __init__(self, lengths: Sequence[int], like: Tensor) -> None:
        device = like.device
        self._lengths = np.asarray(lengths)
        starts = np.cumsum(self._lengths) - self._lengths
        self._blocks: list[_Block] = []
        places = np.empty(self._lengths.sum(), dtype=np.int64)
        order: list[NDArray[np.int64]] = []
        end = 0
        for length, texts in self._by_padded_length():
            steps = np.arange(length)
            there = steps < self._lengths[texts, None]
            where = np.where(there, starts[texts, None] + steps, 0)
            places[where[there]] = end + there.ravel().nonzero()[0]
            end += where.size
            order.append(texts)
            weights = _on(there, device).to(like.dtype)
            self._blocks.append(_Block(_on(where, device), weights[..., None], weights.log()[:, None, None]))
        self._places = _on(places, device)
        self._order = _on(np.argsort(np.concatenate(order)), device)

    def attend(self, qkv: Tensor) -> Tensor:
        """(N, 3, heads, D) queries, keys and values to what each token sees of its text, (N, heads * D).

        Queries come multiplied by the attention's scale.
        """
        seen = []
        for block in self._blocks:
            query, key, value = qkv[block.where].permute(2, 0, 3, 1, 4)
            by_head = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=block.mask, scale=1.0
            )
            seen.append(by_head.transpose(1, 2).flatten(2).flatten(0, 1))
        return torch.cat(seen)[self._places]

    def means(self, rows: Tensor) -> Tensor:
        """(N, D) tokens to the mean of each text, (T, D)."""
        means = [
            rows[block.where].mul_(block.there).sum(dim=1).div_(block.there.sum(dim=1))
            for block in self._blocks
        ]
        return torch.cat(means)[self._order]

    def _by_padded_length(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Each length that texts are padded to, with the texts."""
        padded = np.array([max(_SHORTEST, 1 << (int(length) - 1).bit_length()) for length in self._lengths])
        for length in np.unique(padded):
            yield int(length), np.flatnonzero(padded == length)


def _on(values: NDArray[np.generic], device: torch.device) -> Tensor:
    return torch.from_numpy(values).to(device, non_blocking=True)
