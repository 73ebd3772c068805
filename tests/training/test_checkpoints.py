from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from torch import nn

from autotag.training import checkpoints
from autotag.training.checkpoints import Checkpoint, seeded


def test_a_part_goes_on_from_what_was_saved(tmp_path: Path) -> None:
    file = tmp_path / "work" / "part.pt"
    saved = nn.Linear(2, 2)
    assert Checkpoint(file).resume({"layer": saved}) == 0
    Checkpoint(file).save(7, {"layer": saved}, now=True)
    found = nn.Linear(2, 2)
    assert Checkpoint(file).resume({"layer": found}) == 7
    assert torch.equal(found.weight, saved.weight)
    assert [path.name for path in file.parent.iterdir()] == ["part.pt"], "nothing is left half written"


def test_it_saves_no_more_often_than_it_is_told(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "part.pt", every=1000)
    checkpoint.save(1, {})
    assert not (tmp_path / "part.pt").exists()
    often = Checkpoint(tmp_path / "part.pt", every=0)
    often.save(2, {})
    assert often.resume({}) == 2


def test_without_a_file_nothing_is_saved() -> None:
    checkpoint = Checkpoint(None)
    checkpoint.save(3, {}, now=True)
    assert checkpoint.resume({}) == 0


def test_a_step_draws_the_same_numbers_again_and_another_step_others() -> None:
    generator = torch.Generator()

    def drawn(step: int, seed: int = 1) -> list[float]:
        seeded(generator, seed=seed, step=step)
        return [*torch.rand(2, generator=generator).tolist(), *torch.rand(2).tolist()]

    with torch.random.fork_rng():
        assert drawn(4) == drawn(4)
        assert not set(drawn(4)) & (set(drawn(5)) | set(drawn(4, seed=2)))


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK), reason="only Linux has a full device")
def test_a_full_disk_is_an_error_of_the_system_and_the_last_state_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, layer = tmp_path / "part.pt", nn.Linear(300, 300)
    Checkpoint(file).save(1, {"layer": layer}, now=True)

    @contextmanager
    def full(_: Path) -> Iterator[BinaryIO]:
        with Path("/dev/full").open("wb", buffering=0) as stream:
            yield stream

    monkeypatch.setattr(checkpoints, "appearing", full)
    with pytest.raises(OSError, match="No space left"):
        Checkpoint(file).save(2, {"layer": layer}, now=True)
    assert Checkpoint(file).resume({"layer": layer}) == 1
