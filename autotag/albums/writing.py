"""Make the changes that writers plan: journal first, then file by file."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from autotag.albums.reports import PhotoReport
from autotag.albums.state.change_records import check_kind, leads_out
from autotag.albums.state.renaming import RenameChange
from autotag.albums.writers.rename_writer import RenameWriter
from autotag.albums.writers.xmp_writer import XmpChange, XmpWriter
from autotag.errors import AutotagError, MetadataError
from autotag.metadata.pixel_digest import pixel_digest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from autotag.albums.reports import Status
    from autotag.albums.sources import Photo
    from autotag.albums.state.journal import Journal
    from autotag.metadata.photograph import ReadPhotograph
    from autotag.protocols import AlbumWriter, FileChange
    from autotag.records import Result

DAMAGED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""Errors that changes from an edited journal may raise, besides their own."""
_THREADS = 8
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass(slots=True)
class Task:
    """Keep one photograph to write for, and the outcome.

    Attributes:
        photo: the photograph.
        result: what was found, after the rules.
        planned: changes that are about to be made.
        changes: what was done, on one line each.
        warnings: what the user should know.
        errors: what failed.
        is_touched: whether the photograph itself was changed.
        pixels: the digest of the photograph as it was read, or as it was written; empty when unknown.
        read: the photograph as it was read.
        path: where it is now.
        disk_full: whether something failed for lack of room.
        left_out: names of writers that do not write for it.
    """

    photo: Photo
    result: Result
    planned: list[FileChange] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    is_touched: bool = False
    pixels: str = ""
    read: ReadPhotograph | None = None
    path: Path | None = None
    disk_full: bool = False
    left_out: frozenset[str] = frozenset()

    def report(self) -> PhotoReport:
        """Return the outcome; the status follows from errors and changes."""
        status: Status = "failed" if self.errors else "written" if self.changes else "nothing to do"
        error = "; ".join(self.errors) or None
        return PhotoReport(
            self.photo.name, status, self.result, tuple(self.changes), tuple(self.warnings), error
        )


def plan(task: Task, writers: Mapping[str, AlbumWriter], places: Collection[Path]) -> None:
    """Collect each writer's changes; a writer that fails leaves its reason in ``task.errors``.

    Args:
        task: the photograph.
        writers: by name.
        places: the album's folder and the folders that links lead to; nothing is written elsewhere.
    """
    assert task.path is not None  # noqa: S101 - photographs in archives have no writers beside them
    for name, writer in writers.items():
        if name in task.left_out:
            continue
        try:
            if isinstance(writer, XmpWriter):
                changes: Sequence[FileChange] = writer.changes(task.path, task.result, read=task.read)
            else:
                changes = writer.changes(task.path, task.result)
            for change in changes:
                _check(change, places)
            task.planned += changes
        except (AutotagError, OSError) as error:
            task.errors.append(f"{name}: {reason_of(error)}")


def _check(change: FileChange, places: Collection[Path]) -> None:
    """Refuse a change that could not be undone."""
    check_kind(change)
    outside = leads_out(change, places)
    if outside is not None:
        raise MetadataError(
            str(outside), "it is outside the album, or a link leads out of the album; nothing is written"
        )


def carry_out(
    tasks: Sequence[Task], writers: Mapping[str, AlbumWriter], journal: Journal, places: Collection[Path]
) -> list[int]:
    """Write for some photographs: what goes beside or into them first, then new names.

    What is planned for one batch of photographs is journalled together. A file that two of them share is
    planned for the second one after it was written for the first.

    Returns:
        The steps in the journal that were taken, to be marked as done once the ledger has them.

    Raises:
        OSError: the journal cannot be written. Nothing is done that is not in it.
    """
    renaming = {name: writer for name, writer in writers.items() if isinstance(writer, RenameWriter)}
    others = {name: writer for name, writer in writers.items() if name not in renaming}
    turns = [turn for turn in (others, renaming) if turn]
    return [step for turn in turns for step in _carry_out(tasks, turn, journal, places)]


def _carry_out(
    tasks: Sequence[Task], writers: Mapping[str, AlbumWriter], journal: Journal, places: Collection[Path]
) -> list[int]:
    steps: list[int] = []
    batch: list[Task] = []
    busy: set[str] = set()
    for task in tasks:
        if task.errors and any(isinstance(writer, RenameWriter) for writer in writers.values()):
            continue  # it keeps its name until all that goes with it is there
        errors = len(task.errors)
        plan(task, writers, places)
        paths = {os.path.realpath(path) for change in task.planned for path in change.paths}
        if paths & busy:
            steps += _flush(batch, journal)
            batch, busy = [], set()
            task.planned.clear()
            del task.errors[errors:]
            plan(task, writers, places)
        batch.append(task)
        busy |= paths
    return steps + _flush(batch, journal)


def _flush(tasks: Sequence[Task], journal: Journal) -> list[int]:
    steps = [change for task in tasks for change in task.planned]
    numbers = journal.begin(steps)
    taken = [went for several in _in_threads(tasks) for went in several]
    journal.failed(number for number, went in zip(numbers, taken, strict=True) if not went)
    for task in tasks:
        task.planned.clear()
    return [number for number, went in zip(numbers, taken, strict=True) if went]


def _in_threads(tasks: Sequence[Task]) -> list[list[bool]]:
    """Make the changes in threads, in order for each photograph: most of the time is disk waits."""
    if sum(len(task.planned) for task in tasks) < 2:
        return [_apply_all(task) for task in tasks]
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(_apply_all, tasks))


def _apply_all(task: Task) -> list[bool]:
    return [_apply(task, change) for change in task.planned]


def _apply(task: Task, change: FileChange) -> bool:
    """Make one change; return False when certainly nothing was changed."""
    try:
        said = change.apply()
    except (AutotagError, OSError) as error:
        reason = reason_of(error)
        is_bare = isinstance(error, OSError) and not error.filename
        task.errors.append(f"{change.paths[0].name}: {reason}" if is_bare else reason)
        task.disk_full |= isinstance(error, OSError) and error.errno in _NO_ROOM
        return _may_have_begun(change, error)
    task.warnings += said
    task.changes.append(change.describe())
    if isinstance(change, RenameChange):
        task.path = change.moves[0][1]
    elif task.path is not None and os.path.realpath(task.path) in map(str, change.paths):
        task.is_touched = True
        content = change.new_photograph if isinstance(change, XmpChange) else None
        task.pixels = "" if content is None else pixel_digest(content)
    return True


def _may_have_begun(change: FileChange, error: Exception) -> bool:
    """Return whether a failed change may have changed something, so that undo must check."""
    if isinstance(change, RenameChange):
        try:
            return change.has_begun()
        except OSError:
            return True
    return not isinstance(error, AutotagError) or len(change.paths) > 1


def reason_of(error: BaseException) -> str:
    """Return an error on one line, with the file where the system names it."""
    if isinstance(error, DAMAGED) and not isinstance(error, AutotagError):
        return f"its entry in the journal is damaged: {error!r}"
    if isinstance(error, OSError) and error.strerror:
        reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        ways = "embed the tags (--embed), or give the photograph a shorter name"
        return f"{reason}; {ways}" if error.errno == errno.ENAMETOOLONG else reason
    return str(error)
