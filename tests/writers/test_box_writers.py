"""Boxes for programs that train: COCO's document and YOLO's files."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from autotag.errors import ConfigError
from autotag.records import Detection, Result
from autotag.testing import check_writer
from autotag.writers.coco_writer import CocoWriter
from autotag.writers.csv_writer import CsvWriter
from autotag.writers.yolo_folder import write_yolo_folder

RESULTS = [
    Result("a.jpg", (100, 50), detections=(Detection("dog", 0.9, (10, 5, 30, 25)),)),
    Result("b.jpg", (10, 10)),
    Result("c.jpg", (0, 0), error="cannot read image"),
    Result(
        "d.jpg",
        (200, 100),
        detections=(Detection("cat", 0.8, (0, 0, 200, 100)), Detection("dog", 0.5, (1.5, 2, 3, 4))),
    ),
]


def test_coco_has_images_boxes_and_categories() -> None:
    check_writer(CocoWriter)
    stream = io.StringIO()
    writer = CocoWriter(stream)
    for result in RESULTS:
        writer.write(result)
    writer.close()
    found = json.loads(stream.getvalue())
    assert [row["file_name"] for row in found["images"]] == ["a.jpg", "b.jpg", "d.jpg"]
    assert found["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert found["annotations"][0] == {
        "id": 1,
        "image_id": 1,
        "category_id": 2,
        "bbox": [10, 5, 20, 20],
        "area": 400,
        "iscrowd": 0,
        "score": 0.9,
    }
    assert [row["image_id"] for row in found["annotations"]] == [1, 3, 3]


def test_yolo_files_have_centres_and_sizes_as_fractions(tmp_path: Path) -> None:
    assert write_yolo_folder(RESULTS, tmp_path / "set") == ("cat", "dog")
    labels = tmp_path / "set" / "labels"
    assert sorted(path.name for path in labels.iterdir()) == ["a.txt", "b.txt", "d.txt"]
    assert (labels / "a.txt").read_text() == "1 0.200000 0.300000 0.200000 0.400000\n"
    assert (labels / "b.txt").read_text() == ""
    assert (labels / "d.txt").read_text().splitlines()[0] == "0 0.500000 0.500000 1.000000 1.000000"
    assert (tmp_path / "set" / "data.yaml").read_text() == 'path: .\nnames:\n  0: "cat"\n  1: "dog"\n'


def test_yolo_classes_can_be_given_and_must_be_complete(tmp_path: Path) -> None:
    assert write_yolo_folder(RESULTS, tmp_path, ["dog", "kite", "cat"]) == ("dog", "kite", "cat")
    assert (tmp_path / "labels" / "a.txt").read_text().startswith("0 ")
    with pytest.raises(ConfigError, match="lack 'cat'"):
        write_yolo_folder(RESULTS, tmp_path, ["dog"])


def test_two_images_of_one_name_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"would both have a\.txt"):
        write_yolo_folder([RESULTS[0], Result("x/a.png", (5, 5))], tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_csv_has_a_column_of_boxes() -> None:
    stream = io.StringIO()
    CsvWriter(stream).write(RESULTS[3])
    assert "cat 0.8000 [0 0 200 100]; dog 0.5000 [2 2 3 4]" in stream.getvalue()
