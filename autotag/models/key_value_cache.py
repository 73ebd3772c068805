"""Keys and values of the tokens that were written so far."""

from __future__ import annotations

from typing import Protocol

import torch


class TokenCache(Protocol):
    """Where layers keep the keys and values of tokens, and how many there are."""

    @property
    def mask(self) -> torch.Tensor | None:
        """(1, positions), added to scores: -inf for positions of ``layer`` that are empty; None for none."""
        ...

    def layer(self, index: int, new: torch.Tensor) -> torch.Tensor:
        """Keeps a layer's new (rows, T, W); gives those of all positions, (positions, rows, W)."""
        ...

    def places(self, table: torch.Tensor, count: int, /) -> torch.Tensor:
        """The (count, E) of a (positions, E) table that the next tokens have."""
        ...

    def grow(self, count: int) -> None:
        """So many tokens are there now, for all layers."""
        ...


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

    @property
    def mask(self) -> None:
        """What a new token may attend to of ``layer``: everything."""
        return None

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


class FixedCache:
    """The same for one token after another, without a shape or a number that changes with them.

    What is done with it can be recorded: the place of the next token is a tensor, and tokens attend to all
    positions, those masked that nothing was written to.

    Attributes:
        position: (1,) int64, where the next token stands.
        mask: (1, positions) in the dtype of the states, 0 up to ``position`` and -inf beyond.
    """

    def __init__(self, length: int, rows: int, layers: int, width: int, like: torch.Tensor) -> None:
        self._states = like.new_zeros(length, rows, layers, width)
        self._positions = torch.arange(length, device=like.device)[None]
        self.position = torch.zeros(1, dtype=torch.int64, device=like.device)
        self.mask = like.new_empty(1, length)
        self.start()

    def start(self) -> None:
        """Begins anew. Nothing stays: a NaN of an earlier text would get past any mask."""
        self.position.zero_()
        self._states.zero_()
        self._show()

    def layer(self, index: int, new: torch.Tensor) -> torch.Tensor:
        """Keeps a layer's new (rows, 1, W); gives those of all positions, (positions, rows, W)."""
        states = self._states[:, :, index]
        states.index_copy_(0, self.position, new.transpose(0, 1))
        return states

    def places(self, table: torch.Tensor, _count: int, /) -> torch.Tensor:
        """The (1, E) of a (positions, E) table that the next token has."""
        return table.index_select(0, self.position)

    def grow(self, count: int) -> None:
        """One token more is there now, for all layers."""
        self.position.add_(count)
        self._show()

    def _show(self) -> None:
        self.mask.zero_().masked_fill_(self._positions > self.position, float("-inf"))
