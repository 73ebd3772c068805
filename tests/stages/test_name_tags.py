from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import autotag
from autotag.errors import ConfigError
from autotag.pipeline.pipeline import Pipeline
from autotag.pipeline.presets import from_config, parse_overrides, with_language
from autotag.records import Caption, Result, Tag, TextMaps
from autotag.stages import FilterTags, MatchVocabulary, NameTags
from autotag.testing import FakeEncoder, check_stage, make_sample
from autotag.vocabularies.vocabulary import Vocabulary

PETS = Vocabulary(
    {"dog": ["hound"], "cat": [], "mouse": [], "computer mouse": [], "pet": []},
    translations={
        "de": {"dog": "Hund", "cat": "Katze", "mouse": "Maus", "computer mouse": "Maus", "pet": "Haustier"},
        "fr": {"dog": "chien", "pet": "animal de compagnie"},
        "pt-br": {"dog": "cachorro"},
        "pt": {"cat": "gato"},
    },
)


def named(languages, *tags, **options):
    stage = NameTags(languages, vocabularies=(PETS,), **options)
    sample = make_sample(tags=[tag if isinstance(tag, Tag) else Tag.proposed(tag, 0.5, "me") for tag in tags])
    stage([sample])
    return sample.tags


def texts(tags):
    return [tag.text for tag in tags]


def test_it_keeps_the_contract():
    check_stage(NameTags("de", vocabularies=(PETS,)))


def test_a_label_its_synonym_and_its_plural_are_named_and_keep_their_concept_and_scores():
    first = Tag("dog", 0.7, "match", {"match": 0.3, "filter": 0.7}, count=2)
    tags = named("de", first, "Cats")
    assert tags[0] == Tag("Hund", 0.7, "match", first.scores, (), 2, "dog", "de")
    assert (tags[1].text, tags[1].concept) == ("Katze", "cat")
    assert texts(named("de", "hound")) == ["Hund"]


def test_several_languages_give_a_tag_once_in_each_that_has_a_name():
    tags = named(("de", "fr", "en"), "dog", "cat", "two brown dogs")
    assert texts(tags) == ["Hund", "chien", "dog", "Katze", "cat", "two brown dogs"]
    assert [tag.language for tag in tags] == ["de", "fr", None, "de", None, None]


def test_a_tag_without_a_name_stays_or_is_dropped():
    assert texts(named("fr", "cat", "dog")) == ["cat", "chien"]
    assert texts(named("fr", "cat", "dog", unnamed="drop")) == ["chien"]


def test_two_concepts_with_one_name_are_one_tag_and_the_first_keeps_it():
    (tag,) = named("de", "computer mouse", "mouse")
    assert (tag.text, tag.concept) == ("Maus", "computer mouse")


def test_a_region_has_its_own_name_or_that_of_the_language():
    assert texts(named("pt-BR", "dog", "cat")) == ["cachorro", "gato"]


def test_what_a_tag_belongs_to_is_named_too():
    (tag,) = named("de", Tag("dog", 1.0, "me", path=("zoo", "pet", "dog")))
    assert tag.path == ("zoo", "Haustier", "Hund")


def test_the_first_vocabulary_that_knows_a_tag_names_it(tmp_path):
    (tmp_path / "mine.txt").write_text("dog | label.de: Bello\nowl\n", encoding="utf-8")
    stage = NameTags("de", vocabularies=(tmp_path / "mine.txt", PETS))
    assert texts([name for text in ("dog", "cat") for name in stage.named(Tag.proposed(text, 1, "me"))]) == [
        "Bello",
        "Katze",
    ]


@pytest.mark.parametrize(
    ("languages", "said"),
    [
        ("deutsch!", "'deutsch!' is not the code of a language"),
        ((), "languages is empty"),
        (("de", "DE"), "names one language twice"),
        ("ed", "Known: de, en, fr, pt, pt-br"),
        ("sv", r"'sv', but no vocabulary .* 'dog | label.sv: ...'"),
    ],
)
def test_languages_that_cannot_be_are_refused(languages, said):
    with pytest.raises(ConfigError, match=said):
        NameTags(languages, vocabularies=(PETS,))


def test_a_record_keeps_concept_and_language_through_json():
    tags = tuple(named("de", "dog", "two dogs"))
    result = Result("a.jpg", (1, 1), tags=tags)
    assert Result.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    assert result.to_dict()["tags"][0]["concept"] == "dog"
    assert "concept" not in result.to_dict()["tags"][1]


