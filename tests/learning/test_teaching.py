from __future__ import annotations

from autotag.learning.teaching import teaching
from autotag.metadata.keywords import Keywords


def by_name(taught):
    return {"|".join(one.path): one for one in taught}


def test_a_path_teaches_its_parents():
    rome = Keywords.of((), [("Places", "Italy", "Rome")])
    pisa = Keywords.of((), [("Places", "Italy", "Pisa")])
    taught = by_name(teaching([rome, pisa, Keywords()]))
    assert {name: one.given for name, one in taught.items()} == {
        "Places": (0, 1),
        "Places|Italy": (0, 1),
        "Places|Italy|Rome": (0,),
        "Places|Italy|Pisa": (1,),
    }


def test_spellings_of_one_keyword_are_one_keyword():
    taught = teaching([Keywords.of(["Straße"]), Keywords.of(["STRASSE"]), Keywords.of(["straße"])])
    assert [(one.path, one.given) for one in taught] == [(("Straße",), (0, 1, 2))]


def test_a_keyword_alone_is_the_path_that_ends_with_it_if_there_is_only_one():
    rome = Keywords.of((), [("Italy", "Rome")])
    assert by_name(teaching([rome, Keywords.of(["rome"])]))["Italy|Rome"].given == (0, 1)
    georgia = [
        Keywords.of((), [("USA", "Paris")]),
        Keywords.of((), [("France", "Paris")]),
        Keywords.of(["Paris"]),
    ]
    assert by_name(teaching(georgia))["Paris"].given == (2,)


def test_excluded_keywords_teach_neither_themselves_nor_their_parents():
    photo = Keywords.of(["beach", "Anna"], [("People", "Anna")])
    assert set(by_name(teaching([photo], exclude=["people|*"]))) == {"beach"}
    assert set(by_name(teaching([Keywords.of(["beach", "DSC_1"])], exclude=["dsc_*"]))) == {"beach"}


def test_an_excluded_parent_is_not_taught_by_the_paths_that_go_through_it():
    photo = Keywords.of((), [("People", "Private", "Anna")])
    assert set(by_name(teaching([photo], exclude=["People", "people|private"]))) == {"People|Private|Anna"}


def test_a_removed_keyword_is_remembered_unless_it_is_there_again():
    given = [Keywords.of(["beach"]), Keywords(), Keywords.of(["Beach"])]
    [beach] = teaching(given, [(), ("BEACH",), ("beach",)])
    assert (beach.given, beach.removed) == ((0, 2), (1,))


def test_many_keywords_and_scripts_are_no_matter():
    words = [f"keyword {number}" for number in range(500)]
    scripts = ["海", "пляж", "شاطئ", "παραλία", "🏖"]
    taught = teaching([Keywords.of(words), Keywords.of(scripts), Keywords.of(scripts[:1])])
    assert len(taught) == 505
    assert taught[0].path == ("海",)


def test_a_tag_that_was_only_removed_is_taught_without_photographs():
    found = teaching([Keywords(), Keywords.of(["cat"])], [["Wolf", ""], ["wolf", "Cat"]])
    assert [(one.path, one.given, one.removed) for one in found] == [
        (("cat",), (1,), ()),
        (("Wolf",), (), (0, 1)),
    ]


def test_removed_tags_that_are_excluded_leave_no_trace():
    people = Keywords.of((), [("People", "Anna")])
    found = teaching([people, Keywords()], [[], ["Anna", "Bob"]], exclude=["People|*", "bo?"])
    assert found == []


def test_keywords_in_several_scripts_and_in_other_unicode_forms_are_told_apart_and_joined():
    words = ("пляж", "海滩", "شاطئ", "Jūrmala", "חוף", "STRASSE")
    given = [Keywords.of(words), Keywords.of(["Ju\u0304rmala", "Пляж", "straße"])]
    found = {one.path[0]: one.given for one in teaching(given)}
    assert found == {
        "пляж": (0, 1), "海滩": (0,), "شاطئ": (0,), "Jūrmala": (0, 1), "חוף": (0,), "STRASSE": (0, 1),
    }  # fmt: skip


def test_one_photograph_with_500_keywords_teaches_each():
    words = [f"word {number}" for number in range(500)]
    found = teaching([Keywords.of(words), Keywords.of(words[:1])])
    assert len(found) == 500
    assert found[0].given == (0, 1)
