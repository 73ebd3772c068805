"""objects-mini: where the bundled encoder sees what it sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import autotag
from autotag.errors import ModelLoadError
from autotag.models.pool import ModelPool
from autotag.stages import DetectObjects
from autotag.testing import check_detector

EXAMPLES = Path(__file__).resolve().parents[3] / "docs" / "examples"


@pytest.fixture(scope="module")
def mini() -> Any:
    return ModelPool(device="cpu").detector("objects-mini")


def photo(name: str) -> Image.Image:
    return Image.open(EXAMPLES / f"{name}.jpg").convert("RGB")


def test_it_fits_the_protocol(mini: Any) -> None:
    check_detector(mini)
    assert "cat" in mini.labels
    assert not {"sunset", "party"} & set(mini.labels)


def test_it_finds_a_thing_where_it_is_and_not_where_it_is_not(mini: Any) -> None:
    cat, sky = photo("cat").resize((300, 300)), Image.new("RGB", (300, 300), (120, 170, 220))
    for corner in ((0, 0), (300, 0), (0, 300), (300, 300)):
        image = Image.new("RGB", (600, 600), (120, 170, 220))
        image.paste(cat, corner)
        [found] = mini.detect_labels([image], ["cat"])[0]
        left, top, right, bottom = found.box
        middle = (left + right) / 2 - corner[0], (top + bottom) / 2 - corner[1]
        assert 0 < middle[0] < 300, corner
        assert 0 < middle[1] < 300, corner
    assert all(one.score < mini.default_threshold for one in mini.detect_labels([sky], ["cat"])[0])


def test_the_best_label_of_a_thing_stays_without_its_broader_terms(mini: Any) -> None:
    labels = [one.label for one in mini.detect([photo("cat")])[0]]
    assert labels[0] == "cat"
    assert "animal" not in labels


def test_it_works_offline_in_a_pipeline_and_does_not_count() -> None:
    with autotag.Pipeline([DetectObjects("objects-mini")]) as tagger:
        result = tagger(EXAMPLES / "cat.jpg")
    assert result.detections[0].label == "cat"
    assert result.tags[0].text == "cat"
    assert result.tags[0].count is None


@pytest.mark.parametrize("size", [(1, 1), (3000, 10)])
def test_boxes_are_inside_images_of_any_shape(mini: Any, size: tuple[int, int]) -> None:
    for one in mini.detect_labels([photo("cat").resize(size)], ["cat", "dog", "sky"])[0]:
        assert 0 <= one.box[0] < one.box[2] <= size[0]
        assert 0 <= one.box[1] < one.box[3] <= size[1]


def test_a_tower_without_maps_is_refused(tiny_folder: Callable[[str], Path]) -> None:
    with pytest.raises(ModelLoadError, match="need a convolutional image tower"):
        ModelPool(device="cpu").detector(f"class_activation:{tiny_folder('open_clip_folder')}")
