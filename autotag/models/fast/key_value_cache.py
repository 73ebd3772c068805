"""Keys and values of the tokens that were written so far."""

from __future__ import annotations

import math

import torch


class KeyValueCache:
    """Keys and values of the tokens so far, for all layers.

    Laid out as (positions, layers, keys or values, rows, W): what is filled lies together however many rows
    there are, and so does what attention reads at a time, the keys or the values of all rows at a position.
    Rows move into a second buffer, and the two take turns.

    Args:
        length: positions at most.
        rows: at most.
        layers: that keep keys and values.
        width: W.
        like: of the device and dtype of what is kept.
    """

    def __init__(self, length: int, rows: int, layers: int, width: int, like: torch.Tensor) -> None:
        self.length = 0
        self._shape = (length, layers, 2)
        self._width = width
        self._front = like.new_empty(length * layers * 2 * rows * width)
        self._back: torch.Tensor | None = None
        self._rows = rows

    def start(self, rows: int) -> None:
        """Begins anew with so many rows, at most those that it was made for."""
        self.length, self._rows = 0, rows

    def layer(self, index: int, new: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keeps a layer's new (rows, T, 2 W); gives all keys and all values, (positions, rows, W) each."""
        kept = self._view(self._front, self._rows)[:, index]
        end = self.length + new.shape[1]
        kept[self.length : end] = _apart(new)
        keys, values = kept[:end].unbind(1)
        return keys, values

    def places(self, table: torch.Tensor, count: int, /) -> torch.Tensor:
        """The (count, E) of a (positions, E) table that the next tokens have."""
        return table[self.length : self.length + count]

    def grow(self, count: int) -> None:
        """So many tokens are there now, for all layers."""
        self.length += count

    def take(self, rows: torch.Tensor) -> None:
        """Row i becomes what row ``rows[i]`` was."""
        if self._back is None:
            self._back = torch.empty_like(self._front)
        source, target = self._view(self._front, self._rows), self._view(self._back, len(rows))
        filled = source[: self.length].flatten(0, 3)
        starts = torch.arange(0, len(filled), self._rows, device=rows.device)
        torch.index_select(  # along the first dimension: only there several threads move rows
            filled, 0, (starts[:, None] + rows).flatten(), out=target[: self.length].flatten(0, 3)
        )
        self._front, self._back, self._rows = self._back, self._front, len(rows)

    def _view(self, buffer: torch.Tensor, rows: int) -> torch.Tensor:
        shape = (*self._shape, rows, self._width)
        return buffer[: math.prod(shape)].view(shape)


def _apart(new: torch.Tensor) -> torch.Tensor:
    """(rows, T, 2 W) to (T, 2, rows, W)."""
    return new.view(*new.shape[:2], 2, -1).permute(1, 2, 0, 3)
