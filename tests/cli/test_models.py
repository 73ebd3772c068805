from __future__ import annotations

import json

import pytest

from autotag.config import registry
from autotag.models import cards

FACTS = {
    "name", "kind", "source", "revision", "licence", "origin", "size", "bundled", "remote", "present",
    "presets",
}  # fmt: skip


@pytest.fixture
def listed(run, local_hub):
    """What ``autotag models`` says to programs, on a machine with an empty cache."""
    return json.loads(run("models", "--format", "json").stdout)


def test_programs_get_every_model_with_its_facts(listed):
    assert [row["name"] for row in listed["models"]] == [card.name for card in cards.cards()]
    for row in listed["models"]:
        assert set(row) == FACTS
        assert row["licence"]


def test_programs_get_the_presets_with_their_stages_and_models(listed):
    presets = {row["name"]: row for row in listed["presets"]}
    assert set(presets) >= {"mini", "base", "large"}
    assert presets["base"]["models"] == ["blip-base", "minilm", "clip-vit-b-32"]
    assert presets["base"]["stages"][0] == "caption_images"
    assert presets["base"]["size"] == sum(
        row["size"] for row in listed["models"] if row["name"] in presets["base"]["models"]
    )
    assert presets["base"]["present"] is False
    users = {row["name"]: row["presets"] for row in listed["models"]}
    assert users["minilm"] == ["base", "large"]
    assert users["git-base"] == []


def test_it_is_said_that_the_licence_of_the_code_does_not_cover_the_bundled_weights(run, listed):
    for text in (listed["bundled_licence"], run("models").stdout):
        assert "research use only" in text
        assert "not bundled weights" in text


def test_people_get_name_size_presence_licence_and_origin_in_two_lines(run, local_hub):
    lines = run("models").stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("  blip-large "))
    for words in ("captioner", "1.9 GB", "not here", "for artwork, large"):
        assert words in lines[at]
    assert "BSD-3-Clause" in lines[at + 1]
    assert "arXiv:2201.12086" in lines[at + 1]
    assert not any(line != line.rstrip() for line in lines)


def test_parts_of_plugins_are_listed_with_their_package(run, local_hub, monkeypatch):
    assert "Plug-ins" not in run("models").stdout
    found = [("stage", "blur_faces", "faces"), ("encoder", "own-clip", "faces")]
    monkeypatch.setattr(registry, "plugins", lambda: found)
    told = run("models").stdout.partition("Plug-ins\n")[2].splitlines()
    assert [line.split() for line in told[:2]] == [
        ["blur_faces", "stage", "from", "faces"],
        ["own-clip", "encoder", "from", "faces"],
    ]
    assert json.loads(run("models", "--format", "json").stdout)["plugins"] == [
        {"kind": kind, "name": name, "package": package} for kind, name, package in found
    ]


def test_no_question_is_asked_of_the_hub(run, local_hub):
    assert run("models").exit_code == 0
    assert local_hub.asked == []


def test_a_model_behind_a_server_is_neither_here_nor_missing(run, local_hub):
    [line] = [line for line in run("models").stdout.splitlines() if line.startswith("  ofa ")]
    assert "remote" in line
    assert "here" not in line
