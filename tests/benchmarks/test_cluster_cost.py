"""The model of a cluster's cost has its closed forms; the simulation, which does not know them, agrees."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
HOUR = 3600.0


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cost(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script("cluster_cost", monkeypatch)


@pytest.fixture
def healthy(cost):
    """Two machines of two GPUs that never fail, where nothing but the GPUs takes time."""
    return cost.Cluster(
        nodes=2, gpus=2, gpu_rate=500, decode_cores=10, decode_s=1e-3, image_bytes=1e5,
        link=1e10, storage=1e10, mean_life_s=math.inf, start_s=100, block=1000,
    )  # fmt: skip


ONE_BOTTLENECK = [
    ("GPU", {}, 2000),
    ("decoding", {"decode_s": 40e-3}, 4 * 10 / 40e-3),
    ("network", {"link": 2.5e7}, 2 * 250),
    ("storage", {"storage": 3e7}, 300),
]


@pytest.mark.parametrize(("bound_by", "change", "rate"), ONE_BOTTLENECK)
def test_without_failures_the_bottleneck_alone_sets_the_rate(cost, healthy, bound_by, change, rate) -> None:
    found = cost.estimate(replace(healthy, **change), 10**6)
    assert found.bound_by == bound_by
    assert found.seconds == pytest.approx(100 + 10**6 / rate)
    assert found.gpu_hours == pytest.approx(4 * found.seconds / HOUR)


@pytest.mark.parametrize(("bound_by", "change", "rate"), ONE_BOTTLENECK)
def test_the_simulation_finds_the_same_bottleneck(cost, healthy, bound_by, change, rate) -> None:
    run = cost.simulate(replace(healthy, **change), 10**6)
    assert run.seconds == pytest.approx(100 + 10**6 / rate, rel=0.02)
    assert (run.failures, run.repeated) == (0, 0)


def test_one_block_takes_the_sum_of_all_steps(cost, healthy) -> None:
    run = cost.simulate(healthy, 1000)
    storage = link = 1000 * 1e5 / 1e10
    assert run.seconds == pytest.approx(100 + storage + link + 1000 * 1e-3 / 10 + 1000 / 500)


def test_more_machines_cost_more_where_the_storage_binds(cost, healthy) -> None:
    few, many = (cost.estimate(replace(healthy, storage=3e7, nodes=nodes), 10**6) for nodes in (2, 16))
    assert many.seconds == pytest.approx(few.seconds)
    assert many.gpu_hours == pytest.approx(8 * few.gpu_hours)


def test_with_failures_one_machine_works_its_share_of_the_time(cost, healthy) -> None:
    failing = replace(healthy, nodes=1, mean_life_s=9 * HOUR, repair_s=HOUR - 100)
    lost_per_s = 2 * 500 / (9 * HOUR)
    expected = 100 + 10**8 / (0.9 * (1000 - lost_per_s))
    assert cost.estimate(failing, 10**8).seconds == pytest.approx(expected)


@pytest.mark.parametrize("nodes", [1, 4, 16, 64])
@pytest.mark.parametrize(("storage", "block"), [(1e12, 200_000), (3e8, 10_000)])
def test_with_failures_the_simulation_agrees(cost, healthy, nodes, storage, block) -> None:
    """Blocks are large, so that what failures lose counts; machines live for four hours."""
    failing = replace(
        healthy, nodes=nodes, storage=storage, link=1e12, block=block, mean_life_s=4 * HOUR, repair_s=HOUR
    )
    images = 20_000 * block
    runs = [cost.simulate(failing, images, seed=seed) for seed in range(3)]
    assert all(run.failures > 10 and run.repeated % block == 0 for run in runs)
    found = fmean(run.seconds for run in runs)
    assert cost.estimate(failing, images).seconds == pytest.approx(found, rel=0.06)
    without = replace(failing, mean_life_s=math.inf)
    assert cost.simulate(without, images).seconds < found


def test_a_seed_gives_the_same_run(cost, healthy) -> None:
    failing = replace(healthy, mean_life_s=HOUR)
    first, same, other = (cost.simulate(failing, 10**7, seed=seed) for seed in (1, 1, 2))
    assert first == same
    assert first != other


def test_the_table_is_kept_with_its_assumptions(cost, tmp_path, monkeypatch) -> None:
    arguments = ["--photos", "1000000", "--nodes", "1", "64", "--gpu-rates", "1000", "--seeds", "1"]
    monkeypatch.setattr(sys, "argv", ["cluster_cost.py", *arguments, "--results", str(tmp_path)])
    cost.main()
    kept = json.loads((tmp_path / "cluster_cost.json").read_text())
    assert [row["machines"] for row in kept["rows"]] == [1, 64, 1, 64]
    assert [row["binds"] for row in kept["rows"]] == ["GPU", "storage", "storage", "storage"]
    assert kept["findings"]["assumptions"]["GPU images per second"].startswith("not measured")
