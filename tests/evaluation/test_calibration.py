from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autotag.errors import ConfigError
from autotag.evaluation.calibration import Calibration, Proposals, calibrate, fit_cut, held_out
from autotag.evaluation.datasets import EvaluationSet, Example
from autotag.pipeline import presets

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
SEEN = {
    "astronaut": ("woman", "astronaut"),
    "cat": ("cat",),
    "coffee": ("coffee", "cup"),
    "rocket": ("rocket",),
}
WORDS = ["woman", "astronaut", "cat", "coffee", "cup", "rocket", "beach", "bicycle", "football", "river"]
TABLE = {
    "encoder": "clip-mini",
    "stages": [
        {"stage": "match_vocabulary", "vocabulary": WORDS},
        {"stage": "filter_tags", "score": "cosine", "threshold": 0.9, "top_k": 3},
        {"stage": "only_for_later", "option": 1},
    ],
}


def proposals(scores, right) -> Proposals:
    return Proposals(np.array(scores, dtype=np.float64), np.array(right, dtype=bool))


def captioned() -> EvaluationSet:
    examples = [
        Example(name, next(EXAMPLES.glob(f"{name}.*")), texts=(f"a photo of the {' and '.join(words)}",))
        for name, words in SEEN.items()
    ]
    return EvaluationSet("captions", tuple(examples))


def tagged() -> EvaluationSet:
    examples = [Example(name, next(EXAMPLES.glob(f"{name}.*")), tags=words) for name, words in SEEN.items()]
    return EvaluationSet("tags", tuple(examples))


def test_the_cut_has_the_highest_f1_and_lies_between_what_stays_and_what_goes():
    images = [proposals([0.9, 0.5, 0.1], [1, 1, 0]), proposals([0.6, 0.3, 0.2], [1, 0, 0])]
    assert fit_cut(images, top_k=None) == pytest.approx(0.4)


def test_a_right_tag_below_many_wrong_ones_is_given_up():
    images = [proposals([0.9, *np.linspace(0.5, 0.2, 9), 0.1], [1, *[0] * 9, 1])]
    assert fit_cut(images, top_k=None) == pytest.approx(0.7)


def test_equal_scores_stay_or_go_together():
    assert fit_cut([proposals([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0])], top_k=None) == pytest.approx(0.3)
    assert fit_cut([proposals([0.5, 0.5], [1, 0])], top_k=None) == pytest.approx(0.5)


def test_tags_beyond_top_k_never_stay_but_right_ones_are_missed():
    images = [proposals([0.9, 0.8, 0.7], [0, 1, 1])]
    figures = held_out(images, 0.0, top_k=2, seed=0)
    assert figures["precision"].value == pytest.approx(1 / 2)
    assert figures["recall"].value == pytest.approx(1 / 2)
    assert figures["tags_per_image"].value == 2
    assert fit_cut(images, top_k=2) == pytest.approx(0.8)


def test_a_wanted_precision_keeps_as_many_tags_as_go():
    ranked = proposals(np.arange(40, 0, -1), [1] * 25 + [0] * 15)
    assert fit_cut([ranked], top_k=None, wanted_precision=0.8) == pytest.approx(9.5)
    stays = ranked.scores >= fit_cut([ranked], top_k=None, wanted_precision=0.8)
    assert ranked.right[stays].mean() >= 0.8 > ranked.right[: stays.sum() + 1].mean()


def test_a_precision_out_of_reach_is_refused_with_the_best():
    ranked = proposals(np.arange(40, 0, -1), [1, 0] * 20)
    with pytest.raises(ConfigError, match=r"no cut .* precision of 0\.9; the best: 0\.5"):
        fit_cut([ranked], top_k=None, wanted_precision=0.9)
    with pytest.raises(ConfigError, match="only 4 tags are proposed"):
        fit_cut([proposals([4, 3, 2, 1], [1, 1, 0, 0])], top_k=None, wanted_precision=0.5)


def test_nothing_right_is_refused():
    with pytest.raises(ConfigError, match="no tag that is proposed for these images is right"):
        fit_cut([proposals([0.5], [0]), proposals([], [])], top_k=None)


