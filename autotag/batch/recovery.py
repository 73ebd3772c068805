"""What a run does about an earlier one that was killed."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from autotag.file_changes import OutputChange, RenameChange, clear_leftovers, digest_of
from autotag.metadata.safe_files import part_path

if TYPE_CHECKING:
    from autotag.album_state import Ledger
    from autotag.journal import Journal


def recover(journal: Journal, ledger: Ledger, root: Path) -> None:
    """Ends the steps that a killed run left half done, and removes its hidden files.

    Files that were about to get new names get them, if one of them has its own already: a photograph and its
    sidecars stay together. Other steps are either done or not; writers look and do what is missing.

    Raises:
        FileChangedError: a name was taken by another file meanwhile.
        OSError: a file cannot be moved.
    """
    clear_unfinished_outputs(ledger)
    pending = journal.pending()
    for _, change in pending:
        clear_leftovers(change)
        if isinstance(change, RenameChange) and change.has_begun():
            change.apply()
            rename_in_ledger(ledger, root, *change.moves[0])
        elif isinstance(change, OutputChange) and digest_of(change.path) == change.after:
            ledger.keep_output(change.path, change.after)
    journal.done(number for number, _ in pending)


def clear_unfinished_outputs(ledger: Ledger) -> None:
    """Removes files of results that a killed run had not put in their places yet."""
    for path in ledger.outputs():
        with suppress(OSError):
            part_path(path).unlink(missing_ok=True)


def rename_in_ledger(ledger: Ledger, root: Path, old: Path, new: Path) -> None:
    """A photograph of the album has a new name."""
    names = [Path(os.path.relpath(path, root)).as_posix() for path in (old, new)]
    if ledger.entry(names[0]) is not None:
        ledger.rename(*names)
