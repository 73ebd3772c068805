"""A write-ahead journal of changes to an album, so that they can be undone.

One JSON object per line, only ever appended: ``{"run": 7, "at": 1764288000000000000, "album": "/photos",
"real": "/photos"}`` before the first step of a run, whose id is 7; ``{"id": 7, "do": {...}}`` before a step,
``{"done": 7}`` after it, ``{"failed": 7}`` when it was refused and nothing changed, ``{"undone": 7}`` when it
was undone. A step is synced to disk (fsync) before it is made. A line that a
crash cut short belongs to a step that was not begun; it is cut off when the journal is opened again.

A journal is not trusted: a step that cannot be read, is of an unknown kind, or is about files outside the
album is a ``LostStep``, which says why nothing can be done about it.
"""

from __future__ import annotations

import json
import os
import time
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotag.albums.state.change_records import files_of, from_record, leads_out, relocated, to_record
from autotag.albums.state.changes import OutputChange
from autotag.config.checks import check_row
from autotag.errors import ConfigError
from autotag.files.file_states import lies_in
from autotag.files.system_calls import SYSTEM, SystemCalls

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from autotag.protocols import FileChange

_ENDS = ("done", "failed", "undone")
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


@dataclass(frozen=True, slots=True)
class Run:
    """A run of an album.

    Attributes:
        first: id of its first step.
        at: when it began, nanoseconds since 1970.
        album: the album's folder then, as it was named.
        real: the same with links resolved.
        linked: folders outside it that the user let the run enter, links resolved.
    """

    first: int
    at: int
    album: str
    real: str
    linked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LostStep:
    """A step that can neither be made nor undone.

    Attributes:
        reason: why, as a sentence without its full stop.
        paths: the files that it names.
    """

    reason: str
    paths: tuple[Path, ...] = ()


