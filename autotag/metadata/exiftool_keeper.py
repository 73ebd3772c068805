"""A program between autotag and exiftool that ends exiftool when autotag ends, even when it is killed.

``exiftool -stay_open`` never ends by itself: at the end of its input it waits for more. This program passes
its input on to exiftool. When its input ends, which also happens when autotag is killed, it kills exiftool. A
forked child of autotag may keep the input open, so this program also checks every two seconds that its parent
still runs.

It is run by its path, without site-packages, and imports the standard library only.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOK_EVERY = 2.0  # seconds
_GRACE = 1.0  # seconds to end by itself once the input ended
_SET_PARENT_DEATH_SIGNAL = 1  # prctl(2)
_PIECE = 65536


def main(command: list[str]) -> None:
    """Run a command on this program's input until the input, the parent or the command ends."""
    parent = os.getppid()
    _handle_signals()
    process = subprocess.Popen(  # noqa: S603 - what autotag starts it with
        command,
        stdin=subprocess.PIPE,
        preexec_fn=_die_with_parent(),  # noqa: PLW1509 - there is one thread
        start_new_session=True,  # autotag handles Ctrl-C; the children of a wrapper script end with it
    )
    _let_go_of_output()
    try:
        _pass_on(process, parent)
    finally:
        _kill(process)


def _handle_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.signal(signal.SIGTERM, _end)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
            signal.signal(signal.SIGHUP, _end)


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def _die_with_parent() -> Callable[[], object] | None:
    """Return a function that makes a child end when this program is killed; None except on Linux."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def _let_go_of_output() -> None:
    """Close this program's output, so that its reader sees the end of the command's output."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)


def _pass_on(process: subprocess.Popen[bytes], parent: int) -> None:
    assert process.stdin is not None  # noqa: S101 - a pipe
    while process.poll() is None and _is_there(parent):
        if not _has_input():
            continue
        piece = os.read(0, _PIECE)
        if not piece:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
            return
        with suppress(OSError):
            process.stdin.write(piece)
            process.stdin.flush()


def _has_input() -> bool:
    """Return whether input, or its end, can be read; wait up to two seconds for it."""
    if sys.platform == "win32":
        return True  # select() does not take pipes there; reading waits
    return bool(select.select([0], [], [], _LOOK_EVERY)[0])


def _is_there(parent: int) -> bool:
    return sys.platform == "win32" or os.getppid() == parent


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the command and the processes that it started."""
    if sys.platform != "win32":
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
