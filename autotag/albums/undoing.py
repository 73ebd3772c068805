"""Undo what runs did to an album."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from glob import has_magic
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from autotag.albums.recovery import contents_of, is_away, recover, rename_in_ledger
from autotag.albums.sources import album_root
from autotag.albums.state.changes import OutputChange
from autotag.albums.state.identity import (
    IN_ALBUM,
    JOURNAL,
    LEDGER,
    album_of,
    check_state,
    claim_state,
    was_here,
)
from autotag.albums.state.journal import Journal, LostStep
from autotag.albums.state.ledger import Ledger, locked, state_folder, state_folders
from autotag.albums.state.renaming import RenameChange
from autotag.albums.writers.xmp_writer import XmpChange
from autotag.albums.writing import DAMAGED, reason_of
from autotag.errors import AutotagError, ConfigError, MetadataError
from autotag.files.file_states import lies_in
from autotag.files.hidden_files import clear_leftovers
from autotag.files.system_calls import is_there
from autotag.metadata import read_packet
from autotag.protocols import NeedsFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from autotag.albums.state.journal import Run
    from autotag.protocols import FileChange

_MARKED_TOGETHER = 64


@dataclass(slots=True)
class UndoSummary:
    """The outcome of an undo.

    Attributes:
        steps: the number of steps that were undone, or had never been made.
        notes: sentences for the user, such as which files were edited since.
        errors: file and reason of each step that could not be undone; the next undo tries it again.
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
    adopt: bool = False,
    forget_missing: bool = False,
    listener: Callable[[FileChange], None] = lambda _: None,
) -> UndoSummary:
    """Undo everything that runs wrote in an album, newest first; also after a run that was killed.

    Runs over folders inside the album are undone, too. Files are restored byte for byte, with their
    names. In the metadata of a file that was edited since, only the machine's tags are removed; other edited
    files stay unchanged; the summary says so. A step that cannot be undone, because a disk is not mounted,
    a photograph was renamed since, or for any other reason, stays in the journal for the next undo, and
    earlier steps on the same files wait for it.

    Args:
        source: what was tagged, or a folder around it; of a list or glob, the folder that it was in.
        state: the folder that was given to the run.
        last: undo only the last run that is not undone yet, apart from files that are gone. Output files that
            it replaced are removed; the next run writes them again.
        dry_run: report what would be undone; write nothing.
        adopt: use a state of another folder, or one that another machine or user wrote.
        forget_missing: forget the steps of files that no longer exist, and in folders that are missing or
            empty.
        listener: called with each step.

    Raises:
        ConfigError: there is no such folder, no run is recorded, one is running, or a state belongs to
            another album, machine or user.
        OSError: journal or ledger cannot be read or written. What was undone so far is safe.
    """
    sources = [source] if isinstance(source, (str, PathLike)) else source
    if len(sources) == 1 and not os.path.lexists(sources[0]) and not has_magic(os.fspath(sources[0])):
        raise ConfigError(
            f"there is no folder {os.fspath(sources[0])!r}; name what was tagged, or a folder around it."
        )
    root, key = album_root(sources)
    summary = UndoSummary()
    states = _states(root, key, Path(state) if state else None)
    with ExitStack() as stack:
        usable = [one for one in states if _is_usable(one, key, summary, adopt=adopt)]
        stack.enter_context(locked(root, *(one.folder for one in usable)))
        albums = [stack.enter_context(_opened(one, is_dry=dry_run)) for one in usable]
        undo = _Undo(summary, listener, is_dry=dry_run, forget_missing=forget_missing)
        undo.run(albums, last_run=last)
    if key.is_dir() and not last and not dry_run:
        left, hint = _records_left(key), _moved_hint(key, Path(state) if state else None)
        if left and hint and not summary.errors:
            summary.errors.append((str(key), f"{left}.{hint}"))
        elif left:
            summary.notes.append(f"{key}: {left}.")
    return summary


@dataclass(frozen=True, slots=True)
class _State:
    """A state, and the folder and key (see ``autotag.albums.sources.Album``) of its album."""

    folder: Path
    root: Path
    key: Path


@dataclass(frozen=True, slots=True)
class _Album:
    """Keep an album's open ledger and journal."""

    root: Path
    ledger: Ledger
    journal: Journal


