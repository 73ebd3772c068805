"""Why an image has a tag: the chain of evidence through the stages."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import autotag
from autotag.errors import ConfigError, ImageReadError
from autotag.protocols import ImageTextEncoder, Stage
from autotag.records import Result, Sample, Tag
from autotag.records.drawing import heat_map
from autotag.stages import FilterTags, MatchVocabulary
from autotag.testing import FakeEncoder


@pytest.fixture(scope="module")
def mini() -> Iterator[autotag.Pipeline]:
    with autotag.load("mini") as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def coffee(pytestconfig: pytest.Config) -> Path:
    return pytestconfig.rootpath / "docs/examples/coffee.jpg"


def test_by_default_the_tags_of_the_result_are_explained(mini: autotag.Pipeline, coffee: Path) -> None:
    found = mini.explain(coffee)
    result = mini(coffee)
    assert [one.text for one in found] == [tag.text for tag in result.tags]
    assert found[0].result == result
    for one, tag in zip(found, result.tags, strict=True):
        assert one.history is not None
        assert one.history.dropped_by is None
        assert one.history.reason == ""
        assert one.history.tag.scores["filter_tags"] == pytest.approx(tag.score, abs=1e-5)
        assert one.cosine == pytest.approx(tag.score, abs=1e-3)
        assert one.maps.values.shape[0] == 1


def test_the_evidence_of_a_phrase_is_captions_and_scores(mini: autotag.Pipeline, coffee: Path) -> None:
    (cup,) = mini.explain(coffee, "cup")
    assert cup.history is not None
    assert all("cup" in caption for caption in cup.history.captions)
    assert cup.history.captions
    assert {"extract_keyphrases", "filter_tags"} <= set(cup.history.tag.scores)
    assert cup.history.cut == 0.11


def test_tags_that_lost_say_to_whom_and_why(mini: autotag.Pipeline, coffee: Path) -> None:
    (cup,) = mini.explain(coffee, "cup")
    lost = {other.tag.text: other for other in cup.others if other.dropped_by}
    below = [one for one in lost.values() if "is below 0.110" in one.reason]
    many = [one for one in lost.values() if "have higher scores" in one.reason]
    assert all(one.tag.score < 0.11 for one in below)
    assert all(one.tag.score >= 0.11 for one in many)
    assert below
    assert many
    kept_first = [other.dropped_by is not None for other in cup.others]
    assert kept_first == sorted(kept_first)


def test_words_that_no_stage_proposed_are_explained_too(mini: autotag.Pipeline, coffee: Path) -> None:
    plane, cup = mini.explain(coffee, "plane", "cup", "plane")
    assert plane.history is None
    assert plane.cosine < cup.cosine


def test_an_explanation_is_json_and_a_picture(mini: autotag.Pipeline, coffee: Path) -> None:
    (cup,) = mini.explain(coffee, "cup")
    row = json.loads(json.dumps(cup.to_dict()))
    assert (row["text"], row["history"]["dropped_by"], row["source"]) == ("cup", None, str(coffee))
    assert np.array(row["map"]).shape == cup.maps.values.shape[1:]
    assert row["box"] == [0, 0, *cup.result.size]
    with Image.open(coffee) as photo:
        assert cup.picture().size == photo.size


class Dropping:
    name = "drop_cats"
    requires = frozenset({"tags"})
    provides = frozenset({"tags"})

    def __call__(self, samples: Sequence[Sample], /) -> None:
        for sample in samples:
            sample.tags = [tag for tag in sample.tags if tag.text != "cat"]


def pipeline(encoder: ImageTextEncoder) -> autotag.Pipeline:
    stages: list[Stage] = [
        MatchVocabulary(("dog", "cat")),
        Dropping(),
        FilterTags(score="cosine", threshold=-1),
    ]
    return autotag.Pipeline(stages, encoder=encoder)


def test_an_encoder_without_maps_is_refused() -> None:
    with (
        pipeline(FakeEncoder({}, default_thresholds={})) as one,
        pytest.raises(ConfigError, match="text_maps"),
    ):
        one.explain(Image.new("RGB", (8, 8)))


def test_a_stage_of_somebody_else_that_drops_a_tag_is_named(mini: autotag.Pipeline) -> None:
    stages: list[Stage] = [
        MatchVocabulary(("dog", "cat")),
        Dropping(),
        FilterTags(score="cosine", threshold=-1),
    ]
    with mini.sharing_models(stages) as one:
        (cat,) = one.explain(Image.new("RGB", (64, 64), "red"), "cat")
    assert cat.history is not None
    assert cat.history.dropped_by == "drop_cats"
    assert isinstance(cat.history.tag, Tag)


def test_a_file_that_is_no_image_is_refused(mini: autotag.Pipeline, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"nothing")
    with pytest.raises(ImageReadError, match=r"x\.jpg"):
        mini.explain(tmp_path / "x.jpg")


def test_a_heat_map_is_bright_where_its_values_are_high() -> None:
    values = np.zeros((4, 4), dtype=np.float32)
    values[0, 3] = 1
    drawn = np.asarray(heat_map(Image.new("RGB", (80, 40), "grey"), values, (0, 0, 80, 40)).convert("L"))
    assert drawn[4, 74] > drawn[4, 6] + 60
    assert drawn[36, 6] == drawn[4, 6]


@pytest.mark.parametrize("box", [(-20, 0, 60, 40), (10, 0, 30, 40), (0, 0, 0, 0)])
def test_a_map_may_cover_a_part_or_reach_beyond(box: tuple[int, int, int, int]) -> None:
    flat = heat_map(Image.new("RGB", (40, 40), "grey"), np.ones((2, 2), dtype=np.float32), box)
    assert flat.size == (40, 40)
    assert len(flat.getcolors() or ()) == 1


@pytest.mark.slow
def test_a_result_explains_a_tag_with_the_pipeline_that_made_it(mini: autotag.Pipeline, coffee: Path) -> None:
    for result in (mini(coffee), *mini.stream([coffee])):
        cup = result.explain("cup")
        assert cup.text == "cup"
        assert cup.result == result
        assert cup.history is not None
    page = cup._repr_html_()
    assert "in the caption: " in page
    assert page.count("<img") == 1


@pytest.mark.slow
def test_a_result_from_elsewhere_needs_a_pipeline(mini: autotag.Pipeline, coffee: Path) -> None:
    made = mini(coffee)
    others = (pickle.loads(pickle.dumps(made)), copy.deepcopy(made), Result.from_dict(made.to_dict()))
    for result in others:
        assert result == made
        assert hash(result) == hash(made)
        with pytest.raises(ConfigError, match="pipeline=tagger"):
            result.explain("cup")
        assert result.explain("cup", pipeline=mini).result == made


def test_a_result_keeps_no_pipeline_in_memory() -> None:
    one = pipeline(FakeEncoder({}, default_thresholds={}))
    result = one(Image.new("RGB", (8, 8)))
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None
    with pytest.raises(ConfigError, match="no longer exists"):
        result.explain("dog", Image.new("RGB", (8, 8)))


@pytest.mark.slow
def test_what_a_result_cannot_explain_is_said(mini: autotag.Pipeline, coffee: Path) -> None:
    red = Image.new("RGB", (64, 48), "red")
    in_memory = mini(red)
    with pytest.raises(ConfigError, match="in memory"):
        in_memory.explain("dog")
    assert in_memory.explain("dog", red).text == "dog"
    with pytest.raises(ConfigError, match="the image has .* the result of one with 64 x 48"):
        in_memory.explain("dog", coffee)
    with pytest.raises(ConfigError, match="is empty"):
        in_memory.explain("  ", red)
    with pytest.raises(ConfigError, match="it failed: broken"):
        Result("x.jpg", (0, 0), error="broken").explain("dog", pipeline=mini)
