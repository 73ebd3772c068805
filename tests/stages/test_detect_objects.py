from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from PIL import Image

import autotag
from autotag.errors import ConfigError, UnknownNameError
from autotag.records import Detection, Result, Sample, Tag
from autotag.stages import DetectObjects, MergeTags
from autotag.testing import FakeDetector, FakeModels, check_stage, make_image

BOX = (2.0, 2.0, 12.0, 10.0)


@dataclass
class Scripted:
    """Finds the same in every image."""

    found: Sequence[Detection]
    labels: tuple[str, ...] = ("dog", "cat", "kite")
    default_threshold: float = 0.3

    def detect(self, images: Sequence[Image.Image], /) -> list[list[Detection]]:
        return [list(self.found) for _ in images]


@dataclass
class Asked:
    """Finds what it is asked for."""

    asked: list[tuple[str, ...]] = field(default_factory=list)
    refuses: str = "unreadable"

    def detect(self, images: Sequence[Image.Image], /) -> list[list[Detection]]:
        raise ConfigError("name labels")

    def check_labels(self, labels: Sequence[str], /) -> None:
        if self.refuses in labels:
            raise ConfigError(f"cannot read {self.refuses}")

    def detect_labels(self, images: Sequence[Image.Image], labels: Sequence[str], /) -> list[list[Detection]]:
        self.asked.append(tuple(labels))
        return [[Detection(label, 0.9, BOX) for label in labels] for _ in images]


def seen(
    stage: DetectObjects, image: Image.Image | None = None, size: tuple[int, int] | None = None
) -> Sample:
    stage.setup(FakeModels())
    image = image or make_image("red", (40, 30))
    sample = Sample("a.jpg", image, size or image.size)
    stage([sample])
    return sample


def test_the_stage_fits_the_protocol() -> None:
    check_stage(DetectObjects(FakeDetector()))
    check_stage(DetectObjects("rtdetr-v2-r18", labels=("thing",), threshold=0.2, max_boxes_per_label=2))


def test_tags_have_the_number_of_boxes_and_the_best_score() -> None:
    found = [Detection("dog", 0.5, BOX), Detection("cat", 0.6, BOX), Detection("dog", 0.9, BOX)]
    sample = seen(DetectObjects(Scripted(found)))
    assert [(tag.text, tag.score, tag.count) for tag in sample.tags] == [("dog", 0.9, 2), ("cat", 0.6, 1)]
    assert [one.score for one in sample.detections] == [0.9, 0.6, 0.5]
    assert sample.tags[0].scores == {"detect_objects": 0.9}


def test_a_count_survives_json_and_merging() -> None:
    sample = seen(DetectObjects(Scripted([Detection("dog", 0.9, BOX), Detection("dog", 0.8, BOX)])))
    sample.tags.insert(0, Tag.proposed("dogs", 0.4, by="extract_keyphrases"))
    MergeTags()([sample])
    assert [(tag.text, tag.count) for tag in sample.tags] == [("dogs", 2)]
    result = Result.from_sample(sample)
    assert Result.from_dict(result.to_dict()) == result
    assert result.to_dict()["tags"][0]["count"] == 2
    assert "count" not in Tag.proposed("dogs", 0.4, by="me").to_dict()


def test_broader_terms_are_not_counted() -> None:
    sample = seen(DetectObjects(Scripted([Detection("dog", 0.9, BOX)])))
    MergeTags(broader="add")([sample])
    counts = {tag.text: tag.count for tag in sample.tags}
    assert counts.pop("dog") == 1
    assert "animal" in counts
    assert set(counts.values()) == {None}


