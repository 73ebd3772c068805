"""Taking back what runs did to an album."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from autotag.album_state import Ledger, locked, state_folder, state_folders
from autotag.batch.recovery import clear_unfinished_outputs, rename_in_ledger
from autotag.batch.run import JOURNAL, LEDGER
from autotag.batch.writing import reason_of
from autotag.errors import AutotagError, ConfigError
from autotag.file_changes import RenameChange, clear_leftovers
from autotag.journal import Journal, first_album
from autotag.sources import album_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from autotag.protocols import FileChange

_MARKED_TOGETHER = 64


@dataclass(slots=True)
class UndoSummary:
    """How undoing went.

    Attributes:
        steps: steps that were taken back, or had not been taken.
        notes: what the user should know, such as files that somebody edited since.
        errors: what could not be taken back, and why. It is tried again by the next undo.
    """

    steps: int = 0
    notes: list[str] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)


def undo_album(
    source: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    state: str | PathLike[str] | None = None,
    last: bool = False,
    dry_run: bool = False,
    listener: Callable[[FileChange], None] = lambda _: None,
) -> UndoSummary:
    """Takes back everything that runs wrote in an album, newest first; also after a run that was killed.

    Files are brought back byte for byte, with their names. Where somebody edited a file since, only the
    machine's tags are removed from metadata, and other files are left as they are; the summary says so.
    Where a step cannot be taken back, earlier ones on the same files wait for it.

    Args:
        source: what was tagged, as it was named then; of a list or glob, the folder that it was in.
        state: the folder that was given to the run.
        last: take back only the last run that still stands. Files of results that it replaced are removed,
            and made again by the next run.
        dry_run: go through what would be taken back, and do nothing.
        listener: is told of each step.

    Raises:
        ConfigError: no run is known here, or one is at work.
        OSError: journal or ledger cannot be read or written. What was taken back is safe.
    """
    root, key = album_root([source] if isinstance(source, (str, PathLike)) else source)
    folder = state_folder(key, Path(state) if state else None)
    if not (folder / JOURNAL).exists():
        raise ConfigError(f"no run of autotag is known in {str(key)!r}; there is nothing to undo.{_moved()}")
    summary = UndoSummary()
    with (
        locked(root, folder),
        closing(Ledger(folder / LEDGER, album=root)) as ledger,
        Journal(folder / JOURNAL, album=root) as journal,
    ):
        if dry_run:
            for _, change in journal.newest_first(last_run=last):
                listener(change)
                summary.steps += 1
            return summary
        _Undo(journal, ledger, root, summary).run(listener, last_run=last)
    return summary


def _moved() -> str:
    """Albums that are not any more where they were tagged, as a hint."""
    gone = list(islice(_albums_gone(), 3))
    if not gone:
        return ""
    ways = "; ".join(f"--state {str(folder)!r} if it was {album!r}" for album, folder in gone)
    return f" If it was moved since, name the state of its old place: {ways}."


def _albums_gone() -> Iterator[tuple[str, Path]]:
    for folder in state_folders():
        album = first_album(folder / JOURNAL)
        if album and not os.path.lexists(album):
            yield album, folder


@dataclass(slots=True)
class _Undo:
    journal: Journal
    ledger: Ledger
    root: Path
    summary: UndoSummary
    waiting: set[str] = field(default_factory=set)  # files with a step that could not be taken back

    def run(self, listener: Callable[[FileChange], None], *, last_run: bool) -> None:
        """Takes back step by step, and marks in the journal what was taken back."""
        clear_unfinished_outputs(self.ledger)
        self.ledger.forget_writing()  # first, so that a run after a crash in here looks at every file again
        taken_back: list[int] = []
        for number, change in self.journal.newest_first(last_run=last_run):
            listener(change)
            if self._take_back(change):
                taken_back.append(number)
            if len(taken_back) >= _MARKED_TOGETHER:
                self.journal.undone(taken_back)
                taken_back = []
        self.journal.undone(taken_back)

    def _take_back(self, change: FileChange) -> bool:
        files = set(map(_real_entry, change.paths))
        if files & self.waiting:
            self.waiting |= files
            reason = "what was done to it later has to be taken back first"
            self.summary.errors.append((str(change.paths[0]), reason))
            return False
        try:
            self.summary.notes += change.undo()
            clear_leftovers(change)
        except (AutotagError, OSError) as error:
            self.waiting |= files
            self.summary.errors.append((str(change.paths[0]), reason_of(error)))
            return False
        if isinstance(change, RenameChange):
            source, target = change.moves[0]
            rename_in_ledger(self.ledger, self.root, target, source)
        self.summary.steps += 1
        return True


def _real_entry(path: Path) -> str:
    """The place of a file, links on the way to it resolved."""
    return os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118
