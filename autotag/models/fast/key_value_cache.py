"""A cache of keys and values for text decoders."""

from __future__ import annotations

import math

import torch


class KeyValueCache:
    """Keep the keys and values of the tokens so far, for all layers.

    The layout is (positions, layers, keys or values, rows, W), so the filled part is contiguous for any
    number of rows, and so are the keys or values of all rows at a position, which attention reads together.
    Reordered rows are written to a second buffer, and the two buffers alternate.

    Args:
        length: largest number of positions.
        rows: largest number of rows.
        layers: number of layers with keys and values.
        width: W.
        like: a tensor with the device and dtype of the cache.
    """

    def __init__(self, length: int, rows: int, layers: int, width: int, like: torch.Tensor) -> None:
        self.length = 0
        self._shape = (length, layers, 2)
        self._width = width
        self._front = like.new_empty(length * layers * 2 * rows * width)
        self._back: torch.Tensor | None = None
        self._rows = rows

    def start(self, rows: int) -> None:
        """Empty the cache, and set its number of rows, at most that of the constructor."""
        self.length, self._rows = 0, rows

    def layer(self, index: int, new: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Store a layer's new (rows, T, 2 W); return all keys and all values, (positions, rows, W) each."""
        kept = self._view(self._front, self._rows)[:, index]
        end = self.length + new.shape[1]
        kept[self.length : end] = _apart(new)
        keys, values = kept[:end].unbind(1)
        return keys, values

    def places(self, table: torch.Tensor, count: int, /) -> torch.Tensor:
        """Return the (count, E) rows of a (positions, E) table for the next tokens."""
        return table[self.length : self.length + count]

    def grow(self, count: int) -> None:
        """Count new tokens, after all layers have stored them."""
        self.length += count

    def take(self, rows: torch.Tensor) -> None:
        """Replace row i by row ``rows[i]``."""
        if self._back is None:
            self._back = torch.empty_like(self._front)
        source, target = self._view(self._front, self._rows), self._view(self._back, len(rows))
        filled = source[: self.length].flatten(0, 3)
        starts = torch.arange(0, len(filled), self._rows, device=rows.device)
        torch.index_select(  # along the first dimension, the only one that torch indexes in several threads
            filled, 0, (starts[:, None] + rows).flatten(), out=target[: self.length].flatten(0, 3)
        )
        self._front, self._back, self._rows = self._back, self._front, len(rows)

    def _view(self, buffer: torch.Tensor, rows: int) -> torch.Tensor:
        shape = (*self._shape, rows, self._width)
        return buffer[: math.prod(shape)].view(shape)


def _apart(new: torch.Tensor) -> torch.Tensor:
    """Rearrange (rows, T, 2 W) to (T, 2, rows, W)."""
    return new.view(*new.shape[:2], 2, -1).permute(1, 2, 0, 3)
