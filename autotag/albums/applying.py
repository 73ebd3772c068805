"""Apply a plan that a person reviewed."""

from __future__ import annotations

from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from autotag.albums.album_writers import WriterChoice, make_writers
from autotag.albums.outputs import check_outputs, write_outputs
from autotag.albums.plan import merged
from autotag.albums.plan_reader import read_plan
from autotag.albums.recovery import recover
from autotag.albums.reports import AlbumSummary, PhotoReport, Silent
from autotag.albums.run import DISK_FULL
from autotag.albums.sources import Photo, find_album
from autotag.albums.state.identity import JOURNAL, LEDGER, check_state, claim_state
from autotag.albums.state.journal import Journal
from autotag.albums.state.ledger import Entry, Ledger, locked, state_folder
from autotag.albums.writers.rename_writer import RenameWriter
from autotag.albums.writers.xmp_writer import XmpChange, XmpWriter
from autotag.albums.writing import Task, carry_out
from autotag.errors import ConfigError
from autotag.files.file_states import lies_in, sha256
from autotag.metadata.pixel_digest import pixel_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from os import PathLike

    from autotag.albums.album_writers import Output, Writers
    from autotag.albums.plan import Plan, PlannedPhoto
    from autotag.albums.reports import Listener
    from autotag.albums.state.renaming import RenameChange
    from autotag.protocols import AlbumWriter, FileChange
    from autotag.records import Result

_GROUP = 16
_ANY_CHANGE = " (in its format any change counts, also of keywords)"


