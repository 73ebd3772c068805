"""Taking back what runs did to an album."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from autotag.album_state import Ledger, locked, state_folder
from autotag.batch.recovery import clear_unfinished_outputs, rename_in_ledger
from autotag.batch.run import JOURNAL, LEDGER
from autotag.batch.writing import reason_of
from autotag.errors import AutotagError, ConfigError
from autotag.file_changes import RenameChange, clear_leftovers
from autotag.journal import Journal
from autotag.sources import album_root

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    dry_run: bool = False,
    listener: Callable[[FileChange], None] = lambda _: None,
) -> UndoSummary:
    """Takes back everything that runs wrote in an album, newest first; also after a run that was killed.

    Files are brought back byte for byte, with their names. Where somebody edited a file since, only the
    machine's tags are removed from metadata, and other files are left as they are; the summary says so.

    Args:
        source: what was tagged, as it was named then; of a list or glob, the folder that it was in.
        state: the folder that was given to the run.
        dry_run: go through what would be taken back, and do nothing.
        listener: is told of each step.

    Raises:
        ConfigError: no run is known here, or one is at work.
    """
    root, key = album_root([source] if isinstance(source, (str, PathLike)) else source)
    folder = state_folder(key, Path(state) if state else None)
    if not (folder / JOURNAL).exists():
        raise ConfigError(f"no run of autotag is known in {str(key)!r}; there is nothing to undo.")
    summary = UndoSummary()
    with (
        locked(root, folder),
        closing(Ledger(folder / LEDGER)) as ledger,
        Journal(folder / JOURNAL) as journal,
    ):
        if dry_run:
            for _, change in journal.newest_first():
                listener(change)
                summary.steps += 1
            return summary
        _Undo(journal, ledger, root, summary).run(listener)
    return summary


@dataclass(slots=True)
class _Undo:
    journal: Journal
    ledger: Ledger
    root: Path
    summary: UndoSummary

    def run(self, listener: Callable[[FileChange], None]) -> None:
        clear_unfinished_outputs(self.ledger)
        self.ledger.forget_writing()  # first, so that a run after a crash in here looks at every file again
        taken_back: list[int] = []
        for number, change in self.journal.newest_first():
            listener(change)
            if self._take_back(change):
                taken_back.append(number)
            if len(taken_back) >= _MARKED_TOGETHER:
                self.journal.undone(taken_back)
                taken_back = []
        self.journal.undone(taken_back)

    def _take_back(self, change: FileChange) -> bool:
        try:
            self.summary.notes += change.undo()
            clear_leftovers(change)
        except (AutotagError, OSError) as error:
            self.summary.errors.append((str(change.paths[0]), reason_of(error)))
            return False
        if isinstance(change, RenameChange):
            source, target = change.moves[0]
            rename_in_ledger(self.ledger, self.root, target, source)
        self.summary.steps += 1
        return True
