from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import autotag
from autotag.errors import ConfigError, UnknownNameError
from autotag.pipeline.presets import from_config
from autotag.records import Sample
from autotag.stages import ClassifyImages
from autotag.testing import FakeClassifier, FakeModels, check_classifier, check_stage, make_image, make_sample


@dataclass
class Scripted:
    """Gives every image the same probabilities."""

    labels: Sequence[str]
    probabilities: Sequence[float]
    categories: Sequence[str] = ()
    thresholds: Sequence[float] = ()

    def classify(self, images: Sequence[Image.Image], /) -> NDArray[np.float32]:
        return np.tile(np.array(self.probabilities, dtype=np.float32), (len(images), 1))


TAGGER = Scripted(
    ("explicit", "long hair", "alice", "hat"),
    (0.9, 0.4, 0.8, 0.3),
    ("rating", "general", "character", "general"),
    (0.35, 0.35, 0.85, 0.35),
)


def tags(stage: ClassifyImages, sample: Sample | None = None) -> dict[str, float]:
    sample = sample or make_sample()
    stage.setup(FakeModels())
    stage([sample])
    return {tag.text: round(tag.score, 4) for tag in sample.tags}


def test_the_stage_and_the_fake_fit_their_protocols() -> None:
    check_stage(ClassifyImages(FakeClassifier()))
    check_stage(ClassifyImages("lite-imagenet", threshold=0.02, top_k=2, namespace="imagenet"))
    check_classifier(FakeClassifier())
    check_classifier(Scripted(("a",), (0.2,)))


def test_likely_labels_are_proposed_with_their_probability_after_other_tags() -> None:
    sample = make_sample(colour="blue", tags={"lake": 0.7})
    assert tags(ClassifyImages(FakeClassifier()), sample) == {"lake": 0.7, "blue": 0.9}
    assert sample.tags[-1].scores == {"classify_images": sample.tags[-1].score}


def test_nothing_likely_is_no_tag() -> None:
    assert tags(ClassifyImages(Scripted(("cat", "dog"), (0.49, 0.2)))) == {}


def test_a_probability_that_is_no_number_is_left_out() -> None:
    assert tags(ClassifyImages(Scripted(("cat", "dog"), (float("nan"), 0.7)))) == {"dog": 0.7}


def test_a_doubled_label_is_proposed_once_and_synonyms_by_their_first() -> None:
    model = Scripted(("crane", "tabby, tabby cat", "Crane, bird", "crane"), (0.1, 0.3, 0.05, 0.2))
    assert tags(ClassifyImages(model, threshold=0.08, top_k=2)) == {"tabby": 0.3, "crane": 0.2}


def test_a_namespace_puts_tags_below_a_broader_term() -> None:
    sample = make_sample(colour="red")
    tags(ClassifyImages(FakeClassifier(), namespace=" colours "), sample)
    assert [(tag.text, tag.path) for tag in sample.tags] == [("red", ("colours", "red"))]


def test_a_tagger_has_its_own_thresholds_and_its_ratings_are_no_tags() -> None:
    assert tags(ClassifyImages(TAGGER)) == {"long hair": 0.4}
    assert tags(ClassifyImages(TAGGER, categories=("rating",))) == {"explicit": 0.9}
    assert tags(ClassifyImages(TAGGER, threshold=0.25)) == {"alice": 0.8, "long hair": 0.4, "hat": 0.3}


def test_thresholds_can_be_set_by_category() -> None:
    assert tags(ClassifyImages(TAGGER, threshold={"character": 0.5})) == {"alice": 0.8, "long hair": 0.4}
    stage = {"stage": "classify_images", "model": "wd-vit", "threshold": {"character": 0.5}}
    built = from_config({"stages": [stage]}).stages[0]
    assert built.threshold == {"character": 0.5}  # type: ignore[attr-defined]


def test_no_category_with_a_threshold_leaves_the_models_own() -> None:
    assert tags(ClassifyImages(TAGGER, threshold={})) == tags(ClassifyImages(TAGGER))


def test_a_pipeline_classifies_any_image_once() -> None:
    model = FakeClassifier()
    pictures = [make_image("red", (1, 1)), make_image("green", (3000, 10)), Image.new("L", (9, 9), 20)]
    with autotag.Pipeline([ClassifyImages(model)]) as tagger:
        found = [[tag.text for tag in result.tags] for result in tagger.stream(pictures)]
    assert found == [["red"], ["green"], ["red"]]
    assert sum(model.batches) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"threshold": {"general": -1}}, "threshold.general is -1"),
        ({"top_k": 0}, "top_k is 0"),
        ({"namespace": " "}, "namespace is ' '"),
        ({"categories": ()}, "categories is empty"),
        ({"categories": "general"}, "write a list"),
        ({"model": "lite-imagnet"}, "Did you mean 'lite-imagenet'"),
        ({"model": "clip-mini"}, "'clip-mini' is an encoder, not a classifier"),
        ({"model": object()}, "has no labels, classify"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClassifyImages(**{"model": "lite-imagenet", **options})


def test_an_unknown_category_is_refused_with_the_near_miss() -> None:
    for options in ({"categories": ("generall",)}, {"threshold": {"generall": 0.2}}):
        with pytest.raises(ConfigError, match="no category 'generall'. Did you mean 'general'"):
            ClassifyImages(TAGGER, **options).setup(FakeModels())
    with pytest.raises(ConfigError, match="no category 'general'"):
        ClassifyImages(FakeClassifier(), categories=("general",)).setup(FakeModels())


def test_an_unknown_factory_is_named() -> None:
    with pytest.raises(UnknownNameError, match="classifier factory 'tim'. Did you mean 'timm'"):
        ClassifyImages("tim:timm/resnet18.a1_in1k")
