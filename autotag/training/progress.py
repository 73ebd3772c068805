"""Reports the progress of trainers."""

from __future__ import annotations

from collections.abc import Callable

OnStep = Callable[[int, dict[str, float]], None]
"""Called after every step with its number, from 1, and its losses by name."""


def say_nothing(step: int, losses: dict[str, float]) -> None:
    """Ignore the progress."""
    del step, losses
