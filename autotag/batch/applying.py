"""Carrying out a plan that a person reviewed."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from autotag.album_plan import merged, read_plan
from autotag.album_state import Entry, Ledger, locked, state_folder
from autotag.batch.recovery import recover
from autotag.batch.reports import AlbumSummary, PhotoReport, Silent
from autotag.batch.run import JOURNAL, LEDGER
from autotag.batch.writers import WriterChoice, make_writers
from autotag.batch.writing import Task, carry_out
from autotag.errors import ConfigError
from autotag.journal import Journal
from autotag.pixel_digest import pixel_digest
from autotag.sources import Album, Photo
from autotag.writers.rename_writer import RenameWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from os import PathLike

    from autotag.album_plan import Plan, PlannedPhoto
    from autotag.batch.reports import Listener
    from autotag.file_changes import RenameChange
    from autotag.protocols import AlbumWriter, FileChange
    from autotag.records import Result

_GROUP = 16


def apply_plan(
    plan: str | PathLike[str],
    *,
    state: str | PathLike[str] | None = None,
    listener: Listener | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> AlbumSummary:
    """Carries out a plan, line by line, and nothing else. No model is needed.

    A photograph that changed since the plan was made is a failure of its own, and left as it is.

    Args:
        plan: the file that ``tag_folder(plan_file=...)`` wrote, as a person left it.
        state: the folder that was given to the run that made it.
        listener: is told how it goes.
        stop: asked after each group of photographs; True ends it.

    Raises:
        ConfigError: a line is wrong (nothing is done then), the album is gone, or another run is at work.
        OSError: the journal or ledger cannot be written. What was done before is safe.
    """
    checked = read_plan(plan)
    if not checked.album.is_dir():
        raise ConfigError(f"the album {str(checked.album)!r} of the plan is not there.")
    folder = state_folder(checked.album, Path(state) if state else None)
    with ExitStack() as stack:
        stack.enter_context(locked(checked.album, folder))
        ledger = stack.enter_context(closing(Ledger(folder / LEDGER)))
        journal = stack.enter_context(Journal(folder / JOURNAL))
        recover(journal, ledger, checked.album)
        writers = _planned_writers(checked, stack)
        return _Applying(checked, ledger, journal, writers).go(listener or Silent(), stop)


class _AsPlanned:
    """A writer that writes only for the photographs for which the plan names it."""

    def __init__(self, name: str, writer: AlbumWriter, photos: dict[Path, PlannedPhoto]) -> None:
        self._name, self._writer, self._photos = name, writer, photos

    def changes(self, photo: Path, result: Result, /) -> Sequence[FileChange]:
        return self._writer.changes(photo, result) if self._name in self._photos[photo].write else []


class _NamesAsPlanned(RenameWriter):
    """Gives photographs the names that stand in the plan."""

    photos: dict[Path, PlannedPhoto]

    def changes(self, photo: Path, _result: Result, /) -> Sequence[RenameChange]:
        planned = self.photos[photo]
        wanted = planned.rename_to if "rename" in planned.write else None
        return self.renamed_to(photo, wanted) if wanted else []


def _planned_writers(plan: Plan, stack: ExitStack) -> dict[str, AlbumWriter]:
    album = Album(plan.album, plan.album, False, lambda: iter(()))
    choices = [WriterChoice(name, options=options) for name, options in plan.writers.items()]
    made = make_writers(choices, album)
    stack.callback(made.close)
    photos = {plan.album / photo.file: photo for photo in plan.photos}
    writers: dict[str, AlbumWriter] = {}
    for name, writer in made.beside.items():
        if isinstance(writer, RenameWriter):
            naming = _NamesAsPlanned()
            naming.photos = photos
            writers[name] = naming
        else:
            writers[name] = _AsPlanned(name, writer, photos)
    return writers


@dataclass(slots=True)
class _Applying:
    plan: Plan
    ledger: Ledger
    journal: Journal
    writers: dict[str, AlbumWriter]

    def go(self, listener: Listener, stop: Callable[[], bool]) -> AlbumSummary:
        summary = AlbumSummary(photos=len(self.plan.photos))
        listener.started(len(self.plan.photos), 0)
        lines = iter(self.plan.photos)
        while group := list(islice(lines, _GROUP)):
            for report in self._reports(group):
                summary.count(report)
                listener.done(report)
            if stop():
                summary.stopped = "interrupted"
                break
        return summary

    def _reports(self, lines: Sequence[PlannedPhoto]) -> list[PhotoReport]:
        """Writes for a group of photographs."""
        reports, tasks = [], []
        for line in lines:
            why = self._objection(line)
            if why is None:
                tasks.append((line, self._task(line)))
            else:
                reports.append(PhotoReport(line.file, "failed", line.result, error=why))
        steps = carry_out([task for _, task in tasks], self.writers, self.journal)
        with self.ledger.transaction():
            for line, task in tasks:
                self._put_down(line, task)
        self.journal.done(steps)
        return [*reports, *(task.report() for _, task in tasks)]

    def _objection(self, line: PlannedPhoto) -> str | None:
        try:
            facts = (self.plan.album / line.file).stat()
        except OSError as error:
            return error.strerror or str(error)
        if (facts.st_size, facts.st_mtime_ns) != (line.size, line.mtime_ns):
            return "it changed since the plan was made; plan again"
        return None

    def _task(self, line: PlannedPhoto) -> Task:
        path = self.plan.album / line.file
        known = self.ledger.entry(line.file)
        is_same = known is not None and known.settings == self.plan.settings
        result = merged(line.result, self.ledger.result(line.file) if is_same else None)
        return Task(Photo(line.file, path, path), result, path=path)

    def _put_down(self, line: PlannedPhoto, task: Task) -> None:
        if task.path is None:
            return
        name = line.file
        if task.path.name != Path(line.file).name:
            name = Path(line.file).with_name(task.path.name).as_posix()
            self.ledger.rename(line.file, name)
        facts = task.path.stat()
        entry = Entry(
            facts.st_size,
            facts.st_mtime_ns,
            pixel_digest(task.path.read_bytes()),
            self.plan.settings,
            "" if task.errors else self.plan.wanted,
        )
        self.ledger.keep(name, entry, replace(task.result, source=name))
