"""The recipe for FiftyOne makes the labels that FiftyOne documents."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from autotag.records import Caption, Detection, Result, Tag

ROOT = Path(__file__).resolve().parent.parent
RESULT = Result(
    "photos/a.jpg",
    (400, 200),
    (Caption("a dog", "blip"),),
    (Detection("dog", 0.9, (100.0, 50.0, 300.0, 150.0)),),
    (Tag("dog", 0.31, "x"), Tag("grass", 0.25, "x")),
)


@pytest.fixture
def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "to_fiftyone", ROOT / "docs" / "examples" / "to_fiftyone.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_labels_are_the_documented_json(recipe: ModuleType) -> None:
    assert recipe.labels(RESULT.to_dict()) == {
        "autotag": {
            "_cls": "Classifications",
            "classifications": [
                {"_cls": "Classification", "label": "dog", "confidence": 0.31},
                {"_cls": "Classification", "label": "grass", "confidence": 0.25},
            ],
        },
        "caption": "a dog",
        "objects": {
            "_cls": "Detections",
            "detections": [
                {
                    "_cls": "Detection",
                    "label": "dog",
                    "confidence": 0.9,
                    "bounding_box": [0.25, 0.25, 0.5, 0.5],
                }
            ],
        },
    }


def test_samples_are_added_without_failed_images(recipe, tmp_path, monkeypatch, capsys) -> None:
    added = []

    class Dataset:
        def __init__(self, name: str, *, persistent: bool) -> None: ...

        def add_sample(self, sample: SimpleNamespace) -> None:
            added.append(sample)

        def __len__(self) -> int:
            return len(added)

    kinds = ("Sample", "Classification", "Classifications", "Detection", "Detections")
    fake = SimpleNamespace(Dataset=Dataset, **dict.fromkeys(kinds, SimpleNamespace))
    monkeypatch.setitem(sys.modules, "fiftyone", fake)
    rows = [RESULT, Result("b.jpg", (0, 0), error="gone")]
    (tmp_path / "tags.jsonl").write_text("".join(json.dumps(row.to_dict()) + "\n" for row in rows))
    recipe.main([str(tmp_path / "tags.jsonl"), "mine"])
    [sample] = added
    assert [tag.label for tag in sample.autotag.classifications] == ["dog", "grass"]
    assert sample.objects.detections[0].bounding_box == [0.25, 0.25, 0.5, 0.5]
    assert Path(sample.filepath).is_absolute()

    sample.autotag.classifications[0].tags = ["reject"]
    sample.autotag.classifications[1].tags = []
    assert recipe.rejected([sample]) == {sample.filepath: ["dog"]}
