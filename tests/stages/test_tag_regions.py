from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import autotag
from autotag.errors import ConfigError, WiringError
from autotag.records import Detection, Sample, Tag
from autotag.stages import DetectObjects, TagRegions
from autotag.testing import FakeDetector, FakeEncoder, FakeModels, check_stage, make_image
from autotag.vocabularies.vocabulary import Vocabulary

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
COLOURS = Vocabulary(["red", "blue"], name="colours")


def run(stage: TagRegions, sample: Sample) -> FakeEncoder:
    encoder = FakeEncoder()
    stage.setup(FakeModels(fake_encoder=encoder))
    stage([sample])
    return encoder


def test_the_stage_fits_the_protocol() -> None:
    check_stage(TagRegions(COLOURS, threshold=-1.0))
    check_stage(TagRegions("things", threshold=0.1, boxes=False, grid=2))


def test_all_parts_of_a_batch_are_one_batch_of_the_encoder() -> None:
    encoder = FakeEncoder()
    stage = TagRegions(COLOURS, threshold=-1.0, grid=2, smallest=1)
    stage.setup(FakeModels(fake_encoder=encoder))
    samples = [Sample(str(n), make_image("red", (80, 60)), (80, 60)) for n in range(3)]
    samples[0].detections = [Detection("x", 0.9, (0, 0, 40, 40)), Detection("x", 0.9, (10, 0, 40, 40))]
    stage(samples)
    assert encoder.image_batches == [2 + 3 * 4]
    assert all({tag.text for tag in sample.tags} == {"red", "blue"} for sample in samples)
    assert samples[0].tags[0].scores == {"tag_regions": samples[0].tags[0].score}


def test_small_parts_and_tags_that_are_there_are_left_out() -> None:
    sample = Sample("a", make_image("red", (80, 60)), (800, 600), tags=[Tag.proposed("Red", 0.5, by="me")])
    sample.detections = [Detection("x", 0.9, (0, 0, 300, 200)), Detection("x", 0.9, (0, 0, 20, 200))]
    encoder = run(TagRegions(COLOURS, threshold=-1.0), sample)
    assert encoder.image_batches == [1]
    assert [tag.text for tag in sample.tags] == ["Red", "blue"]


def test_nothing_to_look_at_proposes_nothing() -> None:
    sample = Sample("a", make_image("red", (1, 1)), (1, 1))
    assert run(TagRegions(COLOURS, threshold=-1.0, grid=2), sample).image_batches == []
    assert sample.tags == []


@pytest.mark.slow
def test_a_small_thing_in_a_large_picture_gets_its_label_offline() -> None:
    image = Image.new("RGB", (1200, 1200), (120, 170, 220))
    with Image.open(EXAMPLES / "cat.jpg") as cat:
        image.paste(cat.resize((300, 300)), (850, 850))
    stages = [TagRegions(boxes=False, grid=4, threshold=0.2)]
    with autotag.Pipeline(stages, encoder="clip-mini") as tagger:
        assert "cat" in [tag.text for tag in tagger(image).tags]


def test_boxes_need_a_stage_that_finds_them() -> None:
    with pytest.raises(WiringError, match="detections"):
        autotag.Pipeline([TagRegions(threshold=0.1)], encoder="clip-mini")
    autotag.Pipeline([DetectObjects(FakeDetector()), TagRegions(threshold=0.1)], encoder="clip-mini")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": 1}, "grid is 1"),
        ({"grid": 9}, "grid is 9"),
        ({"boxes": False}, "nothing to look at"),
        ({"margin": -0.1}, "margin is -0.1"),
        ({"threshold": 2.0}, "threshold is 2.0"),
        ({"smallest": 0}, "smallest is 0"),
        ({"top_k": 0}, "top_k is 0"),
        ({"vocabulary": "thinks"}, "thinks"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TagRegions(**options)
