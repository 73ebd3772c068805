"""Whether this process is a forked copy of one that had used models: they hang in it.

The copy has the locks of threads that it does not have, and OpenMP, which torch calculates with on a CPU,
waits in it for threads that are not there.
"""

from __future__ import annotations

import os

from autotag.errors import ForkedProcessError

_used_models_in: int | None = None


def note_use() -> None:
    """Put down that this process uses models."""
    global _used_models_in  # noqa: PLW0603 - of the process, as forking is
    _used_models_in = os.getpid()


def check_not_forked() -> None:
    """Refuse to go on in a forked copy.

    Raises:
        ForkedProcessError: models were used before this process was forked.
    """
    if is_forked():
        raise ForkedProcessError


def is_forked() -> bool:
    """Return whether models were used before this process was forked."""
    return _used_models_in not in {None, os.getpid()}
