from __future__ import annotations

from pathlib import Path

import pytest

from autotag.errors import ConfigError
from autotag.relevance.embeddings import image_vectors
from autotag.stages import FilterTags, MatchVocabulary
from autotag.testing import FakeEncoder, FakeModels, check_stage, make_sample
from autotag.vocabularies.vocabulary import Vocabulary

SIMILARITIES = {"sofa": 0.1, "couch": 0.8, "lamp": 0.5, "rug": 0.3}


def matched(stage, encoder=None, **sample_fields):
    stage.setup(FakeModels(fake_encoder=encoder or FakeEncoder(SIMILARITIES)))
    sample = make_sample(**sample_fields)
    stage([sample])
    return sample.tags


def test_it_keeps_the_contract():
    check_stage(MatchVocabulary(("sofa", "lamp")))
    check_stage(MatchVocabulary({"sofa": ("couch",), "lamp": ()}, top_k=1, threshold=0.1))
    check_stage(MatchVocabulary(Vocabulary(["sofa"])))


def test_labels_come_best_first_with_their_cosine():
    tags = matched(MatchVocabulary(["rug", "sofa", "lamp"]))
    assert [tag.text for tag in tags] == ["lamp", "rug", "sofa"]
    assert [tag.score for tag in tags] == pytest.approx([0.5, 0.3, 0.1], abs=1e-6)
    assert {tag.source for tag in tags} == {"match_vocabulary"}


def test_a_synonym_is_scored_and_the_label_comes_out():
    tags = matched(MatchVocabulary({"lamp": (), "sofa": ("couch",), "rug": ()}))
    assert [tag.text for tag in tags] == ["sofa", "lamp", "rug"]
    assert tags[0].score == pytest.approx(0.8, abs=1e-6)


def test_labels_that_are_left_out_are_not_proposed():
    tags = matched(MatchVocabulary(["rug", "sofa", "lamp"], leave_out=["lamp"], top_k=3))
    assert [tag.text for tag in tags] == ["rug", "sofa"]
    with pytest.raises(ConfigError, match="leave_out holds 'lmp', which is not a label.*'lamp'"):
        MatchVocabulary(["rug", "lamp"], leave_out=["lmp"])


def test_a_file_is_read(tmp_path):
    path = tmp_path / "rooms.txt"
    path.write_text("lamp\nsofa | couch\n", encoding="utf-8")
    assert [tag.text for tag in matched(MatchVocabulary(path))] == ["sofa", "lamp"]
    assert [tag.text for tag in matched(MatchVocabulary(str(path)))] == ["sofa", "lamp"]