def table(*stages):
    return {
        "encoder": "clip-mini",
        "stages": [{"stage": "match_vocabulary", "vocabulary": "things"}, *stages],
    }


def test_with_language_puts_the_stage_last_but_before_keywords_of_people():
    keywords = {"stage": "suggest_keywords", "keywords": "family.tags"}
    given = with_language(table({"stage": "filter_tags"}, keywords), ["de", "fr"])
    assert [stage["stage"] for stage in given["stages"]] == [
        "match_vocabulary", "filter_tags", "name_tags", "suggest_keywords",
    ]  # fmt: skip
    assert from_config(with_language(table(), "de")).stages[-1] == NameTags(("de",))


def test_with_language_changes_the_stage_of_the_preset_and_knows_its_vocabularies():
    own = {"stage": "name_tags", "languages": "de", "unnamed": "drop"}
    assert from_config(with_language(table(own), "fr")).stages[-1] == NameTags(("fr",), unnamed="drop")
    config = {"stages": [{"stage": "match_vocabulary", "vocabulary": "mine.txt"}]}
    assert with_language(config, "de")["stages"][-1]["vocabularies"] == ["mine.txt", "things"]


@pytest.mark.parametrize("kind", [str, Path, Vocabulary.from_file])
def test_with_language_knows_the_vocabulary_that_an_override_gives(tmp_path, kind):
    file = tmp_path / "mine.txt"
    file.write_text("dog | label.sv: hund\n", encoding="utf-8")
    changed = {"vocabulary": kind(file), "leave_out": []}
    pipeline = autotag.load("mini", language="sv", match_vocabulary=changed)
    assert [tag.text for tag in pipeline.stages[-1].named(Tag.proposed("dog", 0.3, by="me"))] == ["hund"]
    with pytest.raises(ConfigError, match="match_vocabulary=3: write the options"):
        autotag.load("mini", language="sv", match_vocabulary=3)


def test_a_config_of_the_pipeline_makes_it_again():
    pipeline = autotag.load("mini", language="de", **parse_overrides(["filter_tags.top_k=3"]))
    assert isinstance(pipeline.stages[-1], NameTags)
    assert from_config(pipeline.to_config()).stages == pipeline.stages


def test_an_explanation_knows_a_tag_by_both_names():
    class Maps(FakeEncoder):
        def text_maps(self, image, texts, /):
            assert all(text.isascii() and "Hund" not in text for text in texts)
            return TextMaps(np.zeros((len(texts), 2, 2), np.float32), (0, 0, *image.size))

    class Say:
        name, requires, provides = "say", frozenset(), frozenset({"captions"})

        def __call__(self, samples):
            for sample in samples:
                sample.captions = [Caption("a dog", "fake")]

    stages = [Say(), MatchVocabulary(PETS), FilterTags(threshold=-1.0), NameTags("de", vocabularies=(PETS,))]
    with Pipeline(stages, encoder=Maps()) as pipeline:
        by_name, by_concept, other = pipeline.explain(Image.new("RGB", (8, 8)), "Hund", "dog", "owl")
    assert (by_name.text, by_concept.text) == ("Hund", "dog")
    assert by_name.cosine == by_concept.cosine
    assert by_name.history is not None
    assert by_name.history.dropped_by is None
    assert by_name.history.captions == ("a dog",)
    assert by_name.history.tag.text == "Hund"
    assert [one.tag.text for one in by_name.others if one.dropped_by is None].count("Maus") == 1
    assert {one.dropped_by for one in by_name.others if "mouse" in one.tag.text} == {"name_tags"}
    assert len(by_name.others) == 4
    assert other.history is None


def test_an_explanation_knows_the_name_of_a_tag_that_was_dropped_and_of_one_that_nobody_proposed():
    asked = []

    class Maps(FakeEncoder):
        def text_maps(self, image, texts, /):
            asked.extend(texts)
            return TextMaps(np.zeros((len(texts), 2, 2), np.float32), (0, 0, *image.size))

    stages = [MatchVocabulary(["dog", "tree"]), FilterTags(threshold=0.9), NameTags("de")]
    with Pipeline(stages, encoder=Maps()) as pipeline:
        dog, lion, word = pipeline.explain(Image.new("RGB", (8, 8)), "Hund", "Löwe", "Bello")
    assert asked == ["a photo of dog", "a photo of lion", "a photo of Bello"]
    assert dog.text == "Hund"
    assert dog.history is not None
    assert dog.history.dropped_by == "filter_tags"
    assert "below 0.900" in dog.history.reason
    assert lion.history is None
    assert word.history is None
