"""Moderation on the command line, with the stage's real models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOTAG_STATE", str(tmp_path / "state"))


def test_tag_moderates_only_when_asked(run, preset):
    plain = run("tag", EXAMPLES / "cat.jpg", "--preset", preset, "--format", "jsonl")
    assert json.loads(plain.stdout)["moderation"] == []
    result = run("tag", EXAMPLES / "cat.jpg", "--preset", preset, "--format", "jsonl", "--moderate")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert [(one["label"], one["model"], one["flagged"]) for one in found["moderation"]] == [
        ("safe", "opennsfw", False),
        ("explicit", "opennsfw", False),
    ]
    assert found["tags"] == json.loads(plain.stdout)["tags"]


def test_the_stage_has_its_options_on_the_command_line(run, preset):
    result = run(
        "tag", EXAMPLES / "cat.jpg", "--preset", preset, "--format", "jsonl", "--moderate",
        "--set", "moderate_images.threshold=0",
    )  # fmt: skip
    assert [one["flagged"] for one in json.loads(result.stdout)["moderation"]] == [False, True]
    wrong = run("tag", EXAMPLES / "cat.jpg", "--preset", preset, "--moderate", "--set",
                "moderate_images.model=opensfw")  # fmt: skip
    assert wrong.exit_code == 2
    assert "Did you mean 'opennsfw'" in wrong.stderr


def test_a_preset_that_moderates_keeps_its_own_stage(run, preset):
    preset.write_text(
        preset.read_text() + '\n[[stages]]\nstage = "moderate_images"\nthreshold = 0.0\n', encoding="utf-8"
    )
    result = run("tag", EXAMPLES / "cat.jpg", "--preset", preset, "--format", "jsonl", "--moderate")
    assert [one["flagged"] for one in json.loads(result.stdout)["moderation"]] == [False, True]


def test_an_album_follows_rules_for_flagged_photographs(run, preset, photos, tmp_path):
    rules = tmp_path / "rules.toml"
    rules.write_text("flagged_write = []\n", encoding="utf-8")
    refused = run("album", photos, "--preset", preset, "--rules", rules)
    assert refused.exit_code == 2
    assert "add --moderate" in refused.stderr
    strict = ("--set", "moderate_images.threshold=0")
    result = run("album", photos, "--preset", preset, "--rules", rules, "--moderate", *strict)
    assert result.exit_code == 0, result.stderr
    assert "flagged (explicit" in result.stderr
    assert not list(photos.rglob("*.xmp"))
    result = run("album", photos, "--preset", preset, "--rules", rules, "--moderate")
    assert result.exit_code == 0, result.stderr
    assert len(list(photos.rglob("*.xmp"))) == 3
