"""Progress and messages on stderr while images are tagged."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn
from rich.table import Column
from rich.text import Text

from autotag.writers.one_line import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Task


class Reporter:
    """Write errors to stderr; unless quiet, also information and, on a terminal, a progress bar.

    Args:
        quiet: neither information nor a bar.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._quiet = quiet
        self._bar = Progress(
            BarColumn(bar_width=20),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            _Pace(table_column=Column(no_wrap=True)),  # one line: a restart would erase results above more
            console=self._console,
            transient=True,
            redirect_stdout=False,  # it would send results to stderr
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", start=False)

    def complain(self, message: str) -> None:
        """Print one line about an error."""
        self._console.print(Text(one_line(f"autotag: {message}")), soft_wrap=True)

    def inform(self, message: str) -> None:
        """Print one line of information, unless quiet."""
        if not self._quiet:
            self.complain(message)

    def show(self, text: str) -> None:
        """Print requested lines unchanged."""
        self._console.print(Text(text), soft_wrap=True)

    @contextmanager
    def counting(self, total: int | None) -> Iterator[None]:
        """Show the progress bar: images done of ``total``, rate, and time left.

        With None, ``expect`` sets the total later.
        """
        self._bar.update(self._task, total=total)
        self._bar.start_task(self._task)
        with self._bar:
            yield

    def expect(self, total: int) -> None:
        """Set the number of images; time counts from now."""
        self._bar.reset(self._task, total=total)

    def advance(self) -> None:
        """Count one finished image."""
        self._bar.advance(self._task)

    @contextmanager
    def making_way(self) -> Iterator[None]:
        """Hide the bar while results are written to the terminal."""
        if self._bar.disable or not sys.stdout.isatty():
            yield
            return
        self._bar.stop()
        yield
        self._bar.start()

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Report loading on a terminal and show the hub's download bars, unless quiet."""
        from huggingface_hub.utils.tqdm import (
            are_progress_bars_disabled,
            disable_progress_bars,
            enable_progress_bars,
        )

        if self._console.is_terminal:
            self.inform("loading the models")
        if not self._quiet or are_progress_bars_disabled():
            yield
            return
        disable_progress_bars()
        try:
            yield
        finally:
            enable_progress_bars()

    @contextmanager
    def passing_on_warnings(self) -> Iterator[None]:
        """Print the library's logged warnings, such as folders that cannot be listed."""
        handler = _Complaints(self)
        logger = logging.getLogger("autotag")
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)


class _Pace(ProgressColumn):
    """Show images per second and time left, averaged over the run because results come in bursts."""

    def render(self, task: Task) -> Text:
        if not (task.completed and task.elapsed and task.remaining is not None):
            return Text()
        rate = task.completed / task.elapsed
        left = timedelta(seconds=round(task.remaining / rate))
        return Text(f"{rate:.1f} per second, {left} left", style="dim")


class _Complaints(logging.Handler):
    def __init__(self, reporter: Reporter) -> None:
        super().__init__(level=logging.WARNING)
        self._reporter = reporter
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = f"{record.levelname.lower()}: {record.getMessage()}"
        if message not in self._said:  # an album is listed more than once
            self._said.add(message)
            self._reporter.complain(message)
