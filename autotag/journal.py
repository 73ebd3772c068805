"""What was done to an album, written down before it is done, so that it can be taken back.

One JSON object per line, only ever appended: ``{"id": 7, "do": {...}}`` before a step, ``{"done": 7}``
after it, ``{"failed": 7}`` when it was refused and nothing changed, ``{"undone": 7}`` when it was taken
back. What is to be done is on the disk (fsync) before the first step of it is taken. A line that a crash
cut short belongs to a step that was not begun; it is cut off when the journal is opened again.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from autotag.errors import ConfigError
from autotag.file_changes import from_record, to_record
from autotag.metadata.safe_files import SYSTEM, SystemCalls

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from autotag.protocols import FileChange

_ENDS = ("done", "failed", "undone")


class Journal:
    """The journal of an album; a context manager.

    Args:
        path: the file; its folder exists.
        calls: the operating system.

    Raises:
        ConfigError: it is damaged; says in which line.
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, *, calls: SystemCalls = SYSTEM) -> None:
        self._path = path
        self._calls = calls
        is_new = not path.exists()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
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
        start = self._end
        self._append(lines)
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

    def newest_first(self) -> Iterator[tuple[int, FileChange]]:
        """Every step that may have been taken and was not taken back."""
        for number in sorted(self._starts, reverse=True):
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
            return from_record(json.loads(file.readline())["do"])

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
            if "id" in record:
                self._starts[int(record["id"])] = offset
                self._next = max(self._next, record["id"] + 1)
                return
            [(what, number)] = record.items()
            _ENDS.index(what)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"the journal {str(self._path)!r} is damaged in line {row}: {error}") from error
        self._note(what, number)


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record).encode() + b"\n"