def _states(root: Path, key: Path, chosen: Path | None) -> list[_State]:
    """Return the states, with journals, of the album and of albums inside it.

    Raises:
        ConfigError: no state is found; names known albums around it, or moved ones.
    """
    own = state_folder(key, chosen)
    found = {own: _State(own, root, key)} if (own / JOURNAL).exists() else {}
    if key.is_dir() and own != chosen:
        for folder in (*state_folders(chosen), *_states_inside(key)):
            album = folder.parent if folder.name == IN_ALBUM else Path(album_of(folder) or os.devnull)
            if (folder / JOURNAL).exists() and album.is_dir() and lies_in(album, key):
                found.setdefault(folder, _State(folder, album, album))
    if not found:
        left = _records_left(key) if key.is_dir() else ""
        raise ConfigError(
            f"no run of autotag is recorded for {str(key)!r}, so nothing can be undone.{_hint(key, chosen)}"
            f"{f' In it, {left}.' if left else ''}"
        )
    return list(found.values())


def _states_inside(root: Path) -> Iterator[Path]:
    """Yield the folders ``.autotag`` inside a folder; do not follow links."""
    for place, folders, _ in os.walk(root):
        if IN_ALBUM in folders:
            folders.remove(IN_ALBUM)
            yield Path(place, IN_ALBUM)


def _is_usable(state: _State, key: Path, summary: UndoSummary, *, adopt: bool) -> bool:
    """Return whether a state may be used; report an inner album whose state may not.

    Raises:
        ConfigError: the album's own state may not be used.
    """
    try:
        check_state(state.folder, state.key, adopt=adopt)
    except ConfigError as error:
        if state.key == key:
            raise
        summary.errors.append((str(state.root), str(error)))
        return False
    return True


@contextmanager
def _opened(state: _State, *, is_dry: bool) -> Iterator[_Album]:
    """Open an album's ledger and journal."""
    if not is_dry:
        claim_state(state.folder, state.key)
    with (
        closing(Ledger(state.folder / LEDGER, album=state.root)) as ledger,
        Journal(state.folder / JOURNAL, album=state.root) as journal,
    ):
        yield _Album(state.root, ledger, journal)


def _hint(key: Path, chosen: Path | None) -> str:
    """Suggest what the user may mean: an album around this one, or one that was moved."""
    known = [(album_of(folder), folder) for folder in state_folders(chosen)]
    around = [album for album, _ in known if album and key != Path(album) and key.is_relative_to(album)]
    if around:
        return f" A run is recorded for a folder around it; undo that as a whole: {max(around, key=len)!r}."
    gone = [(album, folder) for album, folder in known if album and not os.path.lexists(album)]
    ways = "; ".join(f"--state {str(folder)!r} if it was {album!r}" for album, folder in islice(gone, 3))
    return f" If the folder was moved, name the state of its old place: {ways}." if ways else ""


def _moved_hint(key: Path, chosen: Path | None) -> str:
    """Name the state of this very folder at an old place."""
    for folder in state_folders(chosen):
        album = album_of(folder)
        if album and not os.path.lexists(album) and was_here(folder, key):
            return f" The folder was {album!r} before; name its state: --state {str(folder)!r}."
    return ""


def _newest_first(albums: Sequence[_Album]) -> list[tuple[int, Run]]:
    """Return the runs that can be undone, each with the index of its album.

    Those of one album are in the order of its journal, also where a clock was set back between them.
    """
    found: list[tuple[int, int, Run]] = []
    for place, album in enumerate(albums):
        latest = 0
        for run in album.journal.open_runs():
            latest = max(latest, run.at)
            found.append((latest, place, run))
    found.sort(key=lambda one: (one[0], one[1], one[2].first), reverse=True)
    return [(place, run) for _, place, run in found]


def _records_left(root: Path) -> str:
    """Name sidecars that hold machine tags, from unknown runs or postponed steps; "" if there are none."""
    found = [path.relative_to(root) for path in _with_records(root)]
    if not found:
        return ""
    which = f"{found[0]} holds" if len(found) == 1 else f"{found[0]} and {len(found) - 1} more sidecars hold"
    return f"{which} machine tags that no step which can be undone now has written"


def _with_records(root: Path) -> Iterator[Path]:
    for place, _, names in os.walk(root):
        for path in (Path(place, name) for name in sorted(names) if name.lower().endswith(".xmp")):
            with suppress(OSError, ValueError):
                if path.is_file() and read_packet(path.read_bytes()).machine_tags:
                    yield path