def apply_plan(
    plan: str | PathLike[str],
    *,
    state: str | PathLike[str] | None = None,
    adopt: bool = False,
    listener: Listener | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> AlbumSummary:
    """Apply a plan line by line, and nothing else. This needs no model.

    A photograph that changed since the plan was made is reported as failed and left unchanged; a
    change of its metadata alone is allowed in JPEG, PNG and WebP. After an interruption, the next call skips
    what is done.

    Args:
        plan: the file that ``tag_folder(plan_file=...)`` wrote, as a person left it.
        state: the folder that was given to the run that made it.
        adopt: use a state of another folder, or one that another machine or user wrote.
        listener: is told how it goes.
        stop: asked after each group of photographs; True ends it.

    Raises:
        ConfigError: a line is wrong (nothing is done then), the album is gone, or another run is at work.
        OSError: the journal or ledger cannot be written. What was done before is safe.
    """
    checked = read_plan(plan)
    if not checked.album.is_dir():
        raise ConfigError(f"the album {str(checked.album)!r} of the plan does not exist.")
    folder = state_folder(checked.album, Path(state) if state else None)
    with ExitStack() as stack:
        check_state(folder, checked.album, adopt=adopt)
        stack.enter_context(locked(checked.album, folder))
        claim_state(folder, checked.album)
        ledger = stack.enter_context(closing(Ledger(folder / LEDGER, album=checked.album)))
        journal = stack.enter_context(Journal(folder / JOURNAL, album=checked.album))
        summary = AlbumSummary(notes=recover(journal, ledger, checked.album))
        made = _writers(checked)
        stack.callback(made.close)
        check_outputs(made.outputs, ledger, root=checked.album, state=folder)
        ledger.keep_writers(checked.wanted, checked.writers, checked.rules.to_dict())
        return _Applying(checked, ledger, journal, made, summary).go(listener or Silent(), stop)


class _AsPlanned:
    """Write only for the photographs whose line in the plan names this writer."""

    def __init__(
        self,
        name: str,
        writer: AlbumWriter,
        photos: Mapping[Path, PlannedPhoto],
        found: Mapping[Path, Result | None],
    ) -> None:
        self._name, self._writer, self._photos, self._found = name, writer, photos, found

    def changes(self, photo: Path, result: Result, /) -> Sequence[FileChange]:
        line = self._photos[photo]
        if self._name not in line.write:
            return []
        if isinstance(self._writer, XmpWriter):
            found = self._found[photo]
            return self._writer.changes(
                photo,
                result,
                added=line.added,
                rejected=line.refused(found),
                found=line.found or found,
            )
        return self._writer.changes(photo, result)


class _NamesAsPlanned(RenameWriter):
    """Rename photographs as the plan says."""

    photos: Mapping[Path, PlannedPhoto]

    def changes(self, photo: Path, _result: Result, /) -> Sequence[RenameChange]:
        planned = self.photos[photo]
        wanted = planned.rename_to if "rename" in planned.write else None
        return self.renamed_to(photo, wanted) if wanted else []


def _writers(plan: Plan) -> Writers:
    """Make the writers that the plan's first line names."""
    beside = [WriterChoice(name, options=options) for name, options in plan.writers.items()]
    outputs = [WriterChoice(name, one.file, one.options) for name, one in plan.outputs.items()]
    return make_writers([*beside, *outputs], find_album([plan.album]))


def _as_planned(
    beside: Mapping[str, AlbumWriter],
    photos: Mapping[Path, PlannedPhoto],
    found: Mapping[Path, Result | None],
) -> dict[str, AlbumWriter]:
    """Restrict each writer to the photographs whose lines name it."""
    writers: dict[str, AlbumWriter] = {}
    for name, writer in beside.items():
        if isinstance(writer, RenameWriter):
            naming = _NamesAsPlanned()
            naming.photos, naming.linked = photos, writer.linked
            writers[name] = naming
        else:
            writers[name] = _AsPlanned(name, writer, photos, found)
    return writers


@dataclass(slots=True)
class _Applying:
    plan: Plan
    ledger: Ledger
    journal: Journal
    writers: Writers
    summary: AlbumSummary
    done: dict[str, PlannedPhoto] = field(default_factory=dict)  # by the name that the photograph has now
    befores: dict[str | None, str | None] | None = (
        None  # digests of contents before steps, by those after them
    )

    def go(self, listener: Listener, stop: Callable[[], bool]) -> AlbumSummary:
        """Apply the lines, one group at a time, and write the result files."""
        summary = self.summary
        summary.photos = len(self.plan.photos)
        listener.started(len(self.plan.photos), 0)
        lines = iter(self.plan.photos)
        while group := list(islice(lines, _GROUP)):
            for report in self._reports(group, summary):
                summary.count(report)
                listener.done(report)
            if not summary.stopped and stop():
                summary.stopped = "interrupted"
            if summary.stopped:
                break
        self._write_outputs(summary)
        return summary

    def _write_outputs(self, summary: AlbumSummary) -> None:
        with self.ledger.transaction():
            self.ledger.list_photos((name, 0) for name in self.done)
        write_outputs(
            self.writers.outputs,
            self._rows,
            root=self.plan.album,
            ledger=self.ledger,
            journal=self.journal,
            summary=summary,
        )

    def _rows(self, output: Output) -> Iterator[tuple[str, Result]]:
        """Yield name and result of each photograph whose line names this file's writer."""
        for name, result in self.ledger.results(self.plan.settings):
            if output.name in self.done[name].write:
                yield name, result

    def _reports(self, lines: Sequence[PlannedPhoto], summary: AlbumSummary) -> list[PhotoReport]:
        """Write for a group of photographs."""
        reports = []
        tasks: list[tuple[PlannedPhoto, Task]] = []
        for line in lines:
            place = self._found(line)
            if isinstance(place, Path):
                tasks.append((line, self._task(line, place)))
            else:
                reports.append(PhotoReport(line.file, "failed", line.result, error=place))
        photos = {task.photo.path: line for line, task in tasks if task.photo.path}
        found = {path: self._known(path) for path in photos}
        writers = _as_planned(self.writers.beside, photos, found)
        steps = carry_out([task for _, task in tasks], writers, self.journal, (self.plan.album,))
        with self.ledger.transaction():
            for line, task in tasks:
                self._put_down(line, task)
        self.journal.done(steps)
        if any(task.disk_full for _, task in tasks):
            summary.stopped = DISK_FULL
        return [*reports, *(task.report() for _, task in tasks)]

    def _found(self, line: PlannedPhoto) -> Path | str:
        """Return a line's photograph, under its new name if already renamed; or why it is skipped."""
        path = self.plan.album / line.file
        if not lies_in(path.parent, self.plan.album):
            return "its path goes through a link that leads out of the album"
        try:
            if self._is_as_planned(line, path):
                return path
            exact = pixel_digest(content := path.read_bytes()) == sha256(content)
            why = f"it changed since the plan was made{_ANY_CHANGE if exact else ''}; plan again"
        except OSError as error:
            why = error.strerror or str(error)
        if line.rename_to is not None and "rename" in line.write:
            with suppress(OSError):
                if self._is_as_planned(line, renamed := path.with_name(line.rename_to)):
                    return renamed
        return why

    def _is_as_planned(self, line: PlannedPhoto, path: Path) -> bool:
        """Return whether the file is the line's picture, by size and time, else by digest.

        For formats whose digest covers metadata, ledger and journal know how an earlier run left the file.
        """
        facts = path.stat()
        now = (facts.st_size, facts.st_mtime_ns)
        if now == (line.size, line.mtime_ns):
            return True
        known = self.ledger.entry(path.relative_to(self.plan.album).as_posix())
        if known is not None and (known.settings, known.written, known.size, known.mtime_ns) == (
            self.plan.settings, self.plan.wanted, *now
        ):  # fmt: skip
            return True
        content = path.read_bytes()
        digest = pixel_digest(content)
        return digest == line.digest or (digest == sha256(content) and self._led_to(digest, line.digest))

    def _led_to(self, digest: str, planned: str) -> bool:
        """Return whether steps in the journal, as of a killed run, made this content of the planned one."""
        if self.befores is None:
            steps = (step for _, step in self.journal.newest_first() if isinstance(step, XmpChange))
            files = (one for step in steps for one in step.change.files)
            self.befores = {one.sha256_after: one.sha256_before for one in files}
        seen: set[str | None] = set()
        now: str | None = digest
        while now is not None and now not in seen:
            seen.add(now)
            now = self.befores.get(now)
        return planned in seen

    def _task(self, line: PlannedPhoto, path: Path) -> Task:
        name = path.relative_to(self.plan.album).as_posix()
        return Task(Photo(name, path, path), merged(line, self._known(path)), path=path)

    def _known(self, path: Path) -> Result | None:
        """Return what the ledger holds for a photograph with the plan's settings, without denied boxes."""
        name = path.relative_to(self.plan.album).as_posix()
        known = self.ledger.entry(name)
        is_same = known is not None and known.settings == self.plan.settings
        result = self.ledger.result(name) if is_same else None
        return result and replace(result, detections=self.plan.rules.boxes(result))

    def _put_down(self, line: PlannedPhoto, task: Task) -> None:
        if task.path is None:
            return
        name = task.path.relative_to(self.plan.album).as_posix()
        if name != task.photo.name:
            self.ledger.rename(task.photo.name, name)
        facts = task.path.stat()
        entry = Entry(
            facts.st_size,
            facts.st_mtime_ns,
            task.pixels or pixel_digest(task.path.read_bytes()),
            self.plan.settings,
            "" if task.errors else self.plan.wanted,
            self.writers.sidecar_stamp(task.path),
        )
        self.ledger.keep(name, entry, replace(task.result, source=name), by_person=True)
        self.done[name] = line
