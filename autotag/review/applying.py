"""Carrying out what was decided: the edited plan goes to ``autotag.albums.apply_plan``, and nothing else."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from autotag.albums import apply_plan
from autotag.errors import AutotagError, RequestRefusedError

if TYPE_CHECKING:
    from pathlib import Path

    from autotag.albums import AlbumSummary, PhotoReport
    from autotag.review.session import Review, Undecided

_MOST_ERRORS = 200
_GOING: Literal["running"] = "running"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an application is.

    Attributes:
        status: ``"failed"`` means that it could not run at all.
        photographs: of the edited plan.
        done: photographs that were looked at.
        written: those for which something was written.
        unchanged: those for which everything was there already.
        failed: photographs that were left as they are, with the reason in ``errors``.
        errors: file and reason, at most 200.
        notes: what the user should know, as whole sentences.
        message: why it could not run, or ended early.
        plan: name of the edited plan.
        revision: of the review that it carries out.
    """

    status: Literal["never", "running", "done", "stopped", "failed"] = "never"
    photographs: int = 0
    done: int = 0
    written: int = 0
    unchanged: int = 0
    failed: int = 0
    errors: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    message: str = ""
    plan: str = ""
    revision: int = 0


@dataclass(slots=True)
class Applying:
    """Apply a review's decisions in a thread, one application at a time.

    Attributes:
        review: whose decisions.
        state: the ``--state`` folder of the album's runs.
        adopt: as for ``apply_plan``.
    """

    review: Review
    state: Path | None = None
    adopt: bool = False
    progress: Progress = field(default_factory=Progress)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self, undecided: Undecided, revision: int) -> Progress:
        """Begin to apply.

        Args:
            undecided: what becomes of tags that nobody decided about.
            revision: the last one that the person had seen.

        Raises:
            RequestRefusedError: one is running, or something was decided since that revision
                (``"conflict"``).
            ConfigError: the plan was changed since the review began.
            OSError: the edited plan cannot be written.
        """
        with self._lock:
            if self.progress.status == _GOING:
                raise RequestRefusedError("conflict", "it is being applied already.")
            with self.review.reading():
                if revision != self.review.revision:
                    raise RequestRefusedError(
                        "conflict",
                        "something was decided in another window meanwhile; look again, then apply.",
                    )
                plan, photographs = self.review.write_edited_plan(undecided)
            self._stop.clear()
            self.progress = Progress(_GOING, photographs, plan=plan.name, revision=revision)
            self._thread = threading.Thread(target=self._run, args=(plan,), name="apply")
            self._thread.start()
            return self.progress

    def stop(self) -> Progress:
        """End it after the photographs in hand; what was written is safe, and can be undone."""
        self._stop.set()
        return self.progress

    def wait(self) -> None:
        """Wait for the end."""
        if self._thread is not None:
            self._thread.join()

    def started(self, due: int, unchanged: int) -> None:
        """Receive how many photographs there are (``autotag.albums.reports.Listener``)."""

    def done(self, report: PhotoReport) -> None:
        """Count a finished photograph (``autotag.albums.reports.Listener``)."""
        now = self.progress
        error = ((report.file, report.error or ""),) if report.status == "failed" else ()
        self.progress = replace(
            now,
            done=now.done + 1,
            written=now.written + (report.status == "written"),
            unchanged=now.unchanged + (report.status == "nothing to do"),
            failed=now.failed + (report.status == "failed"),
            errors=(*now.errors, *error)[:_MOST_ERRORS],
        )

    def _run(self, plan: Path) -> None:
        try:
            summary = apply_plan(
                plan, state=self.state, adopt=self.adopt, listener=self, stop=self._stop.is_set
            )
        except (AutotagError, OSError) as error:
            self.progress = replace(self.progress, status="failed", message=str(error))
        else:
            if not summary.stopped and not summary.failed:
                summary.notes += self._mark()
            self.progress = _ended(self.progress, summary)

    def _mark(self) -> list[str]:
        """Note in the review what was applied; return notes for the user."""
        try:
            self.review.mark_applied(self.progress.revision)
        except OSError as error:
            return [f"the review cannot note that it was applied: {error.strerror or error}."]
        return []


def _ended(now: Progress, summary: AlbumSummary) -> Progress:
    return replace(
        now,
        status="stopped" if summary.stopped else "done",
        errors=(*now.errors, *summary.output_errors)[:_MOST_ERRORS],
        notes=tuple(summary.notes),
        message=summary.stopped,
    )
