from __future__ import annotations

import pytest

from autotag.records import Tag
from autotag.stages import MergeTags
from autotag.testing import check_stage, make_sample


def merged(tags, **rules) -> list[Tag]:
    sample = make_sample(tags=tags)
    MergeTags(**rules)([sample])
    return sample.tags


def texts(tags, **rules) -> list[str]:
    return [tag.text for tag in merged(tags, **rules)]


def test_it_keeps_the_contract():
    check_stage(MergeTags())
    check_stage(MergeTags(case=False, plural=False, duplicate=False, substring=False))


def test_of_case_the_better_scored_survives_and_of_equals_the_first():
    assert texts({"Dog": 0.4, "dog": 0.5}) == ["dog"]
    assert texts({"Dog": 0.5, "dog": 0.5}) == ["Dog"]


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("dog", "dogs"),
        ("man", "men"),
        ("child", "children"),
        ("leaf", "leaves"),
        ("box", "boxes"),
        ("city", "cities"),
        ("brown dog", "brown dogs"),
    ],
)
def test_plural_and_singular_are_one(one, many):
    assert texts({one: 0.5, many: 0.4}) == [one]
    assert texts({one: 0.4, many: 0.5}) == [many]


def test_a_plural_alone_stays_as_it_is():
    assert texts({"dogs": 0.5, "glasses": 0.4}) == ["dogs", "glasses"]


def test_what_merges_keeps_every_score_the_first_source_and_the_first_place():
    tags = [
        Tag.proposed("dog", 0.4, "first"),
        Tag.proposed("sea", 0.9, "first"),
        Tag.proposed("dog", 0.3, "second"),
        Tag.proposed("dogs", 0.6, "first"),
    ]
    assert merged(tags) == [
        Tag("dogs", 0.6, "first", {"first": 0.6, "second": 0.3}),
        Tag.proposed("sea", 0.9, "first"),
    ]


def test_scores_of_two_stages_are_not_compared():
    tags = [Tag.proposed("dog", 0.2, "cosine of image"), Tag.proposed("Dog", 0.8, "cosine of text")]
    (tag,) = merged(tags)
    assert (tag.text, tag.score, tag.source) == ("dog", 0.2, "cosine of image")
    assert tag.scores == {"cosine of image": 0.2, "cosine of text": 0.8}


def test_a_part_that_scores_lower_than_its_phrase_is_dropped():
    tags = {"tennis racket": 0.6, "tennis": 0.5, "rackets": 0.4}
    assert merged(tags) == [Tag.proposed("tennis racket", 0.6, "fake")]


@pytest.mark.parametrize(
    ("longer", "part"),
    [
        ("brown dog", "dog"),
        ("old brown dog", "brown dog"),
        ("Dogs and cats", "dog"),
        ("hot dog stand", "hot dog"),
    ],
)
def test_a_part_is_of_whole_words_in_any_case_and_number(longer, part):
    assert texts({part: 0.4, longer: 0.6}) == [longer]


@pytest.mark.parametrize("other", ["do", "dogsled team", "brown cat", "brown old dog"])
def test_what_is_no_part_stays(other):
    assert len(texts({"old brown dog": 0.6, other: 0.4})) == 2


def test_a_part_that_scores_better_or_on_another_scale_stays():
    assert texts({"brown dog": 0.5, "dog": 0.6}) == ["brown dog", "dog"]
    assert texts({"brown dog": 0.5, "dog": 0.5}) == ["brown dog", "dog"]
    tags = [Tag.proposed("brown dog", 0.5, "one"), Tag.proposed("dog", 0.1, "other")]
    assert [tag.text for tag in merged(tags)] == ["brown dog", "dog"]


TWICE = [Tag.proposed("dog", 0.5, "one"), Tag.proposed("dog", 0.4, "one")]


@pytest.mark.parametrize(
    ("rule", "tags"),
    [
        ("case", {"Dog": 0.5, "dog": 0.4}),
        ("plural", {"dog": 0.5, "dogs": 0.4}),
        ("duplicate", TWICE),
        ("substring", {"brown dog": 0.5, "dog": 0.4}),
    ],
)
def test_each_rule_can_be_switched_off_alone(rule, tags):
    assert len(merged(tags)) == 1
    assert len(merged(tags, **{rule: False})) == 2
    others = {name: False for name in ("case", "plural", "duplicate", "substring") if name != rule}
    assert len(merged(tags, **others)) == 1
