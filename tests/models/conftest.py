"""Folders of tiny models, built once for all tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from autotag.protocols import ModelRequest

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _any_dtype(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny models calculate in every dtype also where the CPU only emulates it."""
    if not request.module.__name__.endswith("test_processor"):
        monkeypatch.setattr("autotag.models.loading.processor.calculates_in", lambda _: True)


@pytest.fixture(scope="session")
def tiny(import_file: Callable[[Path], ModuleType]) -> ModuleType:
    return import_file(HERE / "tiny_models.py")


@pytest.fixture(scope="session")
def pretended_gpu(import_file: Callable[[Path], ModuleType]) -> ModuleType:
    return import_file(HERE / "pretended_gpu.py")


@pytest.fixture(scope="session")
def tiny_folder(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``tiny_folder("blip")``: the folder of that tiny model; do not write into it."""
    root = tmp_path_factory.mktemp("tiny")
    built: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in built:
            make, _, tower = name.partition("/")
            options = {"timm_tower": True} if tower == "timm" else {}
            built[name] = getattr(tiny, make)(root / name.replace("/", "-"), **options)
        return built[name]

    return folder


@pytest.fixture(scope="session")
def images() -> list[Image.Image]:
    """Four noisy images of different shapes."""
    random = np.random.default_rng(0)
    sides = ((40, 50), (64, 33), (33, 33), (90, 100))
    return [Image.fromarray(random.integers(0, 255, (*side, 3), dtype=np.uint8)) for side in sides]


@pytest.fixture
def request_for() -> Callable[..., ModelRequest]:
    def make(location: object, **more: object) -> ModelRequest:
        facts: dict[str, object] = {
            "name": str(location),
            "location": str(location),
            "revision": None,
            "device": "cpu",
            "dtype": "float32",
            "default_thresholds": {},
            "download_size": None,
        }
        return ModelRequest(**{**facts, **more})  # type: ignore[arg-type]

    return make
