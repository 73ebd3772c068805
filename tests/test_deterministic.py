"""``deterministic=True``: the same images, the same bytes, also by real models."""

from __future__ import annotations

from pathlib import Path

import autotag
from autotag.writers.json_text import json_text

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"


def test_three_runs_over_the_same_folder_give_the_same_lines() -> None:
    runs = []
    for _ in range(3):
        with autotag.load("mini", device="cpu", batch_size=2, deterministic=True) as pipeline:
            images = sorted(EXAMPLES.glob("*.jpg"))[:5]
            runs.append([json_text(result) for result in pipeline.stream(images)])
    assert len(runs[0]) == 5
    assert runs[0] == runs[1] == runs[2]
