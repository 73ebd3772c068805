from __future__ import annotations

from pathlib import Path

import pytest

from autotag.errors import ConfigError
from autotag.training.mini_photos import read_data

DATA = (
    "flickr8k-train.parquet",
    "coco-train.parquet",
    "scenes-train.parquet",
    "tiny-imagenet-train-0.parquet",
)


@pytest.mark.parametrize("missing", DATA)
def test_missing_data_is_named(tmp_path: Path, missing: str) -> None:
    for name in set(DATA) - {missing}:
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=f"does not contain {missing[:12]}"):
        read_data(tmp_path)
