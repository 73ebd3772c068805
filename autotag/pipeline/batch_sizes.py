"""The number of images that a stage gets at once: whole batches, and fewer after it ran out of memory."""

from __future__ import annotations

from collections import Counter

_GROW_AFTER = 32  # successful batches before a larger size is tried again after an out-of-memory error
_FINAL = 2  # a size that failed this often is not tried again


class BatchSize:
    """Keep the number of images that one stage gets at once. Not safe to use from several threads.

    Args:
        fixed: images at once, at least 1; None for whole batches.
        shrinks: whether the stage gets fewer images at once after it ran out of memory.
    """

    def __init__(self, fixed: int | None = None, *, shrinks: bool = True) -> None:
        self.shrinks = shrinks
        self._fixed = fixed
        self._ceiling: int | None = None
        self._failures: Counter[int] = Counter()
        self._successes = 0

    def of(self, count: int) -> int:
        """Return the number of images at once for a batch of ``count``."""
        return min(count, self._fixed or count, self._ceiling or count)

    def worked(self) -> None:
        """Note that a batch succeeded; after some, a larger size is tried again."""
        if self._ceiling is None:
            return
        self._successes += 1
        larger = 2 * self._ceiling
        if self._successes < _GROW_AFTER:
            return
        self._successes = 0
        if all(size > larger for size, times in self._failures.items() if times >= _FINAL):
            self._ceiling = larger

    def ran_out(self, size: int) -> None:
        """Note that ``size`` images at once ran out of memory, and halve the limit."""
        self._failures[size] += 1
        self._ceiling = max(1, size // 2)
        self._successes = 0
