from __future__ import annotations

import json
import shutil

import pytest

from autotag.testing import make_image

PRESET = """
encoder = "clip-mini"
[[stages]]
stage = "colour_stages:NameColours"
"""


@pytest.fixture
def colours(preset):
    preset.write_text(PRESET)
    return preset


@pytest.fixture
def indexed(colours, photos, run, tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOTAG_INDEX", str(tmp_path / "index.db"))

    def index(*options):
        return run("index", photos, "--preset", colours, *options)

    found = index()
    assert found.exit_code == 0, found.stderr
    assert "3 indexed; 3 in the index" in found.stderr
    return index


@pytest.mark.slow
def test_other_settings_for_unchanged_photographs_are_said_to_do_nothing(indexed, photos):
    said = "the index was begun with other settings"
    assert said not in indexed("--batch-size", "2").stderr
    make_image("white").save(photos / "new.png")
    other = indexed("--set", "name_colours.top_k=1").stderr
    assert said in other
    assert "1 indexed, 3 unchanged; 4 in the index" in other
    assert said not in indexed().stderr


def paths(result):
    return [line.rpartition("/")[2] for line in result.stdout.splitlines()]


@pytest.mark.slow
def test_photographs_are_found_by_tag_words_and_image(indexed, photos, run):
    assert paths(run("search", "--tag", "red", "--format", "paths")) == ["a red.png"]
    assert paths(run("search", '"red"', "--format", "paths")) == ["a red.png"]
    assert paths(run("search", "--image", photos / "blue.png", "--format", "paths"))[0] == "blue.png"
    assert paths(run("search", "--folder", "more", "--format", "paths")) == ["green.png"]
    nothing = run("search", "--tag", "unicorn")
    assert (nothing.exit_code, nothing.stdout, nothing.stderr) == (1, "", "autotag: nothing found\n")


@pytest.mark.slow
def test_every_format_says_the_same(indexed, run):
    hit = json.loads(run("search", "--tag", "red", "--format", "json").stdout)[0]
    assert json.loads(run("search", "--tag", "red", "--format", "jsonl").stdout) == hit
    assert hit["path"].endswith("a red.png")
    assert run("search", "--tag", "red", "--format", "paths0").stdout.endswith("a red.png\0")
    assert "a red.png" in run("search", "--tag", "red", "--why").stdout
    page = run("search", "--tag", "red", "--format", "html").stdout
    assert "data:image/jpeg;base64," in page
    assert "a red.png" in page


@pytest.mark.slow
def test_why_says_which_words_matched(indexed, run):
    assert "words: red" in run("search", '"red"', "--by", "words", "--why").stdout


@pytest.mark.slow
def test_a_second_run_does_what_is_new_moved_or_gone(indexed, photos):
    assert "0 indexed, 3 unchanged" in indexed().stderr
    (photos / "blue.png").rename(photos / "more" / "azure.png")
    (photos / "a red.png").unlink()
    make_image("yellow").save(photos / "new.png")
    assert "1 indexed, 1 unchanged, 1 moved, 1 forgotten; 3 in the index" in indexed().stderr


@pytest.mark.slow
def test_a_sidecar_that_changes_alone_is_read_and_no_model_runs(indexed, photos, run, decoded, sidecar):
    decoded.clear()
    (photos / "blue.png.xmp").write_text(sidecar("Oma"))
    assert "0 indexed, 2 unchanged, 1 with new metadata" in indexed().stderr
    assert paths(run("search", "--tag", "Oma", "--format", "paths")) == ["blue.png"]
    (photos / "blue.png.xmp").unlink()
    assert "0 indexed, 2 unchanged, 1 with new metadata" in indexed().stderr
    assert paths(run("search", "--tag", "Oma", "--format", "paths")) == []
    assert "0 indexed, 3 unchanged" in indexed().stderr
    assert decoded == []


@pytest.mark.slow
def test_an_offline_folder_stays_marked_until_it_is_pruned(indexed, photos, run):
    away = photos.rename(photos.with_name("away"))
    assert "3 offline; 3 in the index" in indexed().stderr
    assert "(offline)" in run("search", "--tag", "red").stdout
    away.rename(photos)
    assert "3 unchanged; 3 in the index" in indexed().stderr
    assert "(offline)" not in run("search", "--tag", "red").stdout
    shutil.rmtree(photos / "more")
    assert "1 offline" in indexed().stderr
    assert "1 forgotten; 2 in the index" in indexed("--prune").stderr


@pytest.mark.slow
def test_a_run_that_is_refused_leaves_no_index(colours, photos, run, tmp_path):
    index = tmp_path / "new" / "index.db"
    (tmp_path / "empty").mkdir()
    missing = tmp_path / "missing.toml"
    missing.write_text(PRESET.replace("clip-mini", "clip-vit-b-32"))
    for command, path, chosen in (
        ("index", tmp_path / "typo", colours),
        ("index", tmp_path / "empty", colours),
        ("index", "http://127.0.0.1/a.jpg", colours),
        ("index", photos, missing),
        ("album", tmp_path / "typo", colours),
        ("album", tmp_path / "empty", colours),
        ("album", photos, missing),
    ):
        refused = run(command, path, "--index", index, "--preset", chosen)
        assert (refused.exit_code, index.parent.exists()) == (2, False), (command, path, refused.stderr)


@pytest.mark.slow
def test_a_path_that_never_was_is_told_and_one_that_is_gone_is_forgotten(
    indexed, colours, photos, run, tmp_path
):
    def index(*paths):
        return run("index", *paths, "--preset", colours)

    (tmp_path / "empty").mkdir()
    for path, reason in ((tmp_path / "typo", "no such file"), (tmp_path / "empty", "no image found in")):
        refused = index(path)
        assert (refused.exit_code, reason in refused.stderr) == (2, True)
    assert "cannot read image 'xxx" in index("x" * 300).stderr
    beside = index(photos, tmp_path / "typo")
    assert beside.exit_code == 1
    assert f"cannot read image '{tmp_path / 'typo'}': no such file" in beside.stderr
    assert "0 indexed, 1 failed, 3 unchanged; 3 in the index" in beside.stderr
    (photos / "blue.png").unlink()
    alone = index(photos / "blue.png")
    assert (alone.exit_code, "0 indexed, 1 forgotten; 2 in the index" in alone.stderr) == (0, True)


@pytest.mark.slow
def test_a_photograph_that_cannot_be_read_is_kept_with_its_reason_and_tried_again_when_told(
    indexed, photos, run
):
    (photos / "broken.jpg").write_bytes(b"nothing")
    assert indexed().exit_code == 1
    again = indexed()
    assert (again.exit_code, "4 unchanged" in again.stderr) == (0, True)
    assert "1 failed" in indexed("--retry-errors").stderr


def test_a_search_without_an_index_says_the_way_out(run, tmp_path):
    result = run("search", "dog", "--index", tmp_path / "no.db")
    assert result.exit_code == 2
    assert "autotag index FOLDER" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [("--top", "0"), ("--near", "here"), (), ("",)])
def test_bad_options_are_refused(indexed, run, wrong):
    assert run("search", *wrong).exit_code == 2
