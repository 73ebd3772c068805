from __future__ import annotations

import pytest

from autotag.language import english


@pytest.mark.parametrize(
    ("plural", "singular"),
    [
        ("dogs", "dog"),
        ("men", "man"),
        ("firemen", "fireman"),
        ("children", "child"),
        ("leaves", "leaf"),
        ("boxes", "box"),
        ("benches", "bench"),
        ("dresses", "dress"),
        ("cities", "city"),
        ("boys", "boy"),
        ("cookies", "cookie"),
        ("shoes", "shoe"),
        ("tomatoes", "tomato"),
        ("horses", "horse"),
        ("buses", "bus"),
        ("people", "person"),
        ("brown dogs", "brown dog"),
    ],
)
def test_a_plural_has_its_singular(plural, singular):
    assert english.singular(plural) == singular


@pytest.mark.parametrize(
    "noun", ["dog", "bus", "grass", "glasses", "tennis", "jeans", "sheep", "specimen", "men's", "a", ""]
)
def test_a_noun_that_is_no_plural_stays(noun):
    assert english.singular(noun) == noun


@pytest.mark.parametrize(
    ("form", "lemma"),
    [
        ("running", "run"),
        ("riding", "ride"),
        ("rode", "ride"),
        ("lying", "lie"),
        ("carries", "carry"),
        ("carried", "carry"),
        ("catches", "catch"),
        ("jumped", "jump"),
        ("skiing", "ski"),
        ("dogs", "dog"),
        ("women", "woman"),
        ("building", "building"),
        ("buildings", "building"),
        ("zyzzyva", "zyzzyva"),
    ],
)
def test_forms_have_their_lemma(form, lemma):
    assert english.lemma(form) == lemma


def test_verbs_double_their_consonant_only_after_a_short_stressed_vowel():
    forms = english.verb_forms()
    assert {"sitting", "swimming", "grabbed", "spraying", "rowing", "eating", "opening"} <= set(forms)
    assert not {"siting", "sprayying", "rowwing", "eatting", "openning"} & set(forms)


def test_comparatives_are_adjectives():
    assert {"big", "bigger", "biggest", "larger", "tiniest"} <= english.adjectives()


@pytest.mark.parametrize("noun", ["man", "women", "surfer", "cyclists", "dog"])
def test_people_and_animals_are_animate(noun):
    assert english.is_animate(noun)


@pytest.mark.parametrize("noun", ["flower", "water", "sweaters", "ocean"])
def test_things_are_not(noun):
    assert not english.is_animate(noun)


def test_weak_verbs_and_verbs_that_are_nouns_are_verbs():
    plain = {form for form, (_, kind) in english.verb_forms().items() if kind == "plain"}
    assert english.word_list("noun_verbs") <= plain
    assert english.word_list("weak_verbs") <= plain
