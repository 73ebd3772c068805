"""Rules for the tags of an album."""

from __future__ import annotations

from pathlib import Path

import pytest

from autotag.albums.rules import AlbumRules, own_paths, own_spellings
from autotag.errors import ConfigError, UnknownNameError
from autotag.records import Detection, Result, Tag


def texts(rules: AlbumRules, *tags: str, mine: dict[str, str] | None = None) -> list[str]:
    result = Result("a.jpg", (1, 1), tags=tuple(Tag.proposed(tag, 0.5, "test") for tag in tags))
    return [tag.text for tag in rules.applied(result, mine).tags]


def read(tmp_path: Path, text: str) -> AlbumRules:
    file = tmp_path / "rules.toml"
    file.write_text(text)
    return AlbumRules.read(file)


def test_denied_tags_are_dropped_whatever_their_case_and_by_pattern():
    assert texts(AlbumRules(deny=("Picture", "*photo*")), "picture", "old photograph", "dog") == ["dog"]


def test_replacements_come_before_the_deny_list_and_a_tag_comes_once():
    rules = AlbumRules(replacements={"automobile": "car", "truck": "junk"}, deny=("junk",))
    assert texts(rules, "car", "Automobile", "truck") == ["car"]


def paths(result):
    return {tag.text: "|".join(tag.path) for tag in result.tags if tag.path}


def test_a_tag_that_is_replaced_loses_the_place_of_its_old_name():
    result = Result("a.jpg", (1, 1), tags=(Tag("dog", 0.5, "test", path=("animal", "dog")),))
    assert paths(AlbumRules(replacements={"dog": "hound"}).applied(result)) == {}
    assert paths(AlbumRules(deny=("x",)).applied(result)) == {"dog": "animal|dog"}


def test_synonyms_are_written_besides():
    assert texts(AlbumRules(synonyms={"dog": ("hound",)}), "dog", "cat") == ["dog", "hound", "cat"]


def test_my_spelling_is_the_one_i_use_most():
    mine = own_spellings([("Golden-Retrievers", 3), ("golden retriever", 2)])
    assert texts(AlbumRules(prefer_my_keywords=True), "golden retriever", mine=mine) == ["Golden-Retrievers"]


def test_a_tag_goes_to_where_it_is_most_often_in_my_tree():
    tree = own_paths([(("Animals", "Dogs"), 3), (("Pets", "Dog"), 1), (("a|b", "sea"), 9), (("sky",), 9)])
    assert tree == {"dog": "Animals|Dogs"}
    result = Result(
        "a.jpg", (1, 1), tags=(Tag.proposed("dog", 0.5, "test"), Tag.proposed("sky", 0.5, "test"))
    )
    mine = own_spellings([("Dogs", 3)])
    assert paths(AlbumRules(prefer_my_keywords=True).applied(result, mine, tree)) == {"Dogs": "Animals|Dogs"}
    ruled = AlbumRules(prefer_my_keywords=True, hierarchy=("beast|dogs",)).applied(result, mine, tree)
    assert paths(ruled) == {"Dogs": "beast|dogs"}
    assert paths(AlbumRules(deny=("x",)).applied(result, mine, tree)) == {}


def test_the_hierarchy_is_in_the_tags_for_every_writer():
    rules = AlbumRules(hierarchy=("animal|dog", "animal|dog|poodle"))
    result = Result("a.jpg", (1, 1), tags=(Tag.proposed("Poodle", 0.5, "test"),))
    assert paths(rules.applied(result)) == {"Poodle": "animal|dog|poodle"}


@pytest.mark.parametrize("hierarchy", ["things", ("things",)])
def test_labels_of_things_are_put_below_their_broader_terms(hierarchy):
    tags = ("tabby cat", "Couches", "animal", "brown dog", "thing|cat")
    result = Result("a.jpg", (1, 1), tags=tuple(Tag.proposed(text, 0.5, "test") for text in tags))
    assert paths(AlbumRules(hierarchy=hierarchy).applied(result)) == {
        "tabby cat": "animal|cat|tabby cat",
        "Couches": "object|furniture|Couches",
    }


def test_my_own_paths_come_before_those_of_things(tmp_path):
    rules = read(tmp_path, 'hierarchy = ["things", "pet|Tabby cat"]')
    result = Result(
        "a.jpg", (1, 1), tags=tuple(Tag.proposed(text, 0.5, "test") for text in ("tabby cat", "dog"))
    )
    assert paths(rules.applied(result)) == {"tabby cat": "pet|Tabby cat", "dog": "animal|dog"}
    assert read(tmp_path, 'hierarchy = "things"') == AlbumRules(hierarchy="things")


