from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from autotag.evaluation.calibration import Proposals

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def thresholds(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("thresholds")


def images(level, spread=1.0, count=40):
    """Photographs on which right tags lie 2 above the level, and wrong ones below it."""
    generator = np.random.default_rng(0)
    made = []
    for _ in range(count):
        right = np.arange(10) < 3
        scores = level + spread * (2.0 * right + 0.5 * generator.standard_normal(10))
        order = np.argsort(-scores)
        made.append(Proposals(scores[order], right[order]))
    return made


def test_encoders_on_one_scale_share_a_cut_and_others_do_not(thresholds):
    alike = thresholds.compared({"one": images(0.0), "two": images(0.1), "three": images(-0.1)})
    assert alike["within 5 %"]
    assert 0.5 < alike["shared cut"] < 1.5
    apart = thresholds.compared({"one": images(0.0), "two": images(5.0), "three": images(0.0, spread=0.1)})
    assert not apart["within 5 %"]
    assert apart["the same, left out"] <= apart["least share of the own F1 kept"] < 0.95


def test_f1_at_a_cut_is_that_of_the_tags_that_stay(thresholds):
    pool = thresholds.pooled([Proposals(np.array([0.9, 0.5]), np.array([True, False]))])
    assert thresholds.f1_at(pool, 0.7) == 1.0
    assert thresholds.f1_at(pool, -np.inf) == pytest.approx(2 / 3)
    assert thresholds.f1_at(pool, 0.95) == 0.0


def test_scores_by_the_background_ignore_the_encoders_scale(thresholds):
    cosines, unrelated = np.array([0.3, 0.2]), np.random.default_rng(0).normal(0.1, 0.05, 500)
    plain = thresholds.Levels(unrelated, np.zeros(2), np.ones(2))
    other = thresholds.Levels(unrelated / 3 + 0.6, np.zeros(2), np.ones(2))
    unmoved = [
        name
        for name, rescale in thresholds.SCORES.items()
        if np.allclose(rescale(plain, cosines), rescale(other, cosines / 3 + 0.6))
    ]
    assert unmoved == [
        "mean and standard deviation",
        "standardised",
        "median and 99th percentile",
        "rank among the unrelated labels",
    ]
