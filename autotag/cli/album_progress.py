"""Progress of an album run, for a person or a program."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from autotag.albums import AlbumSummary, PhotoReport
    from autotag.cli.progress import Reporter


class AlbumListener:
    """Print errors and warnings to stderr, one a line; a progress bar; changes to stdout on request.

    Args:
        reporter: writes to stderr.
        ndjson: one JSON object per photograph on stdout.
        show: one line on stdout for each change, for people.
        are_due: says of the photographs that are due what they are.
    """

    def __init__(self, reporter: Reporter, *, ndjson: bool, show: bool, are_due: str = "to tag") -> None:
        self._reporter = reporter
        self._are_due = are_due
        self._ndjson = ndjson
        self._show = show

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Show the progress bar."""
        with self._reporter.counting(None):
            yield

    def started(self, due: int, unchanged: int) -> None:
        """Print how many photographs are due and how many are unchanged."""
        done = f", {unchanged} unchanged" if unchanged else ""
        self._reporter.inform(f"{due} photograph{'' if due == 1 else 's'} {self._are_due}{done}")
        self._reporter.expect(due)

    def done(self, report: PhotoReport) -> None:
        """Print the changes, warnings and error of one photograph, and advance the progress bar."""
        from autotag.writers.one_line import one_line

        with self._reporter.making_way():
            if self._ndjson:
                line = json.dumps(report.to_dict(), ensure_ascii=True)
                click.echo(line)
                sys.stdout.flush()
            elif self._show:
                for change in report.changes:
                    click.echo(one_line(f"{report.file}: {change}"))
        for warning in report.warnings:
            self._reporter.complain(warning if report.file in warning else f"{report.file}: {warning}")
        if report.error is not None:
            named = report.file in report.error
            self._reporter.complain(report.error if named else f"{report.file}: {report.error}")
        self._reporter.advance()


@contextmanager
def bookkeeping() -> Iterator[None]:
    """Turn a failure to write journal or ledger into an error of one line.

    Raises:
        ConfigError: in place of the system's own error.
    """
    import sqlite3

    from autotag.errors import ConfigError

    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(
            f"cannot write the run's journal ({error}); stopped. Completed photographs are safe."
        ) from error


def report_summary(summary: AlbumSummary, reporter: Reporter, *, planned: bool = False) -> None:
    """Print the summary to stderr."""
    for note in summary.notes:
        reporter.complain(note)
    for file, reason in summary.output_errors:
        reporter.complain(f"{file}: {reason}")
    word = "to write" if planned else "written"
    parts = [f"{summary.written} {word}"]
    parts += [f"{summary.nothing_to_do} with nothing to write"] if summary.nothing_to_do else []
    parts += [f"{summary.unchanged} unchanged"] if summary.unchanged else []
    parts += [f"{summary.failed} failed"] if summary.failed else []
    ending = "" if summary.photos == 1 else "s"
    reporter.inform(f"{summary.photos} photograph{ending}: {', '.join(parts)}")
    for output in summary.outputs:
        reporter.inform(f"would write {output}" if planned else f"wrote {output}")
    if summary.stopped:
        reporter.complain(f"stopped: {summary.stopped}. Everything so far is safe; run again to continue.")
