"""Saving where a training stands, so that it goes on after it was killed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from autotag.files.replacing import appearing


class Stateful(Protocol):
    """Is a module or an optimiser of torch: its state can be taken and given back."""

    def state_dict(self) -> Any:
        """Return the state."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Take a state over."""


@dataclass
class Checkpoint:
    """One file that is replaced every now and then.

    The file is written aside and renamed, so that it is whole at any moment. Random numbers are not kept: a
    trainer seeds them anew for every step, from its plan's seed and the step's number.

    Args:
        file: where; None saves nothing.
        every: seconds between two saves.
    """

    file: Path | None
    every: float = 120.0
    _saved: float = field(init=False, repr=False, default_factory=time.monotonic)

    def resume(self, parts: Mapping[str, Stateful]) -> int:
        """Give the parts the states that were saved, and return the number of steps done; 0 for none."""
        if self.file is None or not self.file.is_file():
            return 0
        saved = torch.load(self.file, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved["parts"][name])
        step: int = saved["step"]
        return step

    def save(self, step: int, parts: Mapping[str, Stateful], *, now: bool = False) -> None:
        """Save the parts after a step, unless it was done a moment ago; ``now`` saves in any case."""
        if self.file is None or (not now and time.monotonic() - self._saved < self.every):
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        states = {name: state.state_dict() for name, state in parts.items()}
        with appearing(self.file) as stream:
            torch.save({"step": step, "parts": states}, stream)
        self._saved = time.monotonic()


def seeded(generator: torch.Generator, *, seed: int, step: int) -> None:
    """Seed a generator, and torch's own, for one step."""
    number = 2 * (seed * 1_000_003 + step)
    generator.manual_seed(number)
    torch.manual_seed(number + 1)
