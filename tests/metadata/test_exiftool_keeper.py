"""exiftool ends with the program that started it, in every way that a program can end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

STAYS_OPEN = """#!/bin/sh
echo $$ > "$STARTED"
echo $PPID > "$STARTED.parent"
while :; do
  if read -r line; then
    [ "$line" = -execute ] && echo "{ready}"
  else
    sleep 0.05
  fi
done
"""
PROGRAM = """
import os, signal, sys, time
from autotag.metadata import Exiftool
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it
exiftool = Exiftool(sys.argv[1])
exiftool.run(["-ver"])
%s
print("running", flush=True)
time.sleep(60)
"""
FORKS = """
if os.fork() == 0:
    time.sleep(20)
    os._exit(0)
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that stays open as exiftool does, and never ends by itself."""
    monkeypatch.setenv("STARTED", str(tmp_path / "pid"))
    path = tmp_path / "stand_in"
    path.write_text(STAYS_OPEN)
    path.chmod(0o755)
    return path


def begun(exiftool: str | Path, more: str = "") -> subprocess.Popen[str]:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM % more, str(exiftool)], stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "running\n"
    return program


def has_ended(pid: int) -> bool:
    """Whether a process is gone within some seconds."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def end(program: subprocess.Popen[str], number: int) -> None:
    program.send_signal(number)
    program.wait(timeout=600)
    assert program.stdout is not None
    program.stdout.close()


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        *(
            pytest.param(one, marks=pytest.mark.slow)
            for one in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
        ),
    ],
)
def test_it_ends_with_a_signal_to_its_parent(stand_in, tmp_path, number):
    program = begun(stand_in)
    pid = int((tmp_path / "pid").read_text())
    end(program, number)
    assert has_ended(pid)


def test_under_nohup_it_stays_when_the_terminal_is_closed(stand_in, tmp_path):
    from autotag.metadata import Exiftool

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Exiftool(str(stand_in)) as exiftool:
            exiftool.run(["-ver"])
            pid = (tmp_path / "pid").read_text()
            keeper = int((tmp_path / "pid.parent").read_text())
            os.kill(keeper, signal.SIGHUP)
            exiftool.run(["-ver"])
            assert (tmp_path / "pid").read_text() == pid, "it is still the same one"
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["os._exit(3)", "sys.exit()", "exiftool.close()"])
def test_it_ends_with_an_end_of_the_program_s_own(stand_in, tmp_path, ending):
    code = PROGRAM % f"print('running', flush=True); {ending}; sys.exit()"
    done = subprocess.run([sys.executable, "-c", code, str(stand_in)], timeout=600, check=False)
    assert done.returncode in (0, 3)
    assert has_ended(int((tmp_path / "pid").read_text()))


@pytest.mark.slow
def test_it_ends_although_a_fork_of_its_parent_keeps_the_pipe_open(stand_in, tmp_path):
    program = begun(stand_in, FORKS)
    pid = int((tmp_path / "pid").read_text())
    program.kill()
    program.wait(timeout=600)
    assert has_ended(pid)
    assert program.stdout is not None
    program.stdout.close()


def test_an_exiftool_that_dies_is_noticed_at_once(stand_in, tmp_path):
    from autotag.metadata import Exiftool

    with Exiftool(str(stand_in)) as exiftool:
        exiftool.run(["-ver"])
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        begin = time.monotonic()
        with pytest.raises(ValueError, match="ended unexpectedly"):
            exiftool.run(["-ver"])
        assert time.monotonic() - begin < 30
        exiftool.run(["-ver"])


@pytest.mark.slow
def test_one_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    from autotag.metadata import Exiftool, exiftool

    silent = tmp_path / "silent"
    silent.write_text('#!/bin/sh\necho $$ > "$STARTED"\nwhile :; do sleep 0.05; done\n')
    silent.chmod(0o755)
    monkeypatch.setenv("STARTED", str(tmp_path / "pid"))
    monkeypatch.setattr(exiftool, "_LONGEST_RUN", 2.0)
    with Exiftool(str(silent)) as never, pytest.raises(ValueError, match="took more than 2 s"):
        never.run(["-ver"])
    assert has_ended(int((tmp_path / "pid").read_text()))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_real_one_ends_too(number):
    program = begun("exiftool")
    listed = subprocess.run(
        [shutil.which("ps") or "ps", "-e", "-o", "pid=,ppid=,args="],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    keepers = [row[0] for row in rows if row[1] == str(program.pid)]
    (pid,) = [int(row[0]) for row in rows if row[1] in keepers]
    end(program, number)
    assert has_ended(pid)
