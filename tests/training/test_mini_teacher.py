from __future__ import annotations

from pathlib import Path

import pytest

from autotag.errors import ModelUnavailableError
from autotag.training.mini_teacher import read_teacher


def test_a_teacher_is_read_from_a_folder(minilm: Path) -> None:
    assert read_teacher(str(minilm)).encode(["a dog"]).shape == (1, 384)


def test_a_teacher_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError, match="nowhere"):
        read_teacher(str(tmp_path / "nowhere"))
