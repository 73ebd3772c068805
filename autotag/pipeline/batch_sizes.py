"""How many images a stage gets at once: as set, or found by trial, and less after it ran out of memory."""

from __future__ import annotations

from collections import Counter

NEGLIGIBLE = 0.002
"""Seconds per image below which no size is looked for."""

_WORTH = 1.05  # a smaller size has to be so much faster to be preferred
_HOPELESS = 0.9  # a size so much slower ends the search
_GROW_AFTER = 32  # batches that went well before a size that memory took is tried once more
_FINAL = 2  # a size that failed so often is not tried again


class BatchSize:
    """The batch size of one stage. Not safe to use from several threads.

    Without a fixed size, whole batches are timed: the first warms up, the next goes through at once, the
    following ones in halves, quarters, and so on down the powers of two while that does not get
    slower. The fastest stays. Stages that take no time to speak of get whole batches.

    Args:
        fixed: images at once, at least 1; None to find out.
        searches: whether to find out by trial; else whole batches go through at once.
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
        """Images at once, for a batch of ``count``."""
        return min(count, self._size or count, self._ceiling or count)

    def worked(self, count: int, seconds: float, *, whole: bool) -> None:
        """A batch went through.

        Args:
            count: its images.
            seconds: the time that it took.
            whole: whether it was as large as batches get; others are not compared.
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
        """So many images at once were too many for the memory."""
        self._failures[size] += 1
        self._ceiling = max(1, size // 2)
        self._successes = 0
        self._settle()

    def _compare(self, count: int, rate: float) -> None:
        """Takes in the speed of the size on trial, in images per second, and goes on to the next."""
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
