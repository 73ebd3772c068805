from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from autotag.cli.detect import _boxes_to
from autotag.models.detectors.onnx_detector import OnnxDetector
from autotag.records import Detection, Result

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


class Broken:
    """Finds boxes and scores that are not numbers, or nothing usable, beside one good box."""

    labels = ("cat", "dog")
    default_threshold = 0.3

    def __init__(self, *, good: bool) -> None:
        nan = float("nan")
        self._found = [
            Detection("cat", 0.9, (nan, 0, 5, 5)),
            Detection("cat", nan, (0, 0, 5, 5)),
            Detection("dog", 0.9, (-1e9, -1e9, -1, -1)),
            Detection("dog", 0.9, (5, 5, 5, 9)),
            Detection("dog", 0.9, (0, 0, float("inf"), nan)),
            *([Detection("cat", 0.8, (1, 2, 30, 40))] if good else []),
        ]

    def detect(self, images, /):
        return [list(self._found) for _ in images]


@pytest.mark.parametrize("good", [True, False])
def test_boxes_that_are_no_boxes_reach_no_output(run, cats, tmp_path, monkeypatch, good):
    monkeypatch.setattr(OnnxDetector, "load", lambda _request: Broken(good=good))
    command = ("detect", cats / "cat.jpg", "--model", "onnx:net", "-q")
    drawn = tmp_path / "drawn"
    result = run(*command, "--format", "jsonl", "--draw", drawn)
    assert result.exit_code == 0, result.stderr
    row = json.loads(result.stdout, parse_constant=pytest.fail)
    assert [one["box"] for one in row["detections"]] == [[1, 2, 30, 40]] * good
    assert [tag["text"] for tag in row["tags"]] == ["cat"] * good
    assert (drawn / "cat.jpg").is_file()
    coco = json.loads(run(*command, "--format", "coco").stdout, parse_constant=pytest.fail)
    assert [one["bbox"] for one in coco["annotations"]] == [[1, 2, 29, 38]] * good
    for name in ("csv", "table"):
        assert "nan" not in run(*command, "--format", name).stdout
    run(*command, "--format", "yolo", "--output", tmp_path / "set")
    [lines] = [file.read_text() for file in (tmp_path / "set").rglob("cat.txt")]
    assert len(lines.splitlines()) == good


@pytest.mark.parametrize(("format_name", "written"), [("coco", "out"), ("yolo", "out/labels/a.txt")])
def test_what_was_finished_is_written_after_an_interruption(tmp_path, format_name, written):
    opened = _boxes_to(tmp_path / "out", format_name, [], [], overwrite=False)
    with pytest.raises(KeyboardInterrupt), opened as take:
        _stop_after(take, Result("a.jpg", (4, 3)))
    assert (tmp_path / written).is_file()


def _stop_after(take, result):
    take(result)
    raise KeyboardInterrupt


class NeverRuns(Broken):
    """Refuses to look at images."""

    def __init__(self) -> None:
        super().__init__(good=False)

    def detect(self, _images, /):
        pytest.fail("a model ran")


def test_images_of_one_name_are_refused_for_yolo_before_a_model_runs(run, cats, tmp_path, monkeypatch):
    monkeypatch.setattr(OnnxDetector, "load", lambda _request: NeverRuns())
    for other in (cats / "more" / "cat.jpg", shutil.copy(cats / "cat.jpg", cats / "cat.png")):
        command = ("detect", cats / "cat.jpg", other, "--model", "onnx:net", "--format", "yolo")
        result = run(*command, "--output", tmp_path / "set")
        assert (result.exit_code, "rename one, or leave one out" in result.stderr) == (2, True)
        assert not (tmp_path / "set").exists()
    (tmp_path / "file").touch()
    result = run("detect", cats / "cat.jpg", *command[3:], "--output", tmp_path / "file" / "set")
    assert (result.exit_code, "cannot be made" in result.stderr) == (2, True)


def test_an_image_that_is_given_twice_counts_once(run, cats, tmp_path, monkeypatch):
    monkeypatch.setattr(OnnxDetector, "load", lambda _request: Broken(good=True))
    monkeypatch.chdir(cats)
    command = ("detect", "cat.jpg", cats / "cat.jpg", "./cat.jpg", "--model", "onnx:net", "-q")
    assert len(run(*command, "--format", "jsonl", "--draw", tmp_path / "drawn").stdout.splitlines()) == 1
    assert [file.name for file in (tmp_path / "drawn").iterdir()] == ["cat.jpg"]
    assert run(*command, "--format", "yolo", "--output", tmp_path / "set").exit_code == 0
    assert (tmp_path / "set" / "labels" / "cat.txt").is_file()
