"""What was done to an album, written down before it is done, so that it can be taken back.

One JSON object per line, only ever appended: ``{"run": 7, "album": "/photos", "real": "/photos"}`` before the
first step of a run, whose id is 7; ``{"id": 7, "do": {...}}`` before a step, ``{"done": 7}``
after it, ``{"failed": 7}`` when it was refused and nothing changed, ``{"undone": 7}`` when it was taken
back. What is to be done is on the disk (fsync) before the first step of it is taken. A line that a crash
cut short belongs to a step that was not begun; it is cut off when the journal is opened again.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotag.errors import ConfigError
from autotag.file_changes import from_record, relocated, to_record
from autotag.metadata.safe_files import SYSTEM, SystemCalls

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from autotag.protocols import FileChange

_ENDS = ("done", "failed", "undone")


@dataclass(frozen=True, slots=True)
class _Run:
    """Steps from the id ``first`` on, and where the album was then, as named and with links resolved."""

    first: int
    album: str
    real: str


class Journal:
    """The journal of an album; a context manager.

    Where the album was moved or copied with its journal inside, or is gone from where it was, the steps are
    about the files where the album is now.

    Args:
        path: the file; its folder exists.
        album: the album's folder.
        calls: the operating system.

    Raises:
        ConfigError: it is damaged, and says in which line; or it is of several albums that are gone.
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, *, album: Path, calls: SystemCalls = SYSTEM) -> None:
        self._path = path
        self._album = _Run(0, os.path.abspath(album), os.path.realpath(album))  # noqa: PTH100
        self._runs: list[_Run] = []
        self._has_begun = False
        self._calls = calls
        is_new = not path.exists()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
        try:
            self._starts: dict[int, int] = {}  # id -> offset of its line, for steps that are not over
            self._done: set[int] = set()
            self._next = 1
            self._end = self._scan()
            self._gone = self._albums_gone()
            if is_new:
                calls.sync_folder(path.parent)
        except BaseException:
            os.close(self._descriptor)
            raise

    def begin(self, changes: Sequence[FileChange]) -> list[int]:
        """Writes down what is about to be done, and answers with the steps' ids.

        Raises:
            OSError: that is impossible, so it must not be done. The journal is as it was.
        """
        if not changes:
            return []
        ids = list(range(self._next, self._next + len(changes)))
        self._next += len(changes)
        lines = [
            _line({"id": number, "do": to_record(change)})
            for number, change in zip(ids, changes, strict=True)
        ]
        run = _Run(ids[0], self._album.album, self._album.real)
        heading = [] if self._has_begun else [_line({"run": run.first, "album": run.album, "real": run.real})]
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
        """The steps were taken."""
        self._mark("done", numbers)

    def failed(self, numbers: Iterable[int]) -> None:
        """The steps were refused, and nothing changed."""
        self._mark("failed", numbers)

    def undone(self, numbers: Iterable[int]) -> None:
        """The steps were taken back."""
        self._mark("undone", numbers)

    def newest_first(self, *, last_run: bool = False) -> Iterator[tuple[int, FileChange]]:
        """Every step that may have been taken and was not taken back.

        Args:
            last_run: only those of the last run that has such steps.
        """
        numbers = sorted(self._starts, reverse=True)
        run = self._run_of(numbers[0]) if numbers else None
        for number in numbers:
            if not last_run or self._run_of(number) == run:
                yield number, self._change(number)

    def pending(self) -> list[tuple[int, FileChange]]:
        """The steps of which it is not known whether they were taken, oldest first."""
        return [(number, self._change(number)) for number in sorted(self._starts) if number not in self._done]

    def close(self) -> None:
        """Brings the marks to the disk."""
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

    def _mark(self, what: str, numbers: Iterable[int]) -> None:
        marked = list(numbers)
        self._append([_line({what: number}) for number in marked], durable=False)
        for number in marked:
            self._note(what, number)

    def _note(self, what: str, number: int) -> None:
        if what == "done":
            self._done.add(number)
        else:
            self._starts.pop(number, None)
            self._done.discard(number)

    def _change(self, number: int) -> FileChange:
        os.lseek(self._descriptor, self._starts[number], os.SEEK_SET)
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            record = json.loads(file.readline())["do"]
        run = self._run_of(number)
        if run is not None and self._is_elsewhere(run):
            moves = {run.album: self._album.album, run.real: self._album.real}
            record = relocated(record, moves)
        return from_record(record)

    def _run_of(self, number: int) -> _Run | None:
        place = bisect_right(self._runs, number, key=lambda run: run.first)
        return self._runs[place - 1] if place else None

    def _is_elsewhere(self, run: _Run) -> bool:
        """Whether the album of a run is now another folder."""
        return run.real != self._album.real and (self._is_inside or run.real in self._gone)

    @property
    def _is_inside(self) -> bool:
        """Whether the journal lies in the album, in a folder of its own."""
        return Path(os.path.realpath(self._path)).parent.parent == Path(self._album.real)

    def _albums_gone(self) -> set[str]:
        """Where albums were that are there no longer, of runs that can be taken back."""
        runs = {run for run in map(self._run_of, self._starts) if run is not None}
        gone = {run.real for run in runs if not os.path.lexists(run.real)} - {self._album.real}
        if len(gone) > 1 and not self._is_inside:
            raise ConfigError(
                f"the journal {str(self._path)!r} is of albums that are gone: {', '.join(sorted(gone))}."
            )
        return gone

    def _scan(self) -> int:
        """Takes in every line, cuts off a torn one, and answers with the offset of the end."""
        offset = 0
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            for row, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    os.ftruncate(self._descriptor, offset)
                    break
                self._take_in(line, offset, row)
                offset += len(line)
        return offset

    def _take_in(self, line: bytes, offset: int, row: int) -> None:
        try:
            record: dict[str, Any] = json.loads(line)
            if "run" in record:
                self._runs.append(_Run(int(record["run"]), str(record["album"]), str(record["real"])))
                return
            if "id" in record:
                self._starts[int(record["id"])] = offset
                self._next = max(self._next, record["id"] + 1)
                return
            [(what, number)] = record.items()
            _ENDS.index(what)
        except (KeyError, ValueError, TypeError) as error:
            raise ConfigError(f"the journal {str(self._path)!r} is damaged in line {row}: {error}") from error
        self._note(what, number)


def first_album(path: Path) -> str:
    """Where the album of a journal was in its first run; empty when it does not say."""
    try:
        with path.open("rb") as file:
            return str(json.loads(file.readline())["real"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record).encode() + b"\n"
