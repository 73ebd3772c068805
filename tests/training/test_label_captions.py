from __future__ import annotations

import pytest

from autotag.training.label_captions import (
    captions_of_name,
    captions_of_objects,
    captions_of_scene,
    with_article,
)


@pytest.mark.parametrize(
    ("name", "said"),
    [("cat", "a cat"), ("umbrella", "an umbrella"), ("unicycle", "a unicycle"), ("skis", "skis")],
)
def test_names_get_an_article(name: str, said: str) -> None:
    assert with_article(name) == said


def test_a_name_has_captions_of_several_shapes() -> None:
    assert captions_of_name("owl") == ["an owl", "a close up of an owl", "a photo of an owl"]


@pytest.mark.parametrize("scene", ["buildings", "forest", "glacier", "mountain", "sea", "street"])
def test_every_scene_has_captions(scene: str) -> None:
    assert len(set(captions_of_scene(scene))) == 3


def test_objects_are_said_together_and_nothing_else_is() -> None:
    assert captions_of_objects(["giraffe"], count=2, seed=0) == ["a giraffe"] * 2
    for labels in (["cat", "couch"], ["bowl", "broccoli", "orange", "dining table"], ["bed"]):
        words = {word for text in captions_of_objects(labels, count=8, seed=1) for word in text.split()}
        named = {word for label in labels for word in label.split()}
        assert words <= named | {"a", "an", "and", "with", "on", "plate"}
        assert words & named


def test_the_same_seed_says_the_same() -> None:
    labels = ["dog", "cat", "chair", "bird"]
    assert captions_of_objects(labels, count=5, seed=3) == captions_of_objects(labels, count=5, seed=3)
    assert len(set(captions_of_objects(labels, count=20, seed=3))) > 3
