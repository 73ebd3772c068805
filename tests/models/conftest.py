"""Folders of tiny models, built once for all tests."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from autotag.protocols import ModelRequest


def _beside(name: str) -> ModuleType:
    """A module beside this one; tests are no package that it could be imported from."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"autotag_{name}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _any_dtype(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny models calculate in every dtype also where the CPU only emulates it."""
    if not request.module.__name__.endswith("test_processor"):
        monkeypatch.setattr("autotag.models.loading.processor.calculates_in", lambda _: True)


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    return _beside("tiny_models")


@pytest.fixture(scope="session")
def pretended_gpu() -> ModuleType:
    return _beside("pretended_gpu")


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
