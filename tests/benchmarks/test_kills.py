"""Album runs that are killed at random moments lose nothing; ``python benchmarks/kills.py`` tries more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

KILLS = Path(__file__).resolve().parents[2] / "benchmarks" / "kills.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
def test_nothing_is_lost_whenever_a_run_is_killed() -> None:
    command = [sys.executable, str(KILLS), "--trials", "15", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "killed: " in done.stdout
