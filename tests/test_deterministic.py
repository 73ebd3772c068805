"""The same images give the same bytes, also by real models."""

from __future__ import annotations

from pathlib import Path

import pytest

import autotag
from autotag.writers.json_text import json_text

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"


@pytest.mark.slow
def test_three_runs_over_the_same_folder_give_the_same_lines() -> None:
    runs = []
    for deterministic in (False, False, True):
        with autotag.load("mini", device="cpu", batch_size=2, deterministic=deterministic) as pipeline:
            images = sorted(EXAMPLES.glob("*.jpg"))[:5] * 3
            runs.append([json_text(result) for result in pipeline.stream(images)])
    assert len(runs[0]) == 15
    assert runs[0] == runs[1] == runs[2]
