"""Recover from an earlier run that was killed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from autotag.albums.state.changes import OutputChange
from autotag.albums.state.journal import LostStep
from autotag.albums.state.renaming import RenameChange
from autotag.albums.writing import DAMAGED, reason_of
from autotag.errors import AutotagError
from autotag.files.file_states import digest_of
from autotag.files.hidden_files import clear_leftovers
from autotag.files.system_calls import is_there
from autotag.protocols import KnowsContents

if TYPE_CHECKING:
    from collections.abc import Iterable

    from autotag.albums.state.journal import Journal
    from autotag.albums.state.ledger import Ledger
    from autotag.protocols import FileChange


def recover(journal: Journal, ledger: Ledger, root: Path) -> list[str]:
    """Finish the steps that a killed run left half done, and remove its hidden files.

    A renaming of several files, such as a photograph and its sidecars, is completed if one of them has its
    new name already. If that is impossible, it is reverted; if that is impossible too, undo tries it again.
    Other steps are either done or not, and the writers do what is missing. Problems never stop the run.

    Returns:
        Notes for the user, as whole sentences.
    """
    pending = journal.pending()
    contents = contents_of(change for _, change in pending if not isinstance(change, LostStep))
    for path in ledger.outputs():  # whose hidden files are begun before they are in the journal
        contents.setdefault(path, set()).add(ledger.output_digest(path))
    notes = [*journal.problems, *clear_leftovers(contents)]
    never_taken: list[int] = []
    for number, change in pending:
        if isinstance(change, LostStep):
            notes.append(f"skipped a step of a killed run: {change.reason}.")
        elif isinstance(change, RenameChange):
            is_taken, said = _renamed(change, ledger, root)
            notes += said
            never_taken += [] if is_taken else [number]
        elif isinstance(change, OutputChange) and _is_placed(change):
            ledger.keep_output(change.path, change.after)
    journal.failed(never_taken)
    journal.done({number for number, _ in pending}.difference(never_taken))
    return notes


def _renamed(change: RenameChange, ledger: Ledger, root: Path) -> tuple[bool, list[str]]:
    """Finish a renaming or revert it; return whether undo has to check it, and notes."""
    try:
        if is_away(change.paths[0].parent):
            return True, []
        if not change.has_begun():
            return False, []
        change.apply()
    except (AutotagError, OSError, *DAMAGED) as error:
        return _renamed_back(change, reason_of(error))
    rename_in_ledger(ledger, root, *change.moves[0])
    return True, []


def _renamed_back(change: RenameChange, why: str) -> tuple[bool, list[str]]:
    photo = change.paths[0].name
    try:
        change.undo()
    except (AutotagError, OSError, *DAMAGED) as error:
        return True, [
            f"{photo}: a killed run was renaming it, and its name could not be repaired: {reason_of(error)}."
        ]
    return False, [f"{photo}: a run was killed while renaming it; it keeps its name: {why}."]


def _is_placed(change: OutputChange) -> bool:
    try:
        return digest_of(change.path) == change.after
    except OSError:
        return False


def is_away(folder: Path) -> bool:
    """Return whether a folder of photographs is missing or empty, as when a disk is not mounted.

    Raises:
        OSError: the folder cannot be read.
    """
    if not is_there(folder):
        return True
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def contents_of(changes: Iterable[FileChange]) -> dict[Path, set[str]]:
    """Return each changed file with its known digests, before and after the change."""
    found: dict[Path, set[str]] = {}
    for change in changes:
        for path in change.paths:
            found.setdefault(path, set())
        if isinstance(change, KnowsContents):
            for path, digests in change.digests.items():
                found.setdefault(path, set()).update(digests)
    return found


def rename_in_ledger(ledger: Ledger, root: Path, old: Path, new: Path) -> None:
    """Record the new name of a photograph of the album."""
    names = [Path(os.path.relpath(path, root)).as_posix() for path in (old, new)]
    if ledger.entry(names[0]) is not None:
        ledger.rename(*names)
