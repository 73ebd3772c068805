"""What becomes of the failures of a stream: they are raised, or recorded until a stage counts as broken."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, NoReturn, cast

from autotag.errors import ImageReadError, StageBrokenError, StageError
from autotag.records import Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from autotag.pipeline.streaming import Outcome

BROKEN_AFTER = 8
"""A stage counts as broken after this many failures in a row."""


def raising(outcomes: Iterator[Outcome]) -> Iterator[Result]:
    """Yield results up to the first failure.

    Raises:
        ImageReadError: an image cannot be read.
        StageError: a stage failed on an image.
    """
    with closing(cast("Any", outcomes)):
        for _, outcome in outcomes:
            if not isinstance(outcome, Result):
                raise outcome
            yield outcome


def recorded(outcomes: Iterator[Outcome]) -> Iterator[Result]:
    """Yield a result for each image; one with ``error`` for a failure.

    Raises:
        StageBrokenError: a stage failed on ``BROKEN_AFTER`` images in a row, or on every image of a shorter
            stream of two or more.
    """
    watch = _Watch()
    with closing(cast("Any", outcomes)):
        for size, outcome in outcomes:
            if isinstance(outcome, Result):
                yield outcome
            else:
                yield Result(outcome.source, size, error=str(outcome))
            watch.see(outcome)
    watch.end()


class _Watch:
    """Tell a broken stage from bad images, by failures of one stage in a row."""

    def __init__(self) -> None:
        self._last: StageError | None = None
        self._run = 0
        self._all_one_run = True

    def see(self, outcome: Result | ImageReadError | StageError) -> None:
        """Count an outcome; ignore images that cannot be read, because they do not reach the stages.

        Raises:
            StageBrokenError: this is the eighth failure of one stage in a row.
        """
        if isinstance(outcome, ImageReadError):
            return
        if isinstance(outcome, Result) or (self._last and self._last.stage != outcome.stage):
            self._all_one_run = False
            self._run = 0
        self._last = outcome if isinstance(outcome, StageError) else None
        if self._last:
            self._run += 1
        if self._run >= BROKEN_AFTER:
            self._raise_broken("in a row")

    def end(self) -> None:
        """End the count.

        Raises:
            StageBrokenError: one stage failed on every image, and there were two or more.
        """
        if self._all_one_run and self._run > 1:
            self._raise_broken("and never succeeded")

    def _raise_broken(self, how: str) -> NoReturn:
        assert self._last is not None  # noqa: S101 - a run of failures ends with one
        last = self._last
        raise StageBrokenError(
            last.stage,
            last.source,
            f"stage {last.stage!r} failed on {self._run} images {how}: the stage is broken, not the images. "
            f"The last failure: {last}",
        ) from last.__cause__
