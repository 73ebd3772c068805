from __future__ import annotations

import json
from pathlib import Path

import pytest

from autotag.cli.thresholds import _without_cut

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
PRESET = """
encoder = "clip-mini"
[[stages]]
stage = "match_vocabulary"
vocabulary = ["dog", "cat", "rocket"]
[[stages]]
stage = "filter_tags"
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("own", "more", "whole"),
    [
        ("", (), True),
        ('score = "cosine"\n', (), True),
        ('score = "cosine"\nthreshold = 0.9\n', (), True),
        ("", ("--set", "filter_tags.score=cosine", "--set", "filter_tags.threshold=0.9"), False),
    ],
)
def test_the_cut_of_either_score_is_opened_unless_it_is_set_by_hand(run, tmp_path, own, more, whole):
    preset = tmp_path / "own.toml"
    preset.write_text(PRESET + own, encoding="utf-8")
    result = run("thresholds", EXAMPLES, "--preset", preset, "--at", "-99", "--format", "json", *more)
    if not whole:
        assert result.exit_code == 2
        assert "has a tag" in result.stderr
        return
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["cuts"][0]["tags"] == 3 * found["photos"]


@pytest.mark.slow
def test_people_get_a_line_for_each_cut_whole_in_a_pipe(run, tmp_path):
    preset = tmp_path / "own.toml"
    preset.write_text(PRESET, encoding="utf-8")
    result = run("thresholds", EXAMPLES, "--preset", preset, "--at", "-99", "--at", "99")
    assert result.exit_code == 0, result.output
    heading, low, high = result.stdout.splitlines()[2:]
    assert heading.split("  ")[0] == "threshold"
    assert low.split()[:1] == ["-99.000"]
    assert low.count(".jpg)") + low.count(".png)") >= 1
    assert high.split() == ["99.000", "0", "0.0", "0"]


def test_a_filter_with_a_name_of_its_own_is_opened_too(tmp_path):
    preset = tmp_path / "named.toml"
    preset.write_text('[[stages]]\nstage = "filter_tags"\nname = "mine"\nscore = "cosine"\nthreshold = 0.2\n')
    assert _without_cut(str(preset), ()) == ["mine.score=cosine", "mine.threshold=-1.0"]
    assert _without_cut(str(preset), ("mine.threshold=0.3",)) == []
