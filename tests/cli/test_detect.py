from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


@pytest.fixture
def cats(tmp_path):
    folder = tmp_path / "cats"
    (folder / "more").mkdir(parents=True)
    shutil.copy(EXAMPLES / "cat.jpg", folder / "cat.jpg")
    shutil.copy(EXAMPLES / "cat.jpg", folder / "more" / "cat.jpg")
    return folder


@pytest.mark.slow
def test_boxes_are_written_and_drawn_and_photographs_stay(run, cats, tmp_path):
    before = (cats / "cat.jpg").read_bytes()
    (cats / "bad.jpg").write_bytes(b"no image")
    drawn = tmp_path / "drawn"
    arguments = ("detect", cats, "--model", "objects-mini", "--draw", drawn, "--format", "jsonl")
    result = run(*arguments)
    assert result.exit_code == 1
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["detections"][0]["label"] for row in rows if not row["error"]] == ["cat", "cat"]
    assert sorted(path.name for path in drawn.iterdir()) == ["cat-2.jpg", "cat.jpg"]
    with Image.open(drawn / "cat.jpg") as picture, Image.open(cats / "cat.jpg") as photo:
        assert picture.height > photo.height
    assert (cats / "cat.jpg").read_bytes() == before
    again = run(*arguments)
    assert again.exit_code == 2
    assert "--overwrite replaces it" in again.stderr
    assert run(*arguments, "--overwrite").exit_code == 1


@pytest.mark.slow
def test_labels_threshold_and_formats(run, cats, tmp_path):
    asked = (
        "detect",
        cats / "cat.jpg",
        "--model",
        "objects-mini",
        "--label",
        "cat",
        "--label",
        "zebra",
        "-q",
    )
    found = json.loads(run(*asked, "--format", "coco").stdout)
    assert {row["name"] for row in found["categories"]} == {"cat"}
    result = run(*asked, "--threshold", "0.05", "--format", "yolo", "--output", tmp_path / "set")
    assert result.exit_code == 0
    assert (tmp_path / "set" / "data.yaml").read_text() == 'path: .\nnames:\n  0: "cat"\n  1: "zebra"\n'
    assert "not empty" in run(*asked, "--format", "yolo", "--output", tmp_path / "set").stderr
    assert "needs --output" in run(*asked, "--format", "yolo").stderr


def test_drawing_into_the_folder_of_the_images_is_refused(run, cats):
    result = run("detect", cats / "cat.jpg", "--model", "objects-mini", "--draw", cats, "--overwrite")
    assert result.exit_code == 2
    assert "would overwrite the image" in result.stderr


def test_a_wrong_model_or_label_ends_with_a_way_out(run, cats):
    result = run("detect", cats, "--model", "objects-mimi")
    assert (result.exit_code, "Did you mean 'objects-mini'?" in result.stderr) == (2, True)
    result = run("detect", cats, "--model", "objects-mini", "--label", "cat", "--label", "Cat")
    assert (result.exit_code, "'Cat' twice" in result.stderr) == (2, True)
