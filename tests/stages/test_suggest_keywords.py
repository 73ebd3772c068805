from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autotag.errors import ConfigError
from autotag.records import Tag
from autotag.relevance.learned_keywords import LearnedKeyword, LearnedKeywords
from autotag.stages import SuggestKeywords
from autotag.testing import FakeEncoder, FakeModels, check_stage, make_image, make_sample

SIZE = 65


def written(tmp_path, *keywords, encoder="fake"):
    """Keywords with the probabilities that they get on every image."""
    logits = np.array([np.log(score / (1 - score)) for _, score, _ in keywords], dtype=np.float32)
    learned = LearnedKeywords(
        encoder=encoder,
        photographs=30,
        keywords=tuple(LearnedKeyword(path, 9, 0.7, 0.5, 0.9, cut) for path, _, cut in keywords),
        weights=np.zeros((len(keywords), SIZE), dtype=np.float32),
        biases=logits,
        declined_vectors=np.zeros((0, SIZE), dtype=np.float32),
        declined_keywords=np.zeros(0, dtype=np.int64),
    )
    learned.save(tmp_path / "family.tags")
    return tmp_path / "family.tags"


class ByColour(FakeEncoder):
    """Red images lie on one axis, all others on another."""

    def embed_images(self, images, /):
        axes = np.eye(SIZE, dtype=np.float32)
        return axes[[0 if image.getpixel((0, 0))[0] > 128 else 1 for image in images]]


def suggested(stage, **fields):
    stage.setup(FakeModels(fake_encoder=FakeEncoder()))
    sample = make_sample(**fields)
    stage([sample])
    return sample.tags


def test_it_keeps_the_contract(tmp_path):
    check_stage(SuggestKeywords(written(tmp_path, (("beach",), 0.7, 0.5))))


def test_keywords_above_their_thresholds_come_most_probable_first(tmp_path):
    file = written(tmp_path, (("beach",), 0.6, 0.5), (("dog",), 0.7, 0.5), (("cat",), 0.8, 0.9))
    tags = suggested(SuggestKeywords(file))
    assert [tag.text for tag in tags] == ["dog", "beach"]
    assert tags[0].score == pytest.approx(0.7, abs=1e-6)
    assert tags[0].source == "suggest_keywords"
    assert [tag.text for tag in suggested(SuggestKeywords(str(file), top_k=1))] == ["dog"]


def test_they_stand_before_the_other_tags_and_in_the_place_of_the_same_ones(tmp_path):
    file = written(tmp_path, (("Beach",), 0.7, 0.5))
    before = [Tag.proposed("sand", 0.3, by="match"), Tag.proposed("beach", 0.2, by="match")]
    tags = suggested(SuggestKeywords(file), tags=before)
    assert [tag.text for tag in tags] == ["Beach", "sand"]
    assert tags[0].source == "match"
    assert tags[0].scores == pytest.approx({"match": 0.2, "suggest_keywords": 0.7}, abs=1e-6)


def test_a_tag_in_another_language_keeps_its_concept(tmp_path):
    hund = Tag("hund", 0.2, "match", concept="dog", language="de")
    [tag] = suggested(SuggestKeywords(written(tmp_path, (("Hund",), 0.7, 0.5))), tags=[hund])
    assert (tag.text, tag.concept, tag.language) == ("Hund", "dog", "de")


def test_a_keyword_has_its_path_and_its_parents_are_not_proposed_besides(tmp_path):
    paths = [("Places",), ("Places", "Italy"), ("Places", "Italy", "Rome")]
    file = written(tmp_path, *((path, 0.8, 0.5) for path in paths[:2]), (paths[2], 0.4, 0.5))
    [tag] = suggested(SuggestKeywords(file))
    assert (tag.text, tag.path) == ("Italy", ("Places", "Italy"))


def test_tags_of_other_stages_go_where_people_removed_them(tmp_path):
    """ "snow" was removed from photographs like the blue one, "snapshot" from most photographs."""
    encoder = ByColour()
    blue = encoder.embed_images([make_image("blue")])[0]
    learned = LearnedKeywords.load(written(tmp_path, (("beach",), 0.7, 0.5)))
    replace(
        learned,
        others=("Snow",),
        unwanted=("Snapshot",),
        declined_vectors=np.stack([blue, blue]),
        declined_keywords=np.array([0, 1], dtype=np.int64),
    ).save(tmp_path / "family.tags")
    stage = SuggestKeywords(tmp_path / "family.tags")
    stage.setup(FakeModels(fake_encoder=encoder))
    words = ("snow", "beach", "snapshot", "sand")
    samples = [make_sample(tags=[Tag.proposed(word, 0.3, by="match") for word in words]) for _ in range(2)]
    samples[0].image, samples[1].image = make_image("red"), make_image("blue")
    stage(samples)
    assert [[tag.text for tag in sample.tags] for sample in samples] == [["beach", "snow", "sand"], ["sand"]]


def test_a_file_without_keywords_removes_tags_all_the_same(tmp_path):
    learned = replace(LearnedKeywords.load(written(tmp_path)), unwanted=("snapshot",))
    learned.save(tmp_path / "family.tags")
    tags = [Tag.proposed(word, 0.3, by="match") for word in ("snapshot", "sand")]
    found = suggested(SuggestKeywords(tmp_path / "family.tags"), tags=tags)
    assert [tag.text for tag in found] == ["sand"]


def test_a_file_of_another_encoder_is_refused_when_the_pipeline_is_set_up(tmp_path):
    stage = SuggestKeywords(written(tmp_path, (("beach",), 0.7, 0.5), encoder="clip-vit-b-32"))
    with pytest.raises(ConfigError, match="'clip-vit-b-32' .*, not with 'fake'"):
        stage.setup(FakeModels(fake_encoder=FakeEncoder()))


def test_a_missing_file_is_refused_when_the_stage_is_built(tmp_path):
    with pytest.raises(ConfigError, match="there is no file"):
        SuggestKeywords(tmp_path / "none.tags")


def test_keywords_near_their_thresholds_are_marked(tmp_path):
    """At a threshold of 0.5 the odds double at a probability of 2/3."""
    file = written(tmp_path, (("beach",), 0.6, 0.5), (("dog",), 0.7, 0.5), (("cat",), 0.95, 0.93))
    stage = SuggestKeywords(file)
    stage.setup(FakeModels(fake_encoder=FakeEncoder()))
    samples = [make_sample(), make_sample()]
    stage(samples)
    assert [sample.extras["near_cut"] for sample in samples] == [["cat", "beach"]] * 2
    sure = SuggestKeywords(written(tmp_path, (("dog",), 0.7, 0.5)))
    sure.setup(FakeModels(fake_encoder=FakeEncoder()))
    sample = make_sample()
    sure([sample])
    assert "near_cut" not in sample.extras


def test_a_parent_whose_child_is_improbable_does_not_take_the_only_place_in_vain(tmp_path):
    file = written(tmp_path, (("Places",), 0.99, 0.5), (("dog",), 0.9, 0.5), (("Places", "Italy"), 0.8, 0.5))
    assert [tag.text for tag in suggested(SuggestKeywords(file, top_k=1))] == ["Italy"]
    assert [tag.text for tag in suggested(SuggestKeywords(file, top_k=2))] == ["dog", "Italy"]
