"""Folders of tiny detectors, built once for all tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def detector_folder(
    import_file: Callable[[Path], ModuleType], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """``detector_folder("detr")``: the folder of that tiny model; do not write into it."""
    module = import_file(Path(__file__).with_name("tiny_detectors.py"))
    root = tmp_path_factory.mktemp("detectors")
    built: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in built:
            built[name] = getattr(module, name)(root / name)
        return built[name]

    return folder
