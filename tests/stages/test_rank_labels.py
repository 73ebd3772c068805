from __future__ import annotations

import pytest

from autotag.errors import ConfigError, WiringError
from autotag.pipeline.pipeline import Pipeline
from autotag.stages import RankLabels
from autotag.testing import FakeEncoder, FakeModels, check_stage, make_sample
from autotag.vocabularies.vocabulary import Vocabulary

PLACES = Vocabulary({"beach": ["seaside"], "city": [], "forest": []}, name="places", template="{}")
LIGHT = Vocabulary(["soft light", "hard light"], name="light")


def rankings(stage, encoder=None):
    stage.setup(FakeModels(fake_encoder=encoder or FakeEncoder()))
    sample = make_sample()
    stage([sample])
    return sample.rankings


def test_it_keeps_the_contract():
    check_stage(RankLabels((PLACES, LIGHT), top_k=2))


def test_each_vocabulary_comes_out_under_its_name_best_first():
    encoder = FakeEncoder({"city": 0.6, "beach": 0.4, "forest": 0.1, "hard light": 0.5, "soft light": 0.2})
    found = rankings(RankLabels((PLACES, LIGHT), top_k=2), encoder)
    assert {name: [tag.text for tag in tags] for name, tags in found.items()} == {
        "places": ["city", "beach"],
        "light": ["hard light", "soft light"],
    }
    assert found["places"][0].score == pytest.approx(0.6, abs=1e-6)
    assert found["places"][0].scores == {"rank_labels": found["places"][0].score}


def test_a_synonym_counts_for_its_label():
    [first, *_] = rankings(RankLabels((PLACES,)), FakeEncoder({"seaside": 0.9}))["places"]
    assert first.text == "beach"
    assert first.score == pytest.approx(0.9, abs=1e-6)


def test_names_and_files_are_vocabularies_too(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("one\ntwo\n", encoding="utf-8")
    found = rankings(RankLabels(("mediums", str(file)), top_k=3))
    assert len(found["mediums"]) == 3
    assert {tag.text for tag in found["mine"]} == {"one", "two"}


def test_by_default_it_is_the_five_bundled_lists():
    stage = RankLabels(living_artists=False)
    assert list(stage._read) == ["mediums", "artists", "movements", "trendings", "flavors"]
    assert len(stage._read["artists"]) < len(RankLabels()._read["artists"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, r"rank_labels\.top_k is 0"),
        ({"vocabularies": ("medium",)}, r"rank_labels\.vocabularies is 'medium'.*mean 'mediums'"),
        ({"vocabularies": (LIGHT, LIGHT)}, "two are called 'light'"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        RankLabels(**options)


def test_two_stages_cannot_write_the_ranking_of_one_name():
    other = Vocabulary(LIGHT.labels, name="light again")
    first = RankLabels((PLACES, LIGHT), name="first")
    Pipeline([first, RankLabels((other,), name="second")])
    with pytest.raises(WiringError, match="'first' and 'second' both write the ranking 'light'"):
        Pipeline([first, RankLabels((LIGHT,), name="second")])


def test_a_vocabulary_object_cannot_be_saved_and_the_message_says_what_can():
    with pytest.raises(
        ConfigError, match=r"vocabularies is an object \(Vocabulary\).*Give it as a file instead"
    ):
        Pipeline([RankLabels((LIGHT,))]).to_config()
