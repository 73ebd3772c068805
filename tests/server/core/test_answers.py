from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import autotag
from autotag.models.cards import find_card
from autotag.protocols import Stage
from autotag.records import Result, Tag
from autotag.relevance.scores import LogisticMap
from autotag.server.core.answers import Answer, Confidences
from autotag.stages import FilterTags, MatchVocabulary
from autotag.testing import FakeEncoder

RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results" / "confidences.json"
AT_CUT = Tag("dog", 0.2, "x", {"filter_tags": 0.2})
ABOVE = Tag("dog", 0.3, "x", {"filter_tags": 0.3})
STANDARDISED = Tag("dog", 1.5, "x", {"filter_tags.cosine": 0.2, "filter_tags": 1.5})


def test_the_maps_of_the_bundled_encoder_are_those_that_were_measured() -> None:
    card = find_card("clip-mini", "encoder")
    assert card is not None
    measured = json.loads(RESULTS.read_text())
    for score, curve in card.probabilities.items():
        assert curve.slope == pytest.approx(measured[score]["slope"], rel=0.01)
        assert curve.middle == pytest.approx(measured[score]["middle"], rel=0.01)
        for judged in measured[score]["judged on the other half"].values():
            assert judged["calibration error"] < 0.14
    assert set(card.probabilities) == {"cosine", "standardised"}


def test_a_pipeline_of_the_bundled_encoder_has_calibrated_confidences() -> None:
    with autotag.load("mini") as pipeline:
        confidences = Confidences.of(pipeline)
    assert confidences.calibrated
    assert confidences.confidence(Tag("cat", 0.149, "x", {"filter_tags": 0.149})) == pytest.approx(0.5)
    assert confidences.confidence(STANDARDISED) == confidences.standardised.probability(1.5) < 0.5
    answer = Answer.of(Result("x", (8, 8), tags=(ABOVE,)), confidences)
    assert answer.tags[0].confidence == round(confidences.cosine.probability(0.3), 4) > 0.8


@pytest.mark.parametrize(("threshold", "cut"), [(None, 0.2), (0.25, 0.25)])
def test_without_a_measure_a_confidence_is_a_half_at_the_cut_and_grows_with_the_score(
    threshold: float | None, cut: float
) -> None:
    encoder = FakeEncoder({}, default_thresholds={"cosine": 0.2})
    stages: list[Stage] = [MatchVocabulary(("dog", "cat")), FilterTags(score="cosine", threshold=threshold)]
    with autotag.Pipeline(stages, encoder=encoder) as pipeline:
        confidences = Confidences.of(pipeline)
    assert not confidences.calibrated
    assert confidences.confidence(replace(AT_CUT, score=cut)) == 0.5
    assert confidences.confidence(STANDARDISED) == 0.5
    assert 0.5 < confidences.confidence(ABOVE) < 1


def test_a_probability_is_one_of_any_score() -> None:
    curve = LogisticMap(25.0, 0.2)
    assert 0 < curve.probability(-1e9) < curve.probability(0.1) < curve.probability(1e9) <= 1
