"""What planning needs to know of a photograph, from one reading of its file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from autotag.files.file_states import FileState
from autotag.files.system_calls import SYSTEM, SystemCalls

if TYPE_CHECKING:
    from pathlib import Path

    from autotag.metadata.existing import Existing


@dataclass(frozen=True, slots=True)
class FileMoment:
    """The state of a file at one moment, with the time of its last change of any kind.

    Attributes:
        state: size, time of change, inode and device.
        changed_ns: ``st_ctime_ns``; a program that puts the time of change back cannot put this one back.
    """

    state: FileState
    changed_ns: int

    @classmethod
    def of(cls, path: Path, *, calls: SystemCalls = SYSTEM) -> FileMoment | None:
        """Return the present moment of a file, links followed; None if it cannot be accessed."""
        try:
            found = calls.stat(path)
        except OSError:
            return None
        return cls(FileState.of(found), found.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class ReadPhotograph:
    """A photograph's metadata and, where it is kept, its content.

    Attributes:
        path: the file, links resolved.
        moment: of the file, the same before and after it was read.
        existing: its metadata.
        content: its bytes; None where they were not kept.
    """

    path: Path
    moment: FileMoment
    existing: Existing
    content: bytes | None = field(default=None, repr=False)

    def is_of(self, path: Path, *, calls: SystemCalls = SYSTEM) -> bool:
        """Return whether a file, links resolved, is the one that was read and did not change since."""
        return self.path == path and FileMoment.of(path, calls=calls) == self.moment
