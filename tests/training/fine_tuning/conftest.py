"""Data sets of drawings, and the tiny models of ``tests/models``."""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from autotag.evaluation.datasets import EvaluationSet, Example

CAPTIONS = {"red": "a red bus in the street", "green": "a dog on the green grass"}


def _png(colour: str, number: int) -> bytes:
    image = Image.new("RGB", (40, 40), (200, 200, 100 + number))
    ImageDraw.Draw(image).rectangle((number % 9, 3, 24 + number % 9, 36), fill=colour)
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


def _drawings(count: int, *, tags: bool = False, name: str = "drawings") -> EvaluationSet:
    colours = [("red", "green")[number % 2] for number in range(count)]
    return EvaluationSet(
        name,
        tuple(
            Example(f"{number}.png", _png(colour, number), (), (colour,))
            if tags
            else Example(f"{number}.png", _png(colour, number), (CAPTIONS[colour],))
            for number, colour in enumerate(colours)
        ),
    )


@pytest.fixture(scope="session")
def drawings() -> Callable[..., EvaluationSet]:
    """``drawings(24)``: red and green shapes with captions; with ``tags=True`` their colours as tags."""
    return _drawings


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``tiny_folder("blip")``: the folder of that tiny model; do not write into it."""
    file = Path(__file__).parents[2] / "models" / "tiny_models.py"
    spec = importlib.util.spec_from_file_location("autotag_tiny_models", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    root = tmp_path_factory.mktemp("tiny")
    built: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in built:
            make, _, tower = name.partition("/")
            options = {"timm_tower": True} if tower == "timm" else {}
            built[name] = getattr(module, make)(root / name.replace("/", "-"), **options)
        return built[name]

    return folder
