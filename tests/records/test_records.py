from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest

from autotag.records import Caption, Detection, Result, Tag
from autotag.testing import make_sample

DETECTION = Detection("dog", 0.9, (1.0, 2.0, 3.0, 4.0))


def full_result() -> Result:
    tag = replace(
        Tag.proposed("dog", 0.7, "extract_keyphrases").scored(0.31, "filter_tags"), path=("animal", "dog")
    )
    sample = make_sample(
        captions=["a dog"], detections=[DETECTION], tags=[tag], prompt="a dog", extras={"k": [1]}
    )
    sample.rankings["animals"] = [tag]
    sample.captions.append(Caption("dogs", "git", -0.5).scored(0.3, "choose_caption"))
    return Result.from_sample(sample)


def test_a_tag_keeps_every_score_oldest_first() -> None:
    tag = Tag.proposed("dog", 0.7, "extract_keyphrases").scored(0.31, "filter_tags")
    assert tag.score == 0.31
    assert tag.source == "extract_keyphrases"
    assert list(tag.scores.items()) == [("extract_keyphrases", 0.7), ("filter_tags", 0.31)]


def test_scoring_leaves_the_old_tag_alone() -> None:
    tag = Tag.proposed("dog", 0.7, "a")
    tag.scored(0.1, "b")
    assert tag == Tag("dog", 0.7, "a", {"a": 0.7})


def test_tags_can_be_in_a_set() -> None:
    assert len({Tag.proposed("dog", 0.7, "a"), Tag.proposed("dog", 0.7, "a")}) == 1


def test_a_caption_keeps_its_captioners_score_and_every_other_oldest_first() -> None:
    caption = Caption("a dog", "blip-base", -0.5).scored(0.3, "choose_caption").scored(0.2, "again")
    assert (caption.text, caption.source, caption.score) == ("a dog", "blip-base", 0.2)
    assert list(caption.scores.items()) == [("blip-base", -0.5), ("choose_caption", 0.3), ("again", 0.2)]


def test_a_caption_without_a_score_of_its_own_has_only_that_of_the_stage() -> None:
    caption = Caption("a dog", "greedy")
    assert caption.scored(0.3, "choose_caption").scores == {"choose_caption": 0.3}
    assert (caption.score, caption.scores) == (None, {})


def test_a_result_survives_json() -> None:
    result = full_result()
    assert Result.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_the_path_of_a_tag_is_kept_in_json_and_when_it_is_scored() -> None:
    [row] = json.loads(json.dumps(full_result().to_dict()))["tags"]
    assert row["path"] == ["animal", "dog"]
    assert Tag.from_dict(row).scored(0.1, "again").path == ("animal", "dog")


def test_a_row_from_before_tags_had_a_path_is_read() -> None:
    row = full_result().to_dict()
    for tag in (*row["tags"], *row["rankings"]["animals"]):
        del tag["path"]
    read = Result.from_dict(row)
    assert (read.tags[0].path, read.rankings["animals"][0].path) == ((), ())


def test_a_row_from_before_captions_had_several_scores_is_read() -> None:
    row = full_result().to_dict()
    row["captions"] = [{"text": "a dog", "source": "blip", "score": -0.5}]
    assert Result.from_dict(row).captions == (Caption("a dog", "blip", -0.5),)


def test_a_result_survives_pickle() -> None:
    assert pickle.loads(pickle.dumps(full_result())) == full_result()


def test_a_result_shares_nothing_that_a_stage_could_still_change() -> None:
    sample = make_sample(tags={"dog": 0.5}, extras={"key": 1})
    result = Result.from_sample(sample)
    sample.tags.clear()
    sample.extras.clear()
    assert (len(result.tags), result.extras) == (1, {"key": 1})


def test_the_caption_is_the_best_one_or_empty() -> None:
    assert Result("a", (1, 1), captions=(Caption("one", "f"), Caption("two", "f"))).caption == "one"
    assert Result("a", (1, 1)).caption == ""


def test_an_error_result_has_no_size() -> None:
    result = Result("a.jpg", (0, 0), error="it is empty")
    assert Result.from_dict(result.to_dict()) == result


@pytest.mark.parametrize("noise", [9e-8, -9e-8])
def test_scores_keep_six_decimals(noise: float) -> None:
    """What comes after is noise that differs with the batch, and would change every file of results."""

    def result(noise: float) -> Result:
        sample = make_sample(tags=[Tag.proposed("dog", 0.125 + noise, "test")])
        sample.captions.append(Caption("a dog", "blip", 0.25 + noise, {"blip": 0.5 + noise}))
        sample.detections.append(Detection("dog", 0.75 + noise, (0, 0, 1, 1)))
        sample.rankings["mediums"] = [Tag.proposed("oil", 0.0625 + noise, "test")]
        return Result.from_sample(sample)

    assert result(noise) == result(0)
    assert result(noise).tags[0].scores == {"test": 0.125}


def test_a_caption_without_a_score_has_none_afterwards() -> None:
    sample = make_sample()
    sample.captions.append(Caption("a dog", "git"))
    assert Result.from_sample(sample).captions[-1].score is None
