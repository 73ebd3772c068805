"""Folders of tiny detectors, built once for all tests."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def detector_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``detector_folder("detr")``: the folder of that tiny model; do not write into it."""
    spec = importlib.util.spec_from_file_location(
        "autotag_tiny_detectors", Path(__file__).with_name("tiny_detectors.py")
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    root = tmp_path_factory.mktemp("detectors")
    built: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in built:
            built[name] = getattr(module, name)(root / name)
        return built[name]

    return folder
