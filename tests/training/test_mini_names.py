from __future__ import annotations

from autotag.training import mini_names
from autotag.training.backbone import imagenet_classes
from autotag.vocabularies.vocabulary import Vocabulary


def test_broader_terms_are_learned_where_enough_is_known_below() -> None:
    things = Vocabulary.bundled("things")
    below = mini_names._classes_below(imagenet_classes(), things)
    dogs = {imagenet_classes().names[number][0] for number in below["dog"]}
    assert {"beagle", "Samoyed"} <= dogs
    assert "tabby" not in dogs
    assert below["dog"] < below["animal"]
    assert "object" not in below
    assert "giraffe" not in below


def test_a_class_has_no_name_of_another_thing() -> None:
    classes, things = imagenet_classes(), Vocabulary.bundled("things")
    names = dict(zip(classes.wnids, mini_names._class_names(classes, things), strict=True))
    assert "painter" not in names["n02125311"]  # the cougar
    assert "puma" in names["n02125311"]
    assert "notebook computer" in names["n03832673"]
    assert names["n03832673"][0] == "notebook"  # the first lemma stays: it is the class's own name
    assert set(mini_names._below(mini_names._class_labels(classes, things), things)["person"]) == {
        classes.wnids.index(wnid) for wnid in ("n09835506", "n10148035", "n10565667")
    }
