from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from autotag.training import features
from autotag.training.features import Features, ViewPlan, make_features

PIXELS = torch.randint(256, (5, 3, 40, 40), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_CHUNK", 2)


PLAN = ViewPlan(3, 2)


def made(folder: Path, plan: ViewPlan = PLAN) -> Features:
    return make_features("few", PIXELS, plan, folder, workers=1)


@pytest.mark.slow
def test_a_view_is_the_whole_photograph_its_mirror_image_or_a_crop(tmp_path: Path) -> None:
    found = made(tmp_path)
    assert found.pooled.shape == (5, 3, 1280)
    assert found.maps.shape == (5, 2, 49, 1280)
    assert found.pooled.dtype == found.maps.dtype == np.float16
    whole, mirrored, cropped = (found.pooled[:, view].astype(np.float32) for view in range(3))
    np.testing.assert_allclose(found.maps[:, 0].astype(np.float32).mean(axis=1), whole, atol=0.01)
    np.testing.assert_allclose(found.maps[:, 1].astype(np.float32).mean(axis=1), cropped, atol=0.01)
    flipped = make_features("flipped", PIXELS.flip(-1), ViewPlan(1), tmp_path, workers=1)
    np.testing.assert_allclose(flipped.pooled[:, 0].astype(np.float32), mirrored, atol=0.01)


@pytest.mark.slow
def test_what_is_there_already_is_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was killed left the first chunk."""
    whole = made(tmp_path)
    files = sorted(tmp_path.glob("*.npz"))
    assert len(files) == 3
    for file in files[1:]:
        file.unlink()
    kept = files[0].stat().st_mtime_ns
    again = made(tmp_path)
    np.testing.assert_array_equal(again.pooled, whole.pooled)
    assert files[0].stat().st_mtime_ns == kept
    monkeypatch.setattr(features, "read_backbone", None)  # all is there: no network is needed
    np.testing.assert_array_equal(made(tmp_path).maps, whole.maps)


@pytest.mark.slow
def test_other_views_are_not_taken_for_these(tmp_path: Path) -> None:
    made(tmp_path, ViewPlan(1))
    assert made(tmp_path, ViewPlan(2)).pooled.shape[1] == 2
