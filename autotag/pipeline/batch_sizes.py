"""The batch size of a stage: fixed, or measured, and smaller after the stage ran out of memory."""

from __future__ import annotations

from collections import Counter

NEGLIGIBLE = 0.002
"""Seconds per image; a faster stage gets whole batches without a search."""

_WORTH = 1.05  # a smaller size is preferred only if it is faster by this factor
_HOPELESS = 0.9  # the search ends at a size whose speed is below this share of the best
_GROW_AFTER = 32  # successful batches before a larger size is tried again after an out-of-memory error
_FINAL = 2  # a size that failed this often is not tried again


class BatchSize:
    """Keep the batch size of one stage. Not safe to use from several threads.

    Without a fixed size, whole batches are timed. The first warms up, the next runs at full size, the
    following ones at halves, quarters and smaller powers of two, until that gets slower. The fastest size is
    kept. Stages that take almost no time get whole batches.

    Args:
        fixed: images at once, at least 1; None to measure.
        searches: True to measure; False for whole batches at once.
    """

    def __init__(self, fixed: int | None = None, *, searches: bool = True) -> None:
        self._size = fixed
        self._searching = fixed is None and searches
        self._warm = False
        self._best: tuple[float, int | None] = (0.0, None)
        self._ceiling: int | None = None
        self._failures: Counter[int] = Counter()
        self._successes = 0

    def of(self, count: int) -> int:
        """Return the number of images at once for a batch of ``count``."""
        return min(count, self._size or count, self._ceiling or count)

    def worked(self, count: int, seconds: float, *, whole: bool) -> None:
        """Note that a batch succeeded.

        Args:
            count: its number of images.
            seconds: the time that it took.
            whole: whether it was a full batch; smaller ones are not compared.
        """
        self._grow()
        if not (self._searching and whole):
            return
        if seconds < NEGLIGIBLE * count:
            self._settle()
        elif self._warm:
            self._compare(count, count / seconds)
        self._warm = True

    def ran_out(self, size: int) -> None:
        """Note that ``size`` images at once ran out of memory, and halve the limit."""
        self._failures[size] += 1
        self._ceiling = max(1, size // 2)
        self._successes = 0
        self._settle()

    def _compare(self, count: int, rate: float) -> None:
        """Note the measured speed of the current size, in images per second, and select the next size."""
        size = self._size or count
        if rate > self._best[0] * _WORTH:
            self._best = (rate, self._size)
        if size == 1 or rate < self._best[0] * _HOPELESS:
            self._settle()
        else:
            self._size = 1 << ((size - 1).bit_length() - 1)

    def _settle(self) -> None:
        if self._searching:
            self._size = self._best[1]
            self._searching = False

    def _grow(self) -> None:
        if self._ceiling is None:
            return
        self._successes += 1
        larger = 2 * self._ceiling
        if self._successes < _GROW_AFTER:
            return
        self._successes = 0
        if all(size > larger for size, times in self._failures.items() if times >= _FINAL):
            self._ceiling = larger
