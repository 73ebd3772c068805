from __future__ import annotations

from pathlib import Path

import pytest

from autotag.training.mini_labels import blank_set

pytestmark = pytest.mark.slow


def test_pictures_of_nothing_may_show_a_colour(tmp_path: Path) -> None:
    row = {"cat": 0, "red": 1, "red car": 2, "tree": 3}
    assert blank_set(tmp_path, list(row), row).labels.tolist() == [0, 3]
