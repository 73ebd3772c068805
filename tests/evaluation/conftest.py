from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def caption_sets() -> tuple[list[str], list[list[str]]]:
    """500 captions and their references, the ones of the record."""
    sets: tuple[list[str], list[list[str]]] = runpy.run_path(str(HERE / "record_reference_scores.py"))[
        "caption_sets"
    ]()
    return sets


@pytest.fixture(scope="session")
def reference_scores() -> dict[str, Any]:
    """What pycocoevalcap says of them."""
    record: dict[str, Any] = json.loads((HERE / "reference_scores.json").read_text(encoding="utf-8"))
    return record
