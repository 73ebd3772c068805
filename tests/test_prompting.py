from __future__ import annotations

import pytest

from autotag.prompting import plain_prompt


def test_caption_then_the_tags_that_say_something_new():
    prompt = plain_prompt("a man riding a horse.", ["horse", "sunset", "beach"])
    assert prompt == "a man riding a horse, sunset, beach"


@pytest.mark.parametrize("tag", ["horse", "Horses", "rides", "riding", "man", "the man", "horse man"])
def test_what_the_caption_says_is_not_repeated_whatever_its_form(tag):
    assert plain_prompt("men ride a horse", [tag]) == "men ride a horse"


@pytest.mark.parametrize("tag", ["brown horse", "horseshoe", "woman"])
def test_what_it_only_half_says_is(tag):
    assert plain_prompt("men ride a horse", [tag]) == f"men ride a horse, {tag}"


def test_a_tag_within_an_earlier_one_is_left_out_but_not_one_spread_over_two():
    tags = ["red dog", "green ball", "dogs", "red ball"]
    assert plain_prompt("", tags) == "red dog, green ball, red ball"


def test_without_a_caption_there_are_tags_only():
    assert plain_prompt(" ", ["dog", "beach"], separator=" | ") == "dog | beach"


@pytest.mark.parametrize(("max_tags", "prompt"), [(0, "a dog"), (1, "a dog, sea"), (None, "a dog, sea, sky")])
def test_max_tags_counts_the_tags_that_stay(max_tags, prompt):
    assert plain_prompt("a dog", ["dog", "sea", "sky"], max_tags=max_tags) == prompt


def test_nothing_gives_nothing():
    assert plain_prompt("", []) == ""


def test_other_languages_are_compared_word_by_word():
    assert plain_prompt("ein Hund läuft", ["Hund", "Wiese"]) == "ein Hund läuft, Wiese"
