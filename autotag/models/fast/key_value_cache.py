"""Keys and values of the tokens that were written so far."""

from __future__ import annotations

import math
from typing import Protocol

import torch


class TokenCache(Protocol):
    """Where layers keep the keys and values of tokens, and how many there are."""

    @property
    def mask(self) -> torch.Tensor | None:
        """(1, positions), added to scores: -inf for positions of ``layer`` that are empty; None for none."""
        ...

    def layer(self, index: int, new: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keeps a layer's new (rows, T, 2 W); gives all keys and all values, (positions, rows, W) each."""
        ...

    def places(self, table: torch.Tensor, count: int, /) -> torch.Tensor:
        """The (count, E) of a (positions, E) table that the next tokens have."""
        ...

    def grow(self, count: int) -> None:
        """So many tokens are there now, for all layers."""
        ...


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

    mask = None

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


class FixedCache:
    """The same for one token after another, without a shape or a number that changes with them.

    What is done with it can be recorded: the place of the next token is a tensor, and tokens attend to all
    positions, those masked that nothing was written to.

    Attributes:
        position: (1,) int64, where the next token stands.
        mask: (1, positions) in the dtype of the states, 0 up to ``position`` and -inf beyond.
    """

    def __init__(self, length: int, rows: int, layers: int, width: int, like: torch.Tensor) -> None:
        self._states = like.new_zeros(length, layers, 2, rows, width)
        self._positions = torch.arange(length, device=like.device)[None]
        self.position = torch.zeros(1, dtype=torch.int64, device=like.device)
        self.mask = like.new_empty(1, length)
        self.start()

    def start(self) -> None:
        """Begins anew. Nothing stays: a NaN of an earlier text would get past any mask."""
        self.position.zero_()
        self._states.zero_()
        self._show()

    def layer(self, index: int, new: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keeps a layer's new (rows, 1, 2 W); gives all keys and all values, (positions, rows, W) each."""
        kept = self._states[:, index]
        kept.index_copy_(0, self.position, _apart(new))
        keys, values = kept.unbind(1)
        return keys, values

    def places(self, table: torch.Tensor, _count: int, /) -> torch.Tensor:
        """The (1, E) of a (positions, E) table that the next token has."""
        return table.index_select(0, self.position)

    def grow(self, count: int) -> None:
        """One token more is there now, for all layers."""
        self.position.add_(count)
        self._show()

    def _show(self) -> None:
        self.mask.zero_().masked_fill_(self._positions > self.position, float("-inf"))


def _apart(new: torch.Tensor) -> torch.Tensor:
    """(rows, T, 2 W) to (T, 2, rows, W)."""
    return new.view(*new.shape[:2], 2, -1).permute(1, 2, 0, 3)