def test_my_tree_comes_before_things_and_below_the_parent():
    tags = tuple(Tag.proposed(text, 0.5, "test") for text in ("dogs", "tabby cat", "lake"))
    rules = AlbumRules(prefer_my_keywords=True, hierarchy=("things", "pet|tabby cat"), parent="AI")
    tree = own_paths([(("Family", "Dog"), 1), (("Mine", "tabby cat"), 1)])
    applied = rules.applied(Result("a.jpg", (1, 1), tags=tags), {}, tree)
    assert paths(applied) == {
        "dogs": "AI|Family|Dog",
        "tabby cat": "AI|pet|tabby cat",
        "lake": "AI|nature|lake",
    }


def test_what_is_always_there_comes_first_once_and_is_not_denied():
    rules = AlbumRules(always=("autotag", "Cat"), deny=("auto*",))
    assert texts(rules, "cat", "autobahn", "dog") == ["autotag", "Cat", "dog"]
    assert texts(rules) == ["autotag", "Cat"]


def test_the_parent_stands_above_the_hierarchy_and_above_tags_without_one():
    rules = AlbumRules(hierarchy=("animal|dog",), parent="found|AI", always=("autotag",))
    result = Result("a.jpg", (1, 1), tags=tuple(Tag.proposed(tag, 0.5, "test") for tag in ("dog", "lake")))
    assert paths(rules.applied(result)) == {"dog": "found|AI|animal|dog", "lake": "found|AI|lake"}


def test_no_rules_change_nothing():
    result = Result("a.jpg", (1, 1), tags=(Tag.proposed("dog", 0.5, "test"),))
    assert AlbumRules().applied(result) is result


def test_a_file_is_read(tmp_path):
    rules = read(
        tmp_path,
        'deny = ["picture"]\nprefer_my_keywords = true\nhierarchy = ["animal|dog"]\n'
        '[replacements]\nauto = "car"\n[synonyms]\ndog = ["hound"]\n',
    )
    expected = AlbumRules(("picture",), True, ("animal|dog",), {"auto": "car"}, {"dog": ("hound",)})
    assert rules == expected


def test_an_unknown_rule_is_refused_with_the_near_miss(tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'replacements'"):
        read(tmp_path, '[replacement]\nauto = "car"\n')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('deny = "picture"', "deny = 'picture' does not fit"),
        ('deny = [" "]', "deny holds an empty word"),
        ('always = [""]', "always holds an empty word"),
        ('parent = "AI|"', "write it like 'AI'"),
        ('hierarchy = ["dog"]', "hierarchy holds 'dog'; write it like 'animal|dog', or 'things'"),
        ('hierarchy = "animals"', "hierarchy = 'animals' does not fit"),
        ('hierarchy = ["animal|dog", "pet|Dog"]', "in two places: 'animal|dog' and 'pet|Dog'"),
        ('[replacements]\na = ""', "to drop a tag, put it into deny"),
        ("deny = [", "is not a TOML file"),
    ],
)
def test_a_wrong_rule_is_named(tmp_path, text, said):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert said in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml"):
        AlbumRules.read(tmp_path / "none.toml")


def boxes(rules: AlbumRules, *labels: str, tags: tuple[Tag, ...] = ()) -> list[str]:
    found = tuple(Detection(label, 0.9, (0, 0, 1, 1)) for label in labels)
    return [
        one.label for one in rules.applied(Result("a.jpg", (1, 1), tags=tags, detections=found)).detections
    ]


def test_boxes_of_denied_labels_are_dropped_and_others_replaced():
    rules = AlbumRules(deny=("Table*", "junk"), replacements={"Automobile": "car", "truck": "junk"})
    assert boxes(rules, "tableware", "automobile", "dog", "truck") == ["car", "dog"]
    assert boxes(AlbumRules(always=("x",)), "tableware") == ["tableware"]


def test_boxes_are_denied_by_the_names_of_their_labels_in_the_languages_of_the_tags():
    cat = Tag("Katze", 0.5, "test", concept="cat", language="de")
    mine = Tag("Bello", 0.5, "test", concept="my dog")
    assert boxes(AlbumRules(deny=("hund",)), "dog", "cat", tags=(cat,)) == ["cat"]
    assert boxes(AlbumRules(deny=("hund",)), "dog") == ["dog"]
    assert boxes(AlbumRules(deny=("bello",)), "my dog", "cat", tags=(mine,)) == ["cat"]
    assert boxes(AlbumRules(replacements={"Katze": "Mieze"}, deny=("cat",)), "cat", tags=(cat,)) == ["Mieze"]
