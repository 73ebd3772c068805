"""Saves the state of a training, so that it can resume after a kill."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from autotag.files.replacing import appearing


class Stateful(Protocol):
    """Describe a torch module or optimiser: an object whose state can be saved and restored."""

    def state_dict(self) -> Any:
        """Return the state."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Restore a state."""


@dataclass
class Checkpoint:
    """Keep the state of a training in one file, which is replaced at intervals.

    The file is written under another name and renamed, so that it is complete at any moment. The state of
    random generators is not saved: a trainer seeds them again for every step, from its plan's seed and the
    step's number.

    Args:
        file: the file; None saves nothing.
        every: least number of seconds between two saves.
    """

    file: Path | None
    every: float = 120.0
    _saved: float = field(init=False, repr=False, default_factory=time.monotonic)

    def resume(self, parts: Mapping[str, Stateful]) -> int:
        """Restore the saved states and return the number of steps done; 0 if nothing was saved."""
        if self.file is None or not self.file.is_file():
            return 0
        saved = torch.load(self.file, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved["parts"][name])
        step: int = saved["step"]
        return step

    def save(self, step: int, parts: Mapping[str, Stateful], *, now: bool = False) -> None:
        """Save the parts after a step if the last save is ``every`` seconds old; ``now`` saves always.

        Raises:
            OSError: the file cannot be written, because the disk is full or for another reason; the last
                saved state stays.
        """
        if self.file is None or (not now and time.monotonic() - self._saved < self.every):
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        states = {name: state.state_dict() for name, state in parts.items()}
        with appearing(self.file) as stream:
            try:
                torch.save({"step": step, "parts": states}, stream)
            except RuntimeError as error:  # PyTorch raises it while it handles the error of the stream
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
        self._saved = time.monotonic()


def seeded(generator: torch.Generator, *, seed: int, step: int) -> None:
    """Seed a generator, and torch's global one, for one step."""
    number = 2 * (seed * 1_000_003 + step)
    generator.manual_seed(number)
    torch.manual_seed(number + 1)