def test_a_single_image_has_figures_without_an_interval():
    figures = held_out([proposals([0.9, 0.2], [1, 0])], 0.5, top_k=None, seed=0)
    assert figures["f1"].value == 1
    assert figures["f1"].interval is None


def test_images_without_a_tag_count():
    figures = held_out([proposals([0.9], [1]), proposals([], [])], 0.5, top_k=10, seed=0)
    assert figures["tags_per_image"].value == 0.5
    assert figures["f1"].value == 1


def fitted(dataset: EvaluationSet, **options) -> Calibration:
    table = {**TABLE, "stages": TABLE["stages"][:2]}
    return calibrate(dataset, table, **options)


@pytest.mark.slow
@pytest.mark.parametrize("score", ["cosine", "standardised"])
def test_a_cut_is_fitted_to_one_half_and_judged_on_the_other(score):
    calls = []
    found = fitted(captioned(), score=score, on_image=lambda: calls.append(1))
    assert (found.fitted_on, found.judged_on, found.failed) == (2, 2, 0)
    assert len(calls) == 4
    assert found.encoder == "clip-mini"
    assert found.score == score
    assert set(found.figures) == {"f1", "precision", "recall", "tags_per_image"}
    assert 0 < found.figures["f1"].value <= 1
    [_, stage] = found.config["stages"]
    assert stage == {"stage": "filter_tags", "threshold": found.threshold, "top_k": 3, "score": score}


@pytest.mark.slow
def test_the_config_keeps_what_the_cut_keeps():
    found = fitted(tagged(), score="standardised")
    with presets.from_config(found.config) as pipeline:
        for image in EXAMPLES.glob("*.jpg"):
            assert all(tag.score >= found.threshold for tag in pipeline(image).tags)


@pytest.mark.slow
def test_labels_of_a_data_set_are_proposed_whatever_the_stages_propose():
    table = {**TABLE, "stages": [{**TABLE["stages"][0], "vocabulary": ["nothing"]}, TABLE["stages"][1]]}
    with pytest.raises(ConfigError, match="no tag that is proposed"):
        calibrate(captioned(), table)
    assert calibrate(tagged(), table).figures["recall"].value > 0


@pytest.mark.slow
def test_the_same_seed_gives_the_same_cut():
    assert fitted(captioned(), seed=4).threshold == fitted(captioned(), seed=4).threshold


@pytest.mark.slow
def test_an_image_that_cannot_be_read_has_no_part_in_it(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    dataset = tagged()
    bad = Example("bad", tmp_path / "bad.jpg", tags=("cat",))
    found = fitted(replace(dataset, examples=(*dataset.examples, bad)))
    assert (found.fitted_on, found.judged_on, found.failed) == (2, 2, 1)


def test_one_image_is_refused():
    dataset = captioned()
    with pytest.raises(ConfigError, match="'captions' has one image; a cut takes at least two"):
        fitted(replace(dataset, examples=dataset.examples[:1]))


@pytest.mark.slow
def test_images_that_all_fail_are_refused(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    bad = Example("bad", tmp_path / "bad.jpg", tags=("cat",))
    with pytest.raises(ConfigError, match="0 images of 'bad' could be tagged"):
        fitted(EvaluationSet("bad", (bad, bad)))


@pytest.mark.parametrize("count", [0, 2])
def test_a_config_without_exactly_one_filter_is_refused(count):
    filters = [{"stage": "filter_tags", "name": f"filter {number}"} for number in range(count)]
    with pytest.raises(ConfigError, match=f"one stage filter_tags; this has {count}"):
        calibrate(captioned(), {"encoder": "clip-mini", "stages": [TABLE["stages"][0], *filters]})


@pytest.mark.slow
def test_stages_after_the_filter_are_kept_and_not_run():
    known = {"stage": "assemble_prompt", "mode": "best"}
    table = {**TABLE, "stage_batch_sizes": {"assemble_prompt": 1}, "stages": [*TABLE["stages"][:2], known]}
    found = calibrate(captioned(), table)
    assert found.config["stages"][2] == known
    assert found.config["stage_batch_sizes"] == {"assemble_prompt": 1}
