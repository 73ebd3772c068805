from __future__ import annotations

import json
from pathlib import Path

import pytest

from autotag.cli.analyze import _analyzer

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


@pytest.fixture
def lights(tmp_path):
    """A list of two labels, as a setting."""
    file = tmp_path / "lights.txt"
    file.write_text("soft light\nhard light\n", encoding="utf-8")
    return f'rank_labels.vocabularies=["movements", "{file}"]'


@pytest.mark.slow
def test_each_vocabulary_is_shown_best_first(run, lights):
    image = EXAMPLES / "cat.jpg"
    result = run("analyze", image, "--preset", "mini", "--set", lights, "--top", 2)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == str(image)
    assert [line.strip() for line in lines if line.startswith("  ") and line[2] != " "] == [
        "movements",
        "lights",
    ]
    scores = [float(line.split()[0]) for line in lines if line.startswith("    ")]
    assert len(scores) == 4
    assert scores[:2] == sorted(scores[:2], reverse=True)


@pytest.mark.slow
def test_json_has_one_object_per_line(run, lights, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    result = run("analyze", EXAMPLES / "cat.jpg", bad, "--preset", "mini", "--set", lights, "--json", "-q")
    assert result.exit_code == 1
    good, failed = map(json.loads, result.stdout.splitlines())
    assert {entry["label"] for entry in good["rankings"]["lights"]} == {"soft light", "hard light"}
    assert "bad.jpg" in failed["error"]


def test_top_goes_to_every_stage_that_ranks_under_its_own_name(tmp_path):
    preset = tmp_path / "ranks.toml"
    preset.write_text(
        'encoder = "clip-mini"\n'
        '[[stages]]\nstage = "rank_labels"\nname = "styles"\nvocabularies = ["mediums"]\n'
        '[[stages]]\nstage = "rank_labels"\nvocabularies = ["movements"]\n'
    )
    stages = _analyzer(str(preset), {}, (), 2).stages
    assert [(stage.name, stage.top_k) for stage in stages] == [("styles", 2), ("rank_labels", 2)]
