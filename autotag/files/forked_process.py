"""Detects a forked copy of a process that had used models, because models hang in such a copy.

The copy inherits locks held by threads that do not exist in it. OpenMP, which torch uses on a CPU, waits
there for threads that do not exist.
"""

from __future__ import annotations

import os

from autotag.errors import ForkedProcessError

_used_models_in: int | None = None


def note_use() -> None:
    """Record that this process uses models."""
    global _used_models_in  # noqa: PLW0603 - state of the process, as forking is
    _used_models_in = os.getpid()


def check_not_forked() -> None:
    """Refuse to use models in a forked copy of a process that used them.

    Raises:
        ForkedProcessError: models were used before this process was forked.
    """
    if is_forked():
        raise ForkedProcessError


def is_forked() -> bool:
    """Return True if models were used before this process was forked."""
    return _used_models_in not in {None, os.getpid()}
