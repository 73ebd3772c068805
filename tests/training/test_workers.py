"""Workers are processes of their own, so they run what a script defines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from autotag.training.workers import average_gradients, run_workers, worker

SCRIPT = """
import json, sys, time
from pathlib import Path
import torch
from torch import nn
from autotag.training.workers import average_gradients, run_workers, worker

def train(folder, inputs):
    rank, count = worker()
    torch.manual_seed(0)
    model, unused = nn.Linear(2, 1), nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    said = {"rank": rank, "count": count, "threads": torch.get_num_threads()}
    for _ in range(3):
        optimizer.zero_grad()
        model(inputs[rank]).square().backward()
        said.setdefault("own", model.weight.grad.tolist())
        average_gradients([model, unused])
        said.setdefault("mean", model.weight.grad.tolist())
        optimizer.step()
    said["weights"] = model.weight.tolist() + [model.bias.tolist()]
    (folder / f"{rank}.json").write_text(json.dumps(said))

def fail():
    if worker()[0] == 1:
        raise ValueError("worker one is out of data")
    time.sleep(300)

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    run_workers(2, train, folder, torch.tensor([[1.0, 2.0], [3.0, -4.0]]))
    (folder / "trained").touch()
    run_workers(2, fail)
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that the script wrote into, and what it said last."""
    folder = tmp_path_factory.mktemp("workers")
    script = folder / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    command = [sys.executable, str(script), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert (folder / "trained").exists(), done.stderr
    assert done.returncode != 0
    return folder, done.stderr


@pytest.fixture
def said(ended: tuple[Path, str]) -> list[Any]:
    return [json.loads((ended[0] / f"{rank}.json").read_text()) for rank in range(2)]


def test_workers_know_of_each_other(said: list[Any]) -> None:
    assert [(each["rank"], each["count"], each["threads"]) for each in said] == [(0, 2, 1), (1, 2, 1)]


def test_every_gradient_becomes_the_mean(said: list[Any]) -> None:
    own = torch.tensor([each["own"] for each in said])
    assert not torch.allclose(own[0], own[1])
    for each in said:
        torch.testing.assert_close(torch.tensor(each["mean"]), own.mean(dim=0))


def test_workers_end_with_the_same_weights(said: list[Any]) -> None:
    assert said[0]["weights"] == said[1]["weights"]


def test_an_error_in_one_worker_stops_all_and_is_told(ended: tuple[Path, str]) -> None:
    assert "worker one is out of data" in ended[1]
    assert "ProcessRaisedException" in ended[1]


def test_one_worker_is_this_process() -> None:
    found: list[tuple[int, int]] = []
    layer = nn.Linear(2, 1)
    layer(torch.ones(2)).backward()
    before = layer.weight.grad

    def work(rows: list[tuple[int, int]]) -> None:
        rows.append(worker())
        average_gradients([layer])

    run_workers(1, work, found)
    assert found == [(0, 1)]
    assert layer.weight.grad is before
