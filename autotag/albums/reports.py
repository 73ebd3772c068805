"""Reports on each photograph, and the summary of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from autotag.records import Result

Status = Literal["written", "planned", "nothing to do", "failed"]


@dataclass(frozen=True, slots=True)
class PhotoReport:
    """The outcome for one photograph.

    Attributes:
        file: its name relative to the album, before any renaming.
        status: ``"planned"`` where nothing is to be written yet; ``"failed"`` also when one writer of several
            failed.
        result: what was found, after the album's rules; None when it could not be tagged.
        changes: what was done, or would be, each on one line.
        warnings: what the user should know.
        error: why it failed, or None.
    """

    file: str
    status: Status
    result: Result | None = None
    changes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types: tags with scores, caption and prompt included."""
        found = self.result
        return {
            "file": self.file,
            "status": self.status,
            "tags": [] if found is None else [{"text": tag.text, "score": tag.score} for tag in found.tags],
            "caption": "" if found is None else found.caption,
            "prompt": "" if found is None else found.prompt,
            "changes": list(self.changes),
            "warnings": list(self.warnings),
            "error": self.error,
            "flagged": found is not None and found.flagged,
        }


class Listener(Protocol):
    """Receive the progress of a run."""

    def started(self, due: int, unchanged: int) -> None:
        """Receive how many photographs are due and how many are unchanged."""

    def done(self, report: PhotoReport) -> None:
        """Receive the report on one finished photograph."""


class Indexer(Protocol):
    """Receive what was found in each photograph, for an index beside the album."""

    def found(self, path: Path, result: Result) -> None:
        """Receive what was found in a photograph, after the rules, when everything is written for it.

        Args:
            path: where it is, after any renaming.
            result: what was found.
        """

    def left_out(self, path: Path) -> None:
        """Remove a photograph that the rules keep out of the index; one that is not there is ignored.

        Args:
            path: where it is; called for its old path as well, if it was renamed.
        """

    def finish(self, earlier: Iterable[tuple[Path, Result]], photos: Iterable[Path], root: Path) -> None:
        """Receive the end of a run that was not stopped.

        Args:
            earlier: every photograph of the album that was tagged, now or before, read lazily.
            photos: every photograph.
            root: the album's folder.
        """


@dataclass(slots=True)
class AlbumSummary:
    """The outcome of a run.

    Attributes:
        photos: photographs found.
        unchanged: photographs that an earlier run finished and that have not changed.
        written: photographs for which something was written, or would be.
        nothing_to_do: photographs that were checked and needed no writing.
        failed: photographs with an error.
        errors: photograph and reason of each failure.
        output_errors: file of results and reason of each failure; they count as failed too.
        outputs: files of results that were made or changed, or would be if they would say something new.
        notes: what the user should know about the run as a whole, as whole sentences.
        stopped: why the run ended before its end, or empty.
    """

    photos: int = 0
    unchanged: int = 0
    written: int = 0
    nothing_to_do: int = 0
    failed: int = 0
    errors: list[tuple[str, str]] = field(default_factory=list)
    output_errors: list[tuple[str, str]] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stopped: str = ""

    def count(self, report: PhotoReport) -> None:
        """Count one photograph."""
        if report.status == "failed":
            self.failed += 1
            self.errors.append((report.file, report.error or ""))
        elif report.status == "nothing to do":
            self.nothing_to_do += 1
        else:
            self.written += 1


class Silent:
    """Ignore the progress of a run."""

    def started(self, due: int, unchanged: int) -> None:
        """Do nothing."""

    def done(self, report: PhotoReport) -> None:
        """Do nothing."""
