"""Workers are processes of their own, so they run what a script defines."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from autotag.training.workers import run_each

SCRIPT = """
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from autotag.training.workers import run_each

def write(number, folder, rows):
    (folder / str(number)).write_text(f"{torch.get_num_threads()} {rows[number].item()}")

def fail():
    raise ValueError("worker one is out of data")

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    rows = torch.tensor([5, 7])
    run_each([partial(write, number, folder, rows) for number in range(2)], threads=1)
    (folder / "done").touch()
    run_each([partial(write, 0, folder, rows), fail], threads=1)
"""


@pytest.mark.slow
def test_each_function_runs_in_a_process_of_its_own_and_an_error_is_told(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    command = [sys.executable, str(script), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert (tmp_path / "done").exists(), ended.stderr
    assert [(tmp_path / str(number)).read_text() for number in range(2)] == ["1 5", "1 7"]
    assert ended.returncode != 0
    assert "worker one is out of data" in ended.stderr


ENDLESS = """
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from autotag.training.workers import run_each

def write(number, folder):
    (folder / f"{number}.part").write_text(str(os.getpid()))
    (folder / f"{number}.part").rename(folder / str(number))
    time.sleep(3600)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for what runs in the background
    run_each([partial(write, number, Path(sys.argv[1])) for number in range(2)], threads=1)
"""


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(ENDLESS, encoding="utf-8")
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path)])
    files = [tmp_path / str(number) for number in range(2)]
    while not all(file.exists() for file in files):
        assert parent.poll() is None
        time.sleep(0.05)
    workers = [int(file.read_text()) for file in files]
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 600
    while any(is_running(worker) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


def test_a_single_function_runs_in_this_process() -> None:
    found: list[int] = []

    def work(rows: list[int]) -> None:
        rows.append(os.getpid())

    run_each([partial(work, found)], threads=torch.get_num_threads())
    assert found == [os.getpid()]


def test_nothing_to_do_is_done() -> None:
    run_each([], threads=1)
