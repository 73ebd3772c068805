"""Signals that end a run: Ctrl-C, SIGTERM, and SIGHUP when the terminal is closed.

A signal that is ignored, as SIGHUP is under nohup, stays ignored. A closed terminal may send SIGHUP twice, so
only another signal counts as the second one, which ends a run at once.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

from autotag.cli.options import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    Handler = Callable[[int, FrameType | None], None]

_HANGUP = getattr(signal, "SIGHUP", None)  # Windows lacks it
_ENDING = tuple(number for number in (signal.SIGINT, signal.SIGTERM, _HANGUP) if number is not None)

_STOPPING = b"\nautotag: stopping after the photographs in hand; Ctrl-C again stops at once\n"


class Interrupted(KeyboardInterrupt):
    """A signal asks the program to end.

    Attributes:
        exit_code: of the program, 128 and the signal's number.
    """

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(number)


class Stop:
    """Say whether a signal came; callable without arguments.

    Attributes:
        exit_code: of the program, 128 and the signal's number; that of Ctrl-C if none came.
    """

    def __init__(self) -> None:
        self.exit_code = INTERRUPTED
        self._came = False

    def __call__(self) -> bool:
        return self._came

    def note(self, number: int, _frame: FrameType | None) -> None:
        """Remember a first signal; end the program at once after a second one."""
        if not self._came:
            self._came = True
            self.exit_code = 128 + number
            with suppress(OSError):  # the terminal may be closed
                os.write(2, _STOPPING)
        elif number != _HANGUP:
            raise Interrupted(number)


@contextmanager
def like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM and SIGHUP interrupt the block as Ctrl-C does.

    Raises:
        Interrupted: a signal came.
    """
    with _handling(_interrupt):
        yield


@contextmanager
def whole() -> Iterator[None]:
    """Delay signals to the end of the block, so that results stay whole; a second one acts at once.

    Raises:
        KeyboardInterrupt: a signal came.
    """
    first: list[int] = []

    def put_off(number: int, _frame: FrameType | None) -> None:
        if not first:
            first.append(number)
        elif number != _HANGUP:
            raise Interrupted(number)

    with _handling(put_off):
        yield
    if first:
        handled = signal.getsignal(first[0])
        if callable(handled):
            handled(first[0], None)
        raise Interrupted(first[0])


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Let a signal end a run after the current group; a second one ends it at once."""
    stop = Stop()
    with _handling(stop.note):
        yield stop


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    if number == _HANGUP:
        signal.signal(number, signal.SIG_IGN)
    raise Interrupted(number)


@contextmanager
def _handling(handler: Handler) -> Iterator[None]:
    """Handle the signals that are not ignored; do nothing in another thread than the main one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [number for number in _ENDING if signal.getsignal(number) != signal.SIG_IGN]
    before = [signal.signal(number, handler) for number in numbers]
    try:
        yield
    finally:
        for number, handled in zip(numbers, before, strict=True):
            signal.signal(number, handled)
