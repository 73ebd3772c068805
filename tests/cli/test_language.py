"""Tags in other languages on the command line."""

from __future__ import annotations

import json

import pytest

from autotag.testing import make_image


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOTAG_STATE", str(tmp_path / "state"))


@pytest.fixture
def red(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    make_image("red").save(folder / "a.jpg")
    return folder


def test_tag_names_what_it_found(run, preset, red):
    result = run("tag", red, "--preset", preset, "--format", "jsonl", "--language", "de, en")
    assert result.exit_code == 0, result.stderr
    found = {tag["text"]: tag for tag in json.loads(result.stdout)["tags"]}
    assert {"Rot", "red"} <= set(found)
    assert (found["Rot"]["concept"], found["Rot"]["language"]) == ("red", "de")
    assert found["Rot"]["scores"] == found["red"]["scores"]


def test_an_album_is_written_in_the_language_and_undone(run, preset, red):
    before = (red / "a.jpg").read_bytes()
    done = run("album", red, "--preset", preset, "--embed", "--language", "fr")
    assert done.exit_code == 0, done.stderr
    assert b"<rdf:li>rouge</rdf:li>" in (red / "a.jpg").read_bytes()
    assert run("undo", red).exit_code == 0
    assert (red / "a.jpg").read_bytes() == before


def test_an_index_that_an_album_fills_is_searched_by_name_and_by_concept(run, preset, red, tmp_path):
    preset.write_text('encoder = "clip-mini"\n' + preset.read_text(), encoding="utf-8")
    index = tmp_path / "i.db"
    done = run("album", red, "--preset", preset, "--language", "de", "--index", index)
    assert done.exit_code == 0, done.stderr
    for word in ("Rot", "red"):
        found = run("search", "--index", index, "--tag", word)
        assert "a.jpg" in found.stdout, found.stderr


def test_index_stores_the_names(run, preset, red, tmp_path):
    preset.write_text('encoder = "clip-mini"\n' + preset.read_text(), encoding="utf-8")
    index = tmp_path / "own.db"
    done = run("index", red, "--preset", preset, "--language", "nl", "--index", index)
    assert done.exit_code == 0, done.stderr
    assert "a.jpg" in run("search", "--index", index, "--tag", "rood").stdout


def test_a_language_that_no_vocabulary_has_is_refused_with_those_that_are_known(run, preset, red):
    result = run("tag", red, "--preset", preset, "--language", "sv")
    assert result.exit_code == 2
    assert "'sv'" in result.stderr
    assert "de, en, es, fr, it, nl, pt" in " ".join(result.stderr.split())


def test_a_vocabulary_is_shown_with_its_names_in_the_format_that_is_read(run, tmp_path):
    (tmp_path / "v.txt").write_text(
        "pet\ncat | kitty | label.de: Katze | label.fr: chat < pet\n", encoding="utf-8"
    )
    shown = run("vocabulary", "show", tmp_path / "v.txt", "--language", "de, FR")
    assert shown.stdout == "pet\ncat | kitty | label.de: Katze | label.fr: chat < pet\n"
    assert "label.de" not in run("vocabulary", "show", tmp_path / "v.txt", "--language", "fr").stdout


def test_a_language_that_a_shown_vocabulary_does_not_have_is_refused(run):
    for languages, said in (("sv", "has no labels in 'sv'"), ("de,", "'' is not the code of a language")):
        shown = run("vocabulary", "show", "things", "--language", languages)
        assert shown.exit_code == 2
        assert said in shown.stderr