def test_boxes_are_in_pixels_of_the_original_and_inside_it() -> None:
    found = [
        Detection("dog", 0.9, (10, 10, 20, 15)),
        Detection("dog", 0.8, (-5, 20, 400, 60)),
        Detection("dog", 0.7, (50, 50, 60, 60)),
        Detection("dog", 0.7, (5, 5, 5, 9)),
        Detection("dog", 0.7, (math.nan, 5, 6, 9)),
        Detection("dog", math.nan, BOX),
    ]
    sample = seen(DetectObjects(Scripted(found)), make_image("red", (40, 30)), (400, 300))
    assert [one.box for one in sample.detections] == [(100, 100, 200, 150), (0, 200, 400, 300)]
    assert sample.tags[0].count == 2


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({}, ["dog", "cat", "dog", "dog"]),
        ({"threshold": 0.0}, ["dog", "cat", "dog", "dog", "kite"]),
        ({"threshold": 0.75}, ["dog", "cat"]),
        ({"top_k": 1}, ["dog"]),
        ({"max_boxes_per_label": 1}, ["dog", "cat"]),
        ({"labels": ("cat",)}, ["cat"]),
        ({"threshold": 1.0}, []),
    ],
)
def test_each_option_leaves_out_what_it_says(options: dict[str, Any], left: list[str]) -> None:
    scores = {"dog": (0.9, 0.7, 0.6), "cat": (0.8,), "kite": (0.1,)}
    found = [Detection(label, score, BOX) for label, own in scores.items() for score in own]
    sample = seen(DetectObjects(Scripted(found), **options))
    assert [one.label for one in sample.detections] == left
    assert [tag.text for tag in sample.tags] == list(dict.fromkeys(left))


def test_tags_can_be_left_alone() -> None:
    sample = seen(DetectObjects(FakeDetector(), tags=False))
    assert len(sample.detections) == 1
    assert sample.tags == []


def test_an_open_vocabulary_detector_is_asked_for_exactly_the_labels() -> None:
    detector = Asked()
    sample = seen(DetectObjects(detector, labels=["red car", "dog"]))
    assert detector.asked == [("red car", "dog")]
    assert [tag.text for tag in sample.tags] == ["red car", "dog"]
    many = tuple(f"thing {number}" for number in range(10_000))
    assert len(seen(DetectObjects(detector, labels=many)).detections) == 100
    with pytest.raises(ConfigError, match="finds only what it is asked for"):
        DetectObjects(detector).setup(FakeModels())
    with pytest.raises(ConfigError, match="cannot read unreadable"):
        DetectObjects(detector, labels=["unreadable"]).setup(FakeModels())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": []}, "labels is empty"),
        ({"labels": "dog"}, "write a list"),
        ({"labels": ["dog", "Dog "]}, "'Dog ' twice"),
        ({"labels": ["dog", " "]}, "names nothing"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"threshold": math.nan}, "threshold is nan"),
        ({"top_k": 0}, "top_k is 0"),
        ({"max_boxes_per_label": 0}, "max_boxes_per_label is 0"),
        ({"model": "clip-mini"}, "'clip-mini' is an encoder, not a detector"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DetectObjects(**options)


def test_unknown_names_are_refused_with_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'rtdetr-v2-r18'"):
        DetectObjects("rtdetr-v2-r81")
    with pytest.raises(ConfigError, match=r"'dgo', which this detector does not know\. Did you mean 'dog'\?"):
        DetectObjects(Scripted([]), labels=["cat", "dgo"]).setup(FakeModels())


def test_nothing_found_is_an_empty_result() -> None:
    with autotag.Pipeline([DetectObjects(Scripted([]))]) as tagger:
        result = tagger(make_image("red", (40, 30)))
    assert (result.detections, result.tags, result.error) == ((), (), None)


@pytest.mark.parametrize("size", [(1, 1), (30_000, 100)])
@pytest.mark.parametrize("mode", ["L", "1", "RGBA"])
def test_images_of_any_mode_and_shape_pass_through_the_pipeline(size: tuple[int, int], mode: str) -> None:
    with autotag.Pipeline([DetectObjects(FakeDetector())]) as tagger:
        result = tagger(Image.new(mode, size))
    assert result.size == size
    assert result.detections[0].box == (size[0] / 4, size[1] / 4, 3 * size[0] / 4, 3 * size[1] / 4)
