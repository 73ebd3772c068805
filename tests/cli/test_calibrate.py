from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from autotag.pipeline import presets

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
TAGS = "image,tags\nastronaut,woman|astronaut\ncat,cat\ncoffee,coffee|cup\nrocket,rocket\n"


@pytest.fixture
def tags(tmp_path):
    file = tmp_path / "tags.csv"
    file.write_text(TAGS, encoding="utf-8")
    return file


def given(*more):
    return ("--preset", "mini", "--images", EXAMPLES, "-q", *more)


@pytest.mark.slow
def test_the_written_preset_has_the_score_and_the_cut_and_says_where_they_are_from(run, tags, tmp_path):
    output = tmp_path / "own.toml"
    result = run("calibrate", tags, *given("--score", "standardised", "--device", "cpu", "--output", output))
    assert result.exit_code == 0, result.output
    written = tomllib.loads(output.read_text(encoding="utf-8"))
    stages = {stage["stage"]: stage for stage in written["stages"]}
    assert stages["filter_tags"]["score"] == "standardised"
    line = f"standardised threshold {stages['filter_tags']['threshold']:g} for encoder clip-mini"
    assert result.stdout.splitlines()[0] == line
    assert f"# {line}" in output.read_text(encoding="utf-8").splitlines()
    assert "on 2 other images" in result.stdout
    assert "device" not in written
    plain = presets.read_preset("mini")
    assert [stage["stage"] for stage in plain["stages"]] == list(stages)
    tagged = run("tag", EXAMPLES / "cat.jpg", "--preset", output, "-q")
    assert tagged.exit_code == 0, tagged.output


@pytest.mark.slow
def test_another_encoder_is_written_too_a_folder_from_the_root(run, tags, tmp_path, monkeypatch):
    from autotag.models.cards import BUNDLED

    (tmp_path / "my-clip").symlink_to(BUNDLED / "clip-mini")
    monkeypatch.chdir(tmp_path)
    result = run("calibrate", tags, *given("--encoder", "my-clip", "--score", "standardised"))
    assert result.exit_code == 0, result.output
    written = tomllib.loads((tmp_path / "calibrated.toml").read_text(encoding="utf-8"))
    assert written["encoder"] == str((tmp_path / "my-clip").resolve())


@pytest.mark.slow
def test_a_file_that_is_there_is_replaced_only_when_asked(run, tags, tmp_path):
    output = tmp_path / "own.toml"
    output.write_text("# mine\n")
    refused = run("calibrate", tags, *given("--output", output))
    assert refused.exit_code == 2
    assert "exists already" in refused.stderr
    assert output.read_text() == "# mine\n"
    assert run("calibrate", tags, *given("--output", output, "--overwrite")).exit_code == 0
    assert output.read_text().startswith("# Made by autotag calibrate.")


@pytest.mark.slow
def test_comments_of_the_preset_survive_and_former_figures_do_not(run, tags, tmp_path):
    mine, output = tmp_path / "mine.toml", tmp_path / "own.toml"
    mine.write_text(f"# My album.\n{presets.preset_text('mini')}# That is all.\n", encoding="utf-8")
    given = ("--images", EXAMPLES, "-q", "--overwrite", "--output", output)
    assert run("calibrate", tags, "--preset", mine, *given).exit_code == 0
    first = output.read_text(encoding="utf-8")
    assert all(comment in first for comment in ("# My album.", "# a small captioner is often", "# That is"))
    assert run("calibrate", tags, "--preset", output, *given).exit_code == 0
    assert output.read_text(encoding="utf-8") == first


def test_one_image_is_refused(run, tmp_path):
    (tmp_path / "one.csv").write_text("image,tags\ncat,cat\n")
    result = run("calibrate", tmp_path / "one.csv", *given("--output", tmp_path / "own.toml"))
    assert result.exit_code == 2
    assert "has one image" in result.stderr
    assert not (tmp_path / "own.toml").exists()


@pytest.mark.slow
def test_a_data_set_without_a_right_tag_is_refused(run, tmp_path):
    file = tmp_path / "captions.csv"
    file.write_text("image,caption\ncat,qwertz\nrocket,uiop\n")
    result = run("calibrate", file, *given("--output", tmp_path / "own.toml"))
    assert result.exit_code == 2
    assert "no tag that is proposed for these images is right" in result.stderr


@pytest.mark.slow
def test_an_image_that_fails_costs_exit_code_1(run, tags, tmp_path):
    for picture in EXAMPLES.glob("*.jpg"):
        (tmp_path / picture.name).symlink_to(picture)
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    tags.write_text(f"{TAGS}bad,cat\n")
    result = run("calibrate", tags, "--preset", "mini", "-q", "--output", tmp_path / "own.toml")
    assert result.exit_code == 1, result.output
    assert "1 failed" in result.stdout