class Journal:
    """Keep the journal of an album, as a context manager.

    Where the album was moved or copied, the steps are about the files where the album is now.

    Args:
        path: the file; its folder exists.
        album: the album's folder.
        linked: folders outside it that the user lets this run enter, links resolved.
        calls: the operating system.

    Attributes:
        problems: what could not be read, as whole sentences.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(
        self, path: Path, *, album: Path, linked: Sequence[Path] = (), calls: SystemCalls = SYSTEM
    ) -> None:
        self.problems: list[str] = []
        self._linked = tuple(map(str, linked))
        self._path, self._calls = path, calls
        self._album, self._real = os.path.abspath(album), os.path.realpath(album)  # noqa: PTH100
        self._is_inside = lies_in(path, album)
        self._runs: list[Run] = []
        self._has_begun = False
        is_new = not path.exists()
        self._descriptor = os.open(path, _FLAGS, 0o600)
        try:
            self._starts: dict[int, int] = {}  # id -> offset of its line, for steps that are not over
            self._done: set[int] = set()
            self._next = 1
            self._end = self._scan()
            if is_new:
                calls.sync_folder(path.parent)
        except BaseException:
            os.close(self._descriptor)
            raise

    def begin(self, changes: Sequence[FileChange]) -> list[int]:
        """Journal changes before they are made; return the steps' ids.

        Raises:
            ConfigError: a change's kind is not registered, so it could not be undone.
            OSError: the journal cannot be written and is unchanged; do not make the changes.
        """
        if not changes:
            return []
        ids = list(range(self._next, self._next + len(changes)))
        lines = [
            _line({"id": number, "do": to_record(change)})
            for number, change in zip(ids, changes, strict=True)
        ]
        self._next += len(changes)
        run = Run(ids[0], time.time_ns(), self._album, self._real, self._linked)
        heading = [] if self._has_begun else [_heading(run)]
        start = self._end + sum(map(len, heading))
        self._append([*heading, *lines])
        if heading:
            self._runs.append(run)
            self._has_begun = True
        for number, line in zip(ids, lines, strict=True):
            self._starts[number] = start
            start += len(line)
        return ids

    def done(self, numbers: Iterable[int]) -> None:
        """Mark steps as done."""
        self._mark("done", numbers)

    def failed(self, numbers: Iterable[int]) -> None:
        """Mark steps as refused: nothing changed."""
        self._mark("failed", numbers)

    def undone(self, numbers: Iterable[int], *, durable: bool = False) -> None:
        """Mark steps as undone; with ``durable``, fsync these marks and earlier ones."""
        self._mark("undone", numbers, durable=durable)

    def open_runs(self) -> list[Run]:
        """Return the runs with steps that may be done and are not undone, oldest first."""
        return sorted(set(map(self._run_of, self._starts)), key=lambda run: run.first)

    def newest_first(self, run: int | None = None) -> Iterator[tuple[int, FileChange | LostStep]]:
        """Yield every step that may be done and is not undone, newest first.

        Args:
            run: only steps of the run with this first step.
        """
        for number in sorted(self._starts, reverse=True):
            if run is None or self._run_of(number).first == run:
                yield number, self._change(number)

    def pending(self) -> list[tuple[int, FileChange | LostStep]]:
        """Return the steps that may or may not be done, oldest first."""
        return [(number, self._change(number)) for number in sorted(self._starts) if number not in self._done]

    def close(self) -> None:
        """Fsync the marks and close the file."""
        if self._descriptor >= 0:
            try:
                self._calls.fsync(self._descriptor)
            finally:
                os.close(self._descriptor)
                self._descriptor = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, lines: Sequence[bytes], *, durable: bool = True) -> None:
        os.lseek(self._descriptor, self._end, os.SEEK_SET)
        content = memoryview(b"".join(lines))
        try:
            written = 0
            while written < len(content):
                written += self._calls.write(self._descriptor, content[written:])
            if durable:
                self._calls.fsync(self._descriptor)
        except BaseException:
            os.ftruncate(self._descriptor, self._end)
            raise
        self._end += len(content)

    def _mark(self, what: str, numbers: Iterable[int], *, durable: bool = False) -> None:
        marked = list(numbers)
        self._append([_line({what: number}) for number in marked], durable=durable)
        for number in marked:
            self._note(what, number)

    def _note(self, what: str, number: int) -> None:
        if what == "done":
            self._done.add(number)
        else:
            self._starts.pop(number, None)
            self._done.discard(number)

    def _change(self, number: int) -> FileChange | LostStep:
        os.lseek(self._descriptor, self._starts[number], os.SEEK_SET)
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            line = file.readline()
        files: tuple[Path, ...] = ()
        try:
            row = json.loads(line)
            check_row(f"step {number} of the journal {str(self._path)!r}", row, id="whole", do="row")
            record = relocated(row["do"], self._moves(number))
            files = tuple(files_of(record))
            change = from_record(record)
            outside = self._outside(change, files, self._run_of(number))
        except ConfigError as error:
            return LostStep(str(error).removesuffix("."), files)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:  # of a plug-in
            return LostStep(f"step {number} of the journal {str(self._path)!r} is damaged: {error!r}", files)
        if outside is not None:
            return LostStep(f"{outside} is not a file of the album {self._real!r}; it stays unchanged", files)
        return change

    def _outside(self, change: FileChange, files: Sequence[Path], run: Run) -> Path | None:
        """Return a file of a change that does not lie in the album, or lies in the journal's own folder.

        Files of results, and photographs that links lead to, may be elsewhere if the journal is too: then the
        user named them, or let the run follow the links.
        """
        if isinstance(change, OutputChange) and not self._is_inside:
            return None
        linked = [] if self._is_inside else map(Path, run.linked)
        out = leads_out(change, (Path(self._real), *linked), files)
        if out is None and self._is_inside:
            return next((path for path in files if lies_in(path, self._path.parent)), None)
        return out

    def _moves(self, number: int) -> dict[str, str]:
        """Return folders at the time of a step -> the same folders now."""
        run = self._run_of(number)
        if run.real == self._real:
            return {}
        return {run.album: self._album, run.real: self._real}

    def _run_of(self, number: int) -> Run:
        """Return a step's run; if its line is damaged, a run at the present place."""
        place = bisect_right(self._runs, number, key=lambda run: run.first)
        return self._runs[place - 1] if place else Run(0, 0, self._album, self._real)

    def _scan(self) -> int:
        """Read every line, cut off a torn one, and return the offset of the end."""
        offset = 0
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            for row, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    os.ftruncate(self._descriptor, offset)
                    break
                try:
                    self._take_in(json.loads(line), offset)
                except (ConfigError, ValueError, TypeError, RecursionError) as error:
                    self.problems.append(
                        f"the journal {str(self._path)!r} is damaged in line {row}, which is skipped: "
                        f"{error}."
                    )
                offset += len(line)
        self._runs.sort(key=lambda run: run.first)
        return offset

    def _take_in(self, record: dict[str, Any], offset: int) -> None:
        if "run" in record:
            row = {"linked": [], **record}
            check_row("a run", row, run="whole", at="whole", album="text", real="text", linked="texts")
            run = Run(row["run"], row["at"], row["album"], row["real"], tuple(row["linked"]))
            self._runs.append(run)
        elif "id" in record:
            check_row("a step", {**record, "do": {}}, id="whole", do="row")  # what it does is read later
            self._starts[record["id"]] = offset
            self._next = max(self._next, record["id"] + 1)
        else:
            what = next((end for end in _ENDS if end in record), _ENDS[0])
            check_row("a mark", record, **{what: "whole"})
            self._note(what, record[what])


def _heading(run: Run) -> bytes:
    linked = {"linked": run.linked} if run.linked else {}
    return _line({"run": run.first, "at": run.at, "album": run.album, "real": run.real, **linked})


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record).encode() + b"\n"