@dataclass(slots=True)
class _Undo:
    summary: UndoSummary
    listener: Callable[[FileChange], None]
    is_dry: bool
    forget_missing: bool
    waiting: set[str] = field(default_factory=set)  # files with a step that could not be undone
    waiting_for_gone: set[str] = field(default_factory=set)  # files with a step that needs one that is gone
    away: Counter[Path] = field(default_factory=Counter)  # folders that are not there, with their steps
    gone: dict[Path, Counter[str]] = field(default_factory=dict)  # in a folder, files that are not there
    present: set[Path] = field(default_factory=set)  # folders that are
    contents: dict[Path, set[str]] = field(default_factory=dict)  # files seen since hidden files were cleared

    def run(self, albums: Sequence[_Album], *, last_run: bool) -> None:
        """Undo run by run, newest first, across all albums."""
        if not self.is_dry:
            for album in albums:
                self.summary.notes += recover(album.journal, album.ledger, album.root)
                album.ledger.forget_writing()  # first: a run after a crash in here looks at every file again
        for place, run in _newest_first(albums):
            before = self._progress()
            self._take_back_run(albums[place], run.first)
            if last_run and self._progress() != before:
                break  # else nothing of that run is left but steps of files that are gone
        for album in albums if not self.is_dry else ():
            if not album.journal.open_runs():
                album.ledger.forget_edits()
        self._report_away()

    def _progress(self) -> tuple[int, int, int]:
        return self.summary.steps, len(self.summary.errors), self.away.total()

    def _take_back_run(self, album: _Album, first: int) -> None:
        """Undo the steps of a run, and mark them in the journal."""
        over: list[int] = []
        for number, change in album.journal.newest_first(first):
            if isinstance(change, LostStep):
                self._leave(change.paths, change.reason)
                continue
            self.listener(change)
            if self.is_dry:
                self.summary.steps += 1
            elif self._take_back(change, album):
                over.append(number)
            if len(over) >= _MARKED_TOGETHER:
                self._mark(album.journal, over)
                over = []
        # durable, so that none is undone again after a power cut, when an earlier run has renamed files back
        self._mark(album.journal, over, durable=not self.is_dry)

    def _mark(self, journal: Journal, over: Sequence[int], *, durable: bool = False) -> None:
        journal.undone(over, durable=durable)
        self.summary.notes += clear_leftovers(self.contents)
        self.contents = {}

    def _take_back(self, change: FileChange, album: _Album) -> bool:
        """Undo a step; return whether it is finished."""
        files = set(map(_real_entry, change.paths))
        try:
            missing = next((path.parent for path in change.paths if self._is_away(path.parent, change)), None)
            if missing is not None:
                self.away[missing] += 1
                self.waiting |= files
                return self.forget_missing
            if files & self.waiting:
                raise MetadataError(str(change.paths[0]), "undo the later changes of it first")
            for path, digests in contents_of([change]).items():
                self.contents.setdefault(path, set()).update(digests)
            gone = change.missing() if isinstance(change, NeedsFiles) else None
            if files & self.waiting_for_gone:
                gone = gone or change.paths[0]  # a later step on it waits
            elif gone is None or self.forget_missing or not _waits(change):
                self.summary.notes += change.undo()
            if gone is not None:
                self.gone.setdefault(gone.parent, Counter())[gone.name] += 1
                self.waiting_for_gone |= set() if self.forget_missing else files
                return self.forget_missing
        except (AutotagError, OSError, *DAMAGED) as error:
            self._leave(change.paths, reason_of(error))
            return False
        if isinstance(change, RenameChange):
            source, target = change.moves[0]
            rename_in_ledger(album.ledger, album.root, target, source)
        self.summary.steps += 1
        return True

    def _leave(self, paths: Sequence[Path], reason: str) -> None:
        """Note a step that cannot be undone yet; earlier steps on its files wait for it."""
        self.waiting |= set(map(_real_entry, paths))
        self.summary.errors.append((str(paths[0]) if paths else "journal", reason))

    def _is_away(self, folder: Path, change: FileChange) -> bool:
        """Return whether a change's files are out of reach; a folder of results may be empty."""
        if folder in self.present:
            return False
        if isinstance(change, OutputChange):
            return not is_there(folder)
        if is_away(folder):
            return True
        self.present.add(folder)
        return False

    def _report_away(self) -> None:
        for folder, steps in self.away.items():
            self._report_missing(folder, "the folder does not exist or is empty", steps)
        for folder, files in self.gone.items():
            first, *others = files
            more = f" and {len(others)} more" if others else ""
            self._report_missing(
                folder, f"{first}{more} {'do' if others else 'does'} not exist", files.total()
            )

    def _report_missing(self, folder: Path, what: str, steps: int) -> None:
        counted = "1 step" if steps == 1 else f"{steps} steps"
        if self.forget_missing:
            self.summary.notes.append(f"{folder}: {what}; {counted} forgotten.")
            return
        wait = "waits" if steps == 1 else "wait"
        ways = "if renamed or moved, give it the old name back; if deleted for good: --forget-missing"
        self.summary.errors.append((str(folder), f"{what}; {counted} {wait} for the next undo ({ways})"))


def _waits(change: FileChange) -> bool:
    """Return whether a change stays as a whole because one of its files is gone and may come back."""
    return isinstance(change, XmpChange) and change.waits()


def _real_entry(path: Path) -> str:
    """Return a file's path with its folder's links resolved."""
    return os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118
