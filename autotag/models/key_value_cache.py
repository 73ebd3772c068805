"""Keys and values of the tokens that were written so far."""

from __future__ import annotations

import torch


class KeyValueCache:
    """Keys and values of the tokens so far, for all layers.

    Laid out as (positions, rows, layers, keys and values), so that what is filled lies together however
    many rows there are. Rows move into a second buffer, and the two take turns.
    """

    def __init__(self, length: int, rows: int, layers: int, width: int, like: torch.Tensor) -> None:
        self.length = 0
        self._shape = (length, layers, width)
        self._front = like.new_empty(length * rows * layers * width)
        self._back: torch.Tensor | None = None
        self._rows = rows

    def start(self, rows: int) -> None:
        """Begins anew with so many rows, at most those that it was made for."""
        self.length, self._rows = 0, rows

    def layer(self, index: int, new: torch.Tensor) -> torch.Tensor:
        """Keeps a layer's new (rows, T, W); gives all so far, (positions, rows, W)."""
        buffer = self._view(self._front, self._rows)
        end = self.length + new.shape[1]
        buffer[self.length : end, :, index] = new.transpose(0, 1)
        return buffer[:end, :, index]

    def take(self, rows: torch.Tensor) -> None:
        """Row i becomes what row ``rows[i]`` was."""
        if self._back is None:
            self._back = torch.empty_like(self._front)
        source, target = self._view(self._front, self._rows), self._view(self._back, len(rows))
        starts = torch.arange(0, self.length * self._rows, self._rows, device=rows.device)
        torch.index_select(  # along the first dimension: only there several threads move rows
            source.flatten(0, 1).flatten(1),
            0,
            (starts[:, None] + rows).flatten(),
            out=target[: self.length].flatten(0, 1).flatten(1),
        )
        self._front, self._back, self._rows = self._back, self._front, len(rows)

    def _view(self, buffer: torch.Tensor, rows: int) -> torch.Tensor:
        length, layers, width = self._shape
        return buffer[: length * rows * layers * width].view(length, rows, layers, width)
