from __future__ import annotations

import pytest

from autotag import Pipeline
from autotag.errors import ConfigError
from autotag.pipeline.presets import from_config, to_config
from autotag.records import Tag
from autotag.stages import FilterTags, MatchVocabulary, MergeTags
from autotag.testing import FakeEncoder, check_stage, make_image, make_sample
from autotag.vocabularies.vocabulary import Vocabulary


def merged(tags, **rules) -> list[Tag]:
    sample = make_sample(tags=tags)
    MergeTags(**rules)([sample])
    return sample.tags


def texts(tags, **rules) -> list[str]:
    return [tag.text for tag in merged(tags, **rules)]


def test_it_keeps_the_contract():
    check_stage(MergeTags())
    check_stage(MergeTags(case=False, plural=False, duplicate=False, substring=False))
    check_stage(MergeTags(broader="add"))
    check_stage(MergeTags(broader="drop", vocabulary=PETS))


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


PETS = Vocabulary(
    {
        "animal": (),
        "cat": ("kitty", "feline"),
        "tabby cat": ("tabby",),
        "dog": (),
        "sofa": ("couch", "settee"),
    },
    broader={"tabby cat": ("cat",), "cat": ("animal",), "dog": ("animal",)},
)


def test_synonyms_become_their_label_with_the_best_score():
    assert merged({"couch": 0.8, "sofa": 0.5}) == [Tag.proposed("sofa", 0.8, "fake")]
    assert texts({"Couches": 0.8, "sofas": 0.5}) == ["sofas"]
    two = [Tag.proposed("couch", 0.8, "caption"), Tag.proposed("sofa", 0.3, "labels")]
    assert merged(two) == [Tag("sofa", 0.8, "caption", {"caption": 0.8, "labels": 0.3})]


def test_synonyms_without_their_label_become_the_better_one_and_one_alone_stays():
    assert texts({"couch": 0.5, "settee": 0.8}) == ["settee"]
    assert texts({"couch": 0.5, "dog": 0.4}) == ["couch", "dog"]


def test_without_a_vocabulary_synonyms_are_two():
    assert texts({"couch": 0.8, "sofa": 0.5}, vocabulary=None) == ["couch", "sofa"]


def test_the_plural_rule_alone_decides_of_plurals_that_the_vocabulary_lists():
    assert texts({"man": 0.5, "men": 0.4}) == ["man"]
    assert texts({"man": 0.5, "men": 0.4}, plural=False) == ["man", "men"]


def test_a_vocabulary_is_a_file_too(tmp_path):
    path = tmp_path / "rooms.txt"
    path.write_text("davenport | chesterfield\n", encoding="utf-8")
    assert texts({"chesterfield": 0.8, "davenport": 0.5}, vocabulary=str(path)) == ["davenport"]


def test_what_is_merged_is_compared_on_the_scale_of_its_score():
    tags = [
        Tag.proposed("dog", 0.9, "caption"),
        Tag.proposed("brown dog", 0.5, "labels"),
        Tag.proposed("dogs", 0.1, "labels"),
    ]
    dog, brown_dog = merged(tags)
    assert list(dog.scores) == ["labels", "caption"]
    assert (dog.text, brown_dog.text) == ("dog", "brown dog")
    tags[1] = Tag.proposed("brown dog", 0.95, "caption")
    assert [tag.text for tag in merged(tags)] == ["brown dog"]


def test_broader_terms_stay_unless_told_otherwise():
    assert texts({"tabby": 0.8, "cat": 0.5}, vocabulary=PETS) == ["tabby", "cat"]


def test_added_broader_terms_follow_the_narrower_with_its_scores_and_source():
    tags = [Tag("tabby", 0.8, "labels", {"labels": 0.3, "filter": 0.8}), Tag.proposed("sofa", 0.5, "labels")]
    assert merged(tags, broader="add", vocabulary=PETS) == [
        tags[0],
        Tag("cat", 0.8, "labels", {"labels": 0.3, "filter": 0.8}),
        Tag("animal", 0.8, "labels", {"labels": 0.3, "filter": 0.8}),
        tags[1],
    ]


def test_broader_terms_that_are_there_are_not_added_under_any_name():
    tags = {"Kitties": 0.9, "tabby cat": 0.8, "Animals": 0.1}
    assert texts(tags, broader="add", vocabulary=PETS) == ["Kitties", "tabby cat", "Animals"]


def test_a_broader_term_of_two_tags_is_added_once_with_the_best_scores():
    added = merged({"dog": 0.5, "cat": 0.7}, broader="add", vocabulary=PETS)
    assert [(tag.text, tag.score) for tag in added] == [("dog", 0.5), ("animal", 0.7), ("cat", 0.7)]


def test_a_broader_term_is_dropped_beside_a_narrower_one_that_scores_as_high():
    assert texts({"animal": 0.5, "cat": 0.5, "tabby": 0.5}, broader="drop", vocabulary=PETS) == ["tabby"]
    assert texts({"felines": 0.6, "tabby": 0.5}, broader="drop", vocabulary=PETS) == ["felines", "tabby"]


def test_a_broader_term_is_dropped_only_by_a_stage_that_scored_both():
    cat = Tag("cat", 0.9, "caption", {"labels": 0.3, "caption": 0.9})
    tabby = Tag.proposed("tabby cat", 0.4, "labels")
    assert merged([cat, tabby], broader="drop", vocabulary=PETS) == [tabby]
    cat = Tag.proposed("cat", 0.1, "caption")
    assert merged([cat, tabby], broader="drop", vocabulary=PETS) == [cat, tabby]


def test_by_default_broader_terms_are_those_of_things():
    assert texts({"golden retriever": 0.5}, broader="add") == [
        "golden retriever",
        "retriever",
        "dog",
        "animal",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"broader": "more"},
            r"merge_tags: broader = 'more' does not fit; it takes one of 'keep', 'add', 'drop'",
        ),
        ({"broader": "add", "vocabulary": None}, "merge_tags.vocabulary has no broader terms; use 'things'"),
        ({"broader": "drop", "vocabulary": "mediums"}, "has no broader terms"),
        ({"vocabulary": "thing"}, "neither a bundled vocabulary nor a file. Did you mean 'things'"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_built(options, message):
    with pytest.raises(ConfigError, match=message):
        MergeTags(**options)


def test_after_the_filter_a_second_merge_adds_what_kept_tags_belong_to():
    encoder = FakeEncoder({"tabby cat": 0.9, "sofa": 0.6, "lamp": 0.1})
    stages = [
        MatchVocabulary(("lamp", "sofa", "tabby cat")),
        MergeTags(),
        FilterTags(threshold=0.5),
        MergeTags(broader="add", name="add_broader"),
    ]
    with Pipeline(stages, encoder=encoder) as tagger:
        tags = tagger(make_image()).tags
    assert [tag.text for tag in tags] == ["tabby cat", "cat", "animal", "sofa", "furniture", "object"]
    assert {tag.source for tag in tags} == {"match_vocabulary"}
    assert tags[2].score == tags[0].score == pytest.approx(0.9, abs=1e-6)


def test_the_rule_for_broader_terms_is_an_option_of_a_config():
    match = {"stage": "match_vocabulary", "vocabulary": "things"}
    merge = {"stage": "merge_tags", "broader": "drop"}
    with from_config({"stages": [match, {**merge, "vocabulary": "things"}]}) as tagger:
        assert tagger.stages[1] == MergeTags(broader="drop")
        assert to_config(tagger)["stages"] == [match, merge]
