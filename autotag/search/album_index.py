"""Fills an index in the same pass as the keywords of an album."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from autotag.relevance.embeddings import EMBEDDING
from autotag.search.incoming import stored_path
from autotag.search.updating import carry_out, embedding_only, make_plan, take_over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from autotag.pipeline.pipeline import Pipeline
    from autotag.records import Result
    from autotag.search.index import Index

_TOGETHER = 64
_LONGEST_WAIT = 2.0  # seconds after which fewer are added


@dataclass
class AlbumIndex:
    """What ``tag_folder`` tells about photographs, for an index.

    Args:
        index: to be filled.
        pipeline: of the album's run; its results hold vectors.
        failed: told why a photograph is not, or not wholly, in the index.
        stopped: asked between photographs whether to end early.

    Attributes:
        added: photographs that were added.
    """

    index: Index
    pipeline: Pipeline
    failed: Callable[[str], None] = lambda _reason: None
    stopped: Callable[[], bool] = lambda: False
    added: int = 0
    _waiting: list[Result] = field(init=False, repr=False, default_factory=list)
    _before: frozenset[bytes] | None = field(init=False, repr=False, default=None)
    _new: set[bytes] = field(init=False, repr=False, default_factory=set)  # paths that the run has put in
    _since: float = field(init=False, repr=False, default_factory=time.monotonic)

    def found(self, path: Path, result: Result) -> None:
        """Add what was found in a photograph, which nobody writes any more; without a vector, it is left."""
        if EMBEDDING not in result.extras:
            return
        self._waiting.append(replace(result, source=str(path)))
        if len(self._waiting) >= _TOGETHER or time.monotonic() - self._since > _LONGEST_WAIT:
            self.flush()

    def left_out(self, path: Path) -> None:
        """Remove a photograph that an earlier run added; one that is not in the index is ignored."""
        self.index.remove(path)

    def flush(self) -> None:
        """Commit what was found so far.

        Raises:
            SearchIndexError: the encoder is not the index's, or writing fails.
        """
        waiting, self._waiting, self._since = self._waiting, [], time.monotonic()
        if self._before is None:
            self._before = frozenset(self.index.known([], []))
        self._new |= {stored_path(result.source) for result in waiting} - self._before
        self.added += self.index.add(waiting, encoder_name=self._encoder_name)

    def finish(self, earlier: Iterable[tuple[Path, Result]], photos: Iterable[Path], root: Path) -> None:
        """Add what former runs found in unchanged photographs; follow moved and forget deleted ones.

        Args:
            earlier: photographs of the album and what is known of them.
            photos: all of them, as they are now.
            root: the album's folder.

        Raises:
            SearchIndexError: see ``flush``.
            ModelError: the encoder cannot be loaded for photographs that were tagged without one.
        """
        self.flush()
        plan = make_plan(self.index, list(map(str, photos)), [root], retry_errors=True, just_added=self._new)
        carry_out(self.index, plan)
        due = {stored_path(image) for image in plan.due}
        missing = self._missing(earlier, due)
        first = next(missing, None)
        if first is None:
            return
        with embedding_only(self.pipeline) as embedding:
            added, _ = take_over(
                self.index, _all(first, missing), embedding, encoder_name=self._encoder_name, done=self._tell
            )
        self.added += added

    def _missing(self, earlier: Iterable[tuple[Path, Result]], due: set[bytes]) -> Iterator[Result]:
        """Yield the earlier results of photographs that the index lacks, or lacks the vector of."""
        for path, result in earlier:
            if self.stopped():
                return
            if stored_path(path) in due:
                yield replace(result, source=str(path))

    def _tell(self, result: Result) -> None:
        if result.error is not None:
            self.failed(result.error)

    @property
    def _encoder_name(self) -> str | None:
        return self.pipeline.encoder if isinstance(self.pipeline.encoder, str) else None


def _all(first: Result, others: Iterator[Result]) -> Iterator[Result]:
    yield first
    yield from others
