"""One run over an album: find new or changed photographs, tag them, write, record what was done."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from autotag.albums.album_writers import make_writers
from autotag.albums.in_hand import Hand, PhotoInHand
from autotag.albums.outputs import check_outputs, write_outputs
from autotag.albums.plan_writer import PlanWriter
from autotag.albums.recovery import recover
from autotag.albums.reports import AlbumSummary, PhotoReport, Silent
from autotag.albums.rules import AlbumRules, own_paths, own_spellings
from autotag.albums.settings import settings_of
from autotag.albums.sources import Photo, find_album
from autotag.albums.state.identity import JOURNAL, LEDGER, check_state, claim_state
from autotag.albums.state.journal import Journal
from autotag.albums.state.ledger import Entry, Ledger, locked, state_folder
from autotag.albums.writing import Task, carry_out, plan
from autotag.errors import AutotagError, ConfigError, UnknownNameError
from autotag.files.file_states import lies_in
from autotag.metadata import read_existing, read_packet, sidecars_of
from autotag.metadata.pixel_digest import pixel_digest
from autotag.protocols import WritesSometimes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from os import PathLike

    from autotag.albums.album_writers import Output, WriterChoice, Writers
    from autotag.albums.reports import Indexer, Listener
    from autotag.albums.sources import Album
    from autotag.metadata.keywords import KeywordPath, Keywords
    from autotag.pipeline.pipeline import Pipeline
    from autotag.protocols import AlbumWriter
    from autotag.records import Result

_GROUP = 16  # photographs that are journalled and written together
_LONGEST_WAIT = 2.0  # seconds after which fewer are written
DISK_FULL = "the disk is full"
"""Why a run stopped."""
_INDEX = "index"
_UNCHANGED, _TO_TAG, _TO_WRITE, _TO_SKIP = 0, 1, 2, 3


def tag_folder(
    source: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    pipeline: Pipeline,
    writers: Sequence[str | WriterChoice | AlbumWriter] = ("xmp",),
    rules: AlbumRules | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    follow_symlinks: bool = False,
    state: str | PathLike[str] | None = None,
    model: str = "",
    redo: bool = False,
    dry_run: bool = False,
    plan_file: str | PathLike[str] | None = None,
    adopt: bool = False,
    indexer: Indexer | None = None,
    aside: Collection[str] = (),
    listener: Listener | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> AlbumSummary:
    """Tag every photograph of an album and write what was found.

    An interrupted run continues where it stopped when it is started again. Photographs
    that are as an earlier run left them are not looked at again; what the models found is kept, so that other
    writers or rules need no models.

    Args:
        source: a folder, a zip archive, a glob, or a list of files and globs.
        pipeline: what tags.
        writers: names, names with options, or writers of your own that write beside photographs.
        rules: applied to the tags before they are written.
        include: glob patterns; a photograph has to match one of them.
        exclude: glob patterns of what to leave out.
        follow_symlinks: whether to enter folders that links in the album lead to, and to write there. With
            a plan, or a state inside the album, nothing is written outside the album.
        state: where ledger and journal are kept; see ``autotag.albums.state.ledger.state_folder``.
        model: recorded with each tag as its source.
        redo: look at every photograph again.
        dry_run: report what would be done, and do nothing.
        plan_file: write what would be done into this file, for ``apply_plan``; change nothing else.
        adopt: use a state of another folder, or one that another machine or user wrote.
        indexer: is told what was found in each photograph; not with ``dry_run`` or ``plan_file``.
        aside: names of stages that work for the indexer only: with or without them, an unchanged photograph
            is unchanged.
        listener: is told how it goes.
        stop: asked after each photograph; True ends the run once the group in hand is written.

    Raises:
        ConfigError: it cannot run: a bad option, no image in the album, another run at work, a file of
            results that is not ours, a state of another album or by somebody else.
        ImageReadError: the source does not exist.
        StageBrokenError: a stage fails on every photograph. What was done before is safe.
        OSError: the journal or ledger cannot be written. What was done before is safe.
    """
    sources = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    album = find_album(sources, include=include, exclude=exclude, follow_symlinks=follow_symlinks)
    if indexer is not None and (album.is_archive or dry_run or plan_file is not None):
        raise ConfigError(
            "an index holds files: not photographs in an archive, and nothing that is planned only."
        )
    chosen = make_writers(writers, album, model=model)
    if rules is not None:
        _check_moderation(rules, pipeline, chosen, is_indexed=indexer is not None)
    folder = state_folder(album.key, Path(state) if state else None)
    writes = not dry_run and plan_file is None
    with ExitStack() as stack:
        stack.callback(chosen.close)
        check_state(folder, album.key, adopt=adopt)
        album.check_not_empty()  # the disk may not be mounted: nothing is recovered then, and no state begun
        if not dry_run:
            stack.enter_context(locked(album.root, folder))
            claim_state(folder, album.key)
        is_known = (folder / LEDGER).exists()
        ledger = stack.enter_context(
            closing(Ledger(folder / LEDGER if is_known or not dry_run else None, album=album.root))
        )
        # a journal inside the album is not trusted about places outside, so they could not be undone
        may_leave = follow_symlinks and plan_file is None and not lies_in(folder, album.root)
        linked = album.linked_folders() if may_leave else ()
        journal = None
        if writes:
            journal = stack.enter_context(Journal(folder / JOURNAL, album=album.root, linked=linked))
        notes = recover(journal, ledger, album.root) if journal is not None else []
        check_outputs(chosen.outputs, ledger, root=album.root, state=folder)
        planned = stack.enter_context(PlanWriter(Path(plan_file), album, chosen)) if plan_file else None
        places = (album.root, *linked)
        run = _Run(
            album, places, pipeline, chosen, rules or AlbumRules(), ledger, journal, planned, dry_run, redo,
            indexer, aside,
        )  # fmt: skip
        run.summary.notes += notes
        summary = run.go(listener or Silent(), stop)
    if planned is not None and planned.path != Path(plan_file or ""):
        summary.notes.append(
            f"{plan_file}: another program made this file during the run; the plan is in {planned.path}."
        )
    return summary


@dataclass(slots=True)
class _Run:
    """Keep the open files of one ``tag_folder`` call."""

    album: Album
    places: tuple[Path, ...]
    pipeline: Pipeline
    writers: Writers
    rules: AlbumRules
    ledger: Ledger
    journal: Journal | None
    planned: PlanWriter | None
    dry_run: bool
    redo: bool
    indexer: Indexer | None
    aside: Collection[str]
    settings: str = ""
    wanted: str = ""
    mine: dict[str, str] = field(default_factory=dict)
    my_paths: dict[str, str] = field(default_factory=dict)
    summary: AlbumSummary = field(default_factory=AlbumSummary)
    group: list[tuple[Task, PhotoInHand, Entry, Result]] = field(default_factory=list)
    hand: Hand = field(init=False)
    since: float = 0.0

    def __post_init__(self) -> None:
        xmp = self.writers.xmp
        self.hand = Hand(metadata=bool(xmp), contents=any(writer.embed for writer in xmp))

    def go(self, listener: Listener, stop: Callable[[], bool]) -> AlbumSummary:
        """Run from the list of photographs to the result files."""
        self.settings, unseen = settings_of(self.pipeline, aside=self.aside)
        self.summary.notes += [
            f"every photograph is read, because changes of the pipeline cannot be detected: {why}."
            for why in unseen
        ]
        if self.rules.prefer_my_keywords:
            self._read_own_keywords()
        facts = {"rules": self.rules.to_dict(), "mine": self.mine, "my_paths": self.my_paths}
        self.wanted = self.writers.fingerprint(facts)
        if self.journal is not None:
            self.ledger.keep_writers(self.wanted, self.writers.described(), self.rules.to_dict())
        with self.ledger.transaction():
            self.ledger.list_photos((photo.name, self._state(photo)) for photo in self.album.photos())
        self.summary.unchanged = self.ledger.counted(_UNCHANGED)
        self.summary.nothing_to_do = self.ledger.counted(_TO_SKIP)
        due = self.ledger.counted(_TO_TAG) + self.ledger.counted(_TO_WRITE)
        self.summary.photos = self.summary.unchanged + self.summary.nothing_to_do + due
        if self.planned is not None:
            self.planned.begin(self.settings, self.wanted, self.rules.to_dict())
        listener.started(due, self.summary.unchanged)
        self._tag_and_write(listener, stop)
        if self.indexer is not None and not self.summary.stopped:
            photos = (photo.path for photo in self.album.photos() if photo.path is not None)
            self.indexer.finish(self._tagged(), photos, self.album.root)
        if self.journal is not None:
            write_outputs(
                self.writers.outputs,
                self._rows,
                root=self.album.root,
                ledger=self.ledger,
                journal=self.journal,
                summary=self.summary,
            )
        else:
            self.summary.outputs += [str(output.path) for output in self.writers.outputs]
        return self.summary

    def _tag_and_write(self, listener: Listener, stop: Callable[[], bool]) -> None:
        self.since = time.monotonic()
        with closing(cast("Any", self._found())) as found:
            for held, entry, result in found:
                self._take(held, entry, result, listener)
                if self.summary.stopped or stop():
                    break
        self._flush(listener)
        if not self.summary.stopped and stop():
            self.summary.stopped = "interrupted"

    def _found(self) -> Iterator[tuple[PhotoInHand, Entry | None, Result]]:
        """Yield each photograph that is due, with its result from the ledger or the models."""
        for name in self.ledger.listed(_TO_WRITE):
            result, entry = self.ledger.result(name), self.ledger.entry(name)
            if result is not None:
                held = PhotoInHand(self.album.photo(name), self.hand, has_result=True)
                held.pixels = entry.pixels if entry is not None else ""
                yield held, entry, result
        if self.ledger.counted(_TO_TAG) == 0:
            return
        waiting: deque[tuple[PhotoInHand, Entry | None]] = deque()
        images = self._images(waiting)
        with closing(cast("Any", self.pipeline.stream(images, on_error="record"))) as results:
            for result in results:
                held, entry = waiting.popleft()
                yield held, entry, replace(result, source=held.photo.name)

    def _images(self, waiting: deque[tuple[PhotoInHand, Entry | None]]) -> Iterator[Any]:
        """Yield images for the pipeline; add each photograph and its file's state to ``waiting``."""
        for name in self.ledger.listed(_TO_TAG):
            held = PhotoInHand(self.album.photo(name), self.hand)
            waiting.append((held, self._entry(held.photo)))
            yield held.image

    def _entry(self, photo: Photo, *, pixels: str = "") -> Entry | None:
        """Return the present state of a photograph's file and sidecars; None when it is gone."""
        try:
            facts = (photo.path or self.album.key).stat()
        except OSError:
            return None
        stamp = "" if photo.path is None else self.writers.sidecar_stamp(photo.path)
        return Entry(facts.st_size, facts.st_mtime_ns, pixels, self.settings, "", stamp)

    def _state(self, photo: Photo) -> int:
        """Return whether a photograph is unchanged, must be tagged, or only written for."""
        known, now = self.ledger.entry(photo.name), self._entry(photo)
        to_tag = _TO_TAG if self._is_written_for(photo) else _TO_SKIP
        if known is None or now is None or self.redo or known.settings != self.settings:
            return to_tag
        if _differ(known, now):
            pixels = self._pixels(photo)
            if not pixels or pixels != known.pixels:
                return to_tag
            self.ledger.keep(photo.name, replace(known, size=now.size, mtime_ns=now.mtime_ns))
        is_as_written = (known.written, known.sidecars) == (self.wanted, now.sidecars)
        is_done = is_as_written and not self._is_to_list
        return _UNCHANGED if is_done else _TO_WRITE

    def _is_written_for(self, photo: Photo) -> bool:
        """Return whether any writer, or the indexer, may want a photograph."""
        if self.writers.outputs or photo.path is None or self.indexer is not None:
            return True
        return any(
            not isinstance(writer, WritesSometimes) or writer.would_write(photo.path)
            for writer in self.writers.beside.values()
        )

    @property
    def _is_to_list(self) -> bool:
        """Return whether the plan needs a line for every photograph, for result files."""
        return self.planned is not None and bool(self.writers.outputs)

    def _pixels(self, photo: Photo) -> str:
        """Return a photograph's digest without metadata; empty if unreadable or in an archive."""
        try:
            return "" if photo.path is None else pixel_digest(photo.path.read_bytes())
        except OSError:
            return ""

    def _take(self, held: PhotoInHand, entry: Entry | None, result: Result, listener: Listener) -> None:
        """Add a photograph to the group; write the group when it is large or old enough."""
        photo = held.photo
        now = self._entry(photo)
        error = result.error
        if error is None and (entry is None or now is None or _differ(now, entry)):
            error = "it changed during the run; run again"
        if error is not None or now is None:
            held.let_go()
            self._report(PhotoReport(photo.name, "failed", error=error), listener)
            return
        ruled = self.rules.applied(result, self.mine, self.my_paths)
        task = Task(photo, ruled, pixels=held.pixels, read=held.facts, path=photo.path)
        self._leave_out(task)
        if self.journal is None:
            self._look(task, now, None if held.has_result else result, listener)
            held.let_go()
            return
        self.group.append((task, held, now, result))
        if len(self.group) >= _GROUP or time.monotonic() - self.since > _LONGEST_WAIT:
            self._flush(listener)

    def _leave_out(self, task: Task) -> None:
        """Note which writers the rules keep from a flagged photograph."""
        names = [*self.writers.beside, *(output.name for output in self.writers.outputs)]
        names += [_INDEX] if self.indexer is not None else []
        task.left_out = frozenset(name for name in names if not self.rules.allows(name, task.result))
        if task.left_out:
            why = ", ".join(
                f"{found.label} {found.probability:.2f}" for found in task.result.moderation if found.flagged
            )
            task.warnings.append(
                f"flagged ({why}); left out by the rules: {', '.join(sorted(task.left_out))}"
            )

    def _look(self, task: Task, now: Entry, result: Result | None, listener: Listener) -> None:
        """Report what would be done, and add it to the plan; record what the models found now, if any."""
        if not self.dry_run:
            now = replace(now, pixels=task.pixels or self._pixels(task.photo))
            self.ledger.keep(task.photo.name, now, result)
        by_writer = {}
        for name, writer in self.writers.beside.items():
            plan(task, {name: writer}, self.places)
            by_writer[name], task.planned = task.planned, []
        task.changes = [change.describe() for changes in by_writer.values() for change in changes]
        outputs = [output.name for output in self.writers.outputs if output.name not in task.left_out]
        if self.planned is not None and (task.changes or outputs):
            self.planned.write(task.photo, now, task.result, by_writer, outputs, left_out=task.left_out)
        report = task.report()
        is_planned = report.status == "written"
        self._report(replace(report, status="planned") if is_planned else report, listener)

    def _flush(self, listener: Listener) -> None:
        """Write for the current group, and record that it is done."""
        group, self.group, self.since = self.group, [], time.monotonic()
        if not group or self.journal is None:
            return
        steps = carry_out([task for task, *_ in group], self.writers.beside, self.journal, self.places)
        with self.ledger.transaction():
            for task, held, now, result in group:
                self._put_down(task, now, None if held.has_result else result)
                held.let_go()
        self.journal.done(steps)
        for task, *_ in group:
            if self.indexer is not None and task.path is not None:
                if _INDEX not in task.left_out:
                    self.indexer.found(task.path, task.result)
                else:
                    for path in {task.photo.path or task.path, task.path}:
                        self.indexer.left_out(path)
            self._report(task.report(), listener)
        if any(task.disk_full for task, *_ in group):
            self.summary.stopped = DISK_FULL

    def _put_down(self, task: Task, now: Entry, result: Result | None) -> None:
        """Record a photograph that was written for, and what the models found now, if any."""
        photo = task.photo
        if task.path is not None and task.path != photo.path:
            name = photo.name.rpartition("/")
            photo = Photo(f"{name[0]}{name[1]}{task.path.name}", task.path, task.path)
            self.ledger.rename(task.photo.name, photo.name)
        if task.is_touched:
            now = self._entry(photo) or now
        if task.changes and photo.path is not None:
            now = replace(now, sidecars=self.writers.sidecar_stamp(photo.path))
        written = "" if task.errors else self.wanted
        self.ledger.keep(
            photo.name, replace(now, pixels=task.pixels or self._pixels(photo), written=written), result
        )

    def _report(self, report: PhotoReport, listener: Listener) -> None:
        self.summary.count(report)
        listener.done(report)

    def _tagged(self) -> Iterator[tuple[Path, Result]]:
        """Yield file and result of each tagged photograph."""
        for name, result in self._rows():
            path = self.album.photo(name).path
            if path is not None and self.rules.allows(_INDEX, result):
                yield path, result

    def _rows(self, output: Output | None = None) -> Iterator[tuple[str, Result]]:
        """Yield name and result, after the rules, of each tagged photograph in album order."""
        for name, result in self.ledger.results(self.settings):
            if output is None or self.rules.allows(output.name, result):
                yield name, self.rules.applied(result, self.mine, self.my_paths)

    def _read_own_keywords(self) -> None:
        """Read the user's own keyword spellings and hierarchy from the album."""
        words: Counter[str] = Counter()
        paths: Counter[KeywordPath] = Counter()
        for photo in self.album.photos():
            if photo.path is not None:
                with suppress(AutotagError, OSError, ValueError):  # its writer will say what is wrong with it
                    found = keywords_of_people(photo.path)
                    words.update(found.flat)
                    paths.update(found.paths)
        self.mine, self.my_paths = own_spellings(words.items()), own_paths(paths.items())


def _check_moderation(rules: AlbumRules, pipeline: Pipeline, writers: Writers, *, is_indexed: bool) -> None:
    """Refuse rules for flagged photographs if nothing flags, and names of writers that the run lacks.

    Raises:
        ConfigError: the pipeline does not moderate.
        UnknownNameError: a writer of ``flagged_write`` is not in this run.
    """
    if rules.moderates and not any("moderation" in stage.provides for stage in pipeline.stages):
        raise ConfigError(
            "album rules: flagged_tag and flagged_write need moderation; add --moderate, or the stage "
            "moderate_images to the preset."
        )
    known = [*writers.beside, *(output.name for output in writers.outputs), *([_INDEX] if is_indexed else [])]
    for name in rules.flagged_write or ():
        if name not in known:
            raise UnknownNameError("writer of this run, in flagged_write:", name, known)


def keywords_of_people(path: Path) -> Keywords:
    """Return the keywords that people gave a photograph, in the file and its sidecars."""
    found = read_existing(path.read_bytes()).by_people
    for _, content in sidecars_of(path).existing:
        found |= read_packet(content).by_people
    return found


def _differ(now: Entry, before: Entry) -> bool:
    return (now.size, now.mtime_ns) != (before.size, before.mtime_ns)