def test_a_bundled_vocabulary_goes_by_its_name_and_a_file_of_that_name_by_its_path(tmp_path, monkeypatch):
    (tmp_path / "things").write_text("lamp\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    encoder = FakeEncoder({"a photo of tabby": 0.9})
    [best] = matched(MatchVocabulary("things", top_k=1), encoder)
    assert best.text == "tabby cat"
    assert best.score == pytest.approx(0.9, abs=1e-6)
    for file in ("./things", tmp_path / "things", Path("things")):
        assert [tag.text for tag in matched(MatchVocabulary(file))] == ["lamp"]


def test_the_vectors_of_a_long_vocabulary_are_kept_on_disk():
    labels = {f"thing {number}": (f"item {number}",) for number in range(200)}
    first, second, third = FakeEncoder(), FakeEncoder(), FakeEncoder()
    tags = [matched(MatchVocabulary(labels), encoder) for encoder in (first, second)]
    assert first.text_batches == [400]
    assert second.text_batches == []
    assert tags[0] == tags[1]
    matched(MatchVocabulary(labels, template="{}"), third)
    assert third.text_batches == [400]


def test_top_k_and_threshold_both_cut():
    labels = ("sofa", "lamp", "rug")
    assert [tag.text for tag in matched(MatchVocabulary(labels, top_k=1))] == ["lamp"]
    assert [tag.text for tag in matched(MatchVocabulary(labels, threshold=0.2))] == ["lamp", "rug"]
    assert matched(MatchVocabulary(labels, threshold=0.9)) == []


def test_tags_of_other_stages_stay_in_front():
    tags = matched(MatchVocabulary(["lamp"]), tags={"dog": 0.9})
    assert [tag.text for tag in tags] == ["dog", "lamp"]


def test_names_are_embedded_once_at_setup_in_the_template():
    encoder = FakeEncoder({"in a sofa room": 0.7, "a photo of sofa": 0.2})
    stage = MatchVocabulary(["sofa"], template="in a {} room")
    assert matched(stage, encoder)[0].score == pytest.approx(0.7, abs=1e-6)
    stage([make_sample(), make_sample()])
    assert encoder.text_batches == [1]


def test_without_a_template_the_vocabulary_has_the_word():
    encoder = FakeEncoder({"in a sofa room": 0.7, "a photo of sofa": 0.2})
    own = Vocabulary(["sofa"], template="in a {} room")
    assert matched(MatchVocabulary(own), encoder)[0].score == pytest.approx(0.7, abs=1e-6)
    assert matched(MatchVocabulary(["sofa"]), encoder)[0].score == pytest.approx(0.2, abs=1e-6)


def test_the_image_vector_is_left_for_the_next_stage():
    encoder = FakeEncoder()
    stage = MatchVocabulary(["lamp"])
    stage.setup(FakeModels(fake_encoder=encoder))
    samples = [make_sample(), make_sample()]
    stage(samples)
    stage(samples)
    assert encoder.image_batches == [2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, r"match_vocabulary\.top_k is 0"),
        ({"threshold": 2}, r"match_vocabulary\.threshold is 2\.0; allowed: a number from -1 to 1"),
        (
            {"threshold": 101, "score": "standardised"},
            r"match_vocabulary\.threshold is 101\.0; allowed: a number from -100 to 100",
        ),
        ({"score": "sigmoid"}, r"match_vocabulary: score = 'sigmoid' does not fit; it takes one of 'cosine'"),
        ({"template": "a photo"}, r"match_vocabulary\.template is 'a photo'"),
        (
            {"vocabulary": "/nowhere/rooms.txt"},
            r"match_vocabulary\.vocabulary is '/nowhere/rooms\.txt': neither a bundled vocabulary nor a file",
        ),
        ({"vocabulary": "thigns"}, r"neither a bundled vocabulary nor a file\. Did you mean 'things'"),
        ({"vocabulary": "pets.txt"}, r"nor a file\. .* Files were looked for in /"),
        ({"vocabulary": ()}, "vocabulary 'match_vocabulary' has no labels"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_built(options, message):
    with pytest.raises(ConfigError, match=message):
        MatchVocabulary(**{"vocabulary": ("sofa",), **options})


def test_a_vector_made_ahead_is_used_and_changes_nothing():
    encoder = FakeEncoder(SIMILARITIES)
    stage = MatchVocabulary(("couch", "lamp"))
    stage.setup(FakeModels(fake_encoder=encoder))
    prepared, plain = make_sample(), make_sample()
    image_vectors([prepared], stage.image_encoder)
    stage([prepared])
    assert encoder.image_batches == [1]
    stage([plain])
    assert prepared.tags == plain.tags


def test_a_standardised_score_keeps_the_order_and_the_cosine():
    tags = matched(MatchVocabulary({"lamp": (), "sofa": ("couch",), "rug": ()}, score="standardised"))
    assert [tag.text for tag in tags] == ["sofa", "lamp", "rug"]
    assert list(tags[0].scores) == ["match_vocabulary.cosine", "match_vocabulary"]
    assert tags[0].scores["match_vocabulary.cosine"] == pytest.approx(0.8, abs=1e-6)
    encoder = FakeEncoder(SIMILARITIES)
    stage = FilterTags(score="standardised", threshold=-100.0)
    [same] = filtered_alone(stage, encoder, "couch")
    assert tags[0].score == pytest.approx(same.score, rel=1e-5)


def test_a_standardised_threshold_cuts_standardised_scores():
    stage = MatchVocabulary(("couch", "lamp", "rug"), score="standardised", threshold=1.5)
    kept = matched(stage)
    assert 0 < len(kept) < 3
    assert all(tag.score >= 1.5 for tag in kept)


def filtered_alone(stage, encoder, text):
    stage.setup(FakeModels(fake_encoder=encoder))
    sample = make_sample(tags={text: 0.5})
    stage([sample])
    return sample.tags
