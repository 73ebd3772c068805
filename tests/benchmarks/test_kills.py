"""Runs that are killed at random moments lose nothing; the scripts in ``benchmarks`` try more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
@pytest.mark.parametrize(
    "script",
    [
        "kills.py --trials 15 --seed 7",
        "index_kills.py --kills 3 --seed 7 --results {folder}",
        "index_kills.py --kills 4 --seed 7 --store --results {folder}",
    ],
)
def test_nothing_is_lost_whenever_a_run_is_killed(script: str, tmp_path: Path) -> None:
    name, *arguments = script.format(folder=tmp_path).split()
    command = [sys.executable, str(BENCHMARKS / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "killed: " in done.stdout
