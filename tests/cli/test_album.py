"""Albums on the command line, end to end, with a stage that needs no weights."""

from __future__ import annotations

import json
import shutil
import signal
import zipfile

import pytest

from autotag.metadata import read_packet
from autotag.testing import make_image


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOTAG_STATE", str(tmp_path / "state"))


@pytest.fixture
def files(photos):
    def files():
        return {
            path.relative_to(photos).as_posix(): path.read_bytes()
            for path in photos.rglob("*")
            if path.is_file()
        }

    return files


def test_sidecars_are_written_by_default_and_undo_removes_them(run, preset, photos, files):
    before = files()
    result = run("album", photos, "--preset", preset)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "3 photographs: 3 written" in result.stderr
    packet = read_packet((photos / "blue.png.xmp").read_bytes())
    assert set(packet.keywords.flat) == {"blue", "picture"}
    assert {tag.model for tag in packet.machine_tags} == {"colours"}
    result = run("undo", photos)
    assert result.exit_code == 0
    assert "3 steps undone" in result.stderr
    assert files() == before


def test_several_writers_with_options_and_a_file_of_their_own(run, preset, photos, tmp_path):
    result = run(
        "album", photos, "--preset", preset, "--embed", "--write", "xmp", "--write", "txt",
        "--write", f"csv={tmp_path / 'table.csv'}", "--writer-set", "txt.content=caption",
        "--writer-set", "csv.layout=image_tags", "--quiet",
    )  # fmt: skip
    assert (result.exit_code, result.stderr) == (0, "")
    assert not list(photos.rglob("*.xmp"))
    assert (photos / "blue.txt").read_text() == "a blue picture\n"
    assert (tmp_path / "table.csv").read_text().splitlines()[1] == "photos/a red.png,red; picture"


def test_a_dry_run_names_a_description_without_tags_and_not_one_that_is_there(run, preset, photos, tmp_path):
    (tmp_path / "none.toml").write_text('deny = ["*"]\n')
    run("album", photos, "--preset", preset, "--rules", tmp_path / "none.toml")
    first = run("undo", photos, "--dry-run").stdout.splitlines()
    assert 'would undo: adds to blue.png.xmp: description "a blue picture"' in first
    again = run("album", photos, "--preset", preset, "--dry-run").stdout.splitlines()
    assert "blue.png: adds to blue.png.xmp: blue, picture" in again


def test_quiet_leaves_the_warnings(run, preset, photos):
    (photos / "blue.png").chmod(0o444)
    result = run("album", photos, "--preset", preset, "--embed", "--quiet")
    (line,) = result.stderr.splitlines()
    assert "tags go to a sidecar, not into the file: it is read-only." in line


def test_undo_of_a_folder_that_is_not_there_names_it(run, tmp_path):
    result = run("undo", tmp_path / "typo")
    assert result.exit_code == 2
    assert f"there is no folder '{tmp_path / 'typo'}'" in result.stderr


def test_a_dry_run_prints_and_writes_nothing(run, preset, photos, files):
    before = files()
    result = run("album", photos, "--preset", preset, "--dry-run", "--write", "xmp", "--write", "rename")
    assert result.exit_code == 0
    adds = 'blue.png: adds to blue.png.xmp: blue, picture; description "a blue picture"'
    assert adds in result.stdout.splitlines()
    assert "blue.png: renames blue.png to blue, picture.png" in result.stdout.splitlines()
    assert files() == before


def test_ndjson_has_one_object_per_photograph_that_was_done(run, preset, photos):
    (photos / "bad.png").touch()
    result = run("album", photos, "--preset", preset, "--ndjson")
    rows = {row["file"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert result.exit_code == 1
    assert rows["blue.png"]["status"] == "written"
    assert [tag["text"] for tag in rows["blue.png"]["tags"]] == ["blue", "picture"]
    assert rows["bad.png"]["status"] == "failed"
    assert len([line for line in result.stderr.splitlines() if "bad.png" in line]) == 1
    assert run("album", photos, "--preset", preset, "--ndjson").stdout.count("\n") == 1  # the bad one


def test_a_plan_is_edited_and_applied(run, preset, photos, tmp_path):
    plan = tmp_path / "plan.jsonl"
    assert run("album", photos, "--preset", preset, "--plan", plan).exit_code == 0
    assert not list(photos.rglob("*.xmp"))
    plan.write_text(plan.read_text().replace('"text": "blue"', '"text": "azure"'))
    applied = run("apply", plan)
    assert (applied.exit_code, "3 photographs in the plan" in applied.stderr) == (0, True)
    assert set(read_packet((photos / "blue.png.xmp").read_bytes()).keywords.flat) == {"azure", "picture"}
    plan.write_text(plan.read_text().replace('"caption": "a blue picture"', '"caption": 3'))
    result = run("apply", plan)
    assert result.exit_code == 2
    assert "line 3, field 'caption'" in result.stderr


def test_thresholds_show_what_each_cut_would_leave(run, preset, photos):
    result = run("thresholds", photos, "--preset", preset, "--at", "0.2", "--at", "0.3")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert lines[0] == "3 photographs"
    assert lines[3].split()[:4] == ["0.200", "3", "1.0", "3"]
    assert lines[4].split()[:5] == ["0.300", "1", "0.3", "1", "red"]


def test_thresholds_as_json_choose_their_own_cuts(run, preset, photos):
    result = run("thresholds", photos, "--preset", preset, "--format", "json")
    cuts = json.loads(result.stdout)["cuts"]
    assert cuts[0]["tags"] == 6
    assert [cut["tags"] for cut in cuts] == sorted((cut["tags"] for cut in cuts), reverse=True)


def test_a_zip_archive_gives_tables_and_is_not_written_into(run, preset, photos, tmp_path):
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for path in sorted(photos.rglob("*.png")):
            zipped.write(path, path.relative_to(photos))
        zipped.write(photos / "blue.png", "__MACOSX/blue.png")
    result = run("album", archive, "--preset", preset, "--write", "jsonl", "--exclude", "a*")
    rows = [json.loads(line) for line in (tmp_path / "metadata.jsonl").read_text().splitlines()]
    assert result.exit_code == 0
    assert [row["caption"] for row in rows] == ["a blue picture", "a green picture"]
    assert "cannot write into an archive" in run("album", archive, "--preset", preset).stderr


def test_globs_and_lists_on_stdin_name_photographs(run, preset, photos):
    assert run("album", photos / "**" / "*.png", "--preset", preset).exit_code == 0
    assert len(list(photos.rglob("*.xmp"))) == 3
    run("undo", photos)
    listed = f"{photos / 'blue.png'}\n".encode()
    assert run("album", "-", "--preset", preset, stdin=listed).exit_code == 0
    assert [path.name for path in photos.rglob("*.xmp")] == ["blue.png.xmp"]


def test_include_and_exclude_choose(run, preset, photos):
    run("album", photos, "--preset", preset, "--include", "*e*.png", "--exclude", "more")
    assert sorted(path.name for path in photos.rglob("*.xmp")) == ["a red.png.xmp", "blue.png.xmp"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--write", "xnp"], "Did you mean 'xmp'?"),
        (["--writer-set", "xmp.embd=true"], "Did you mean 'embed'?"),
        (["--writer-set", "txt.mode=skip"], "unknown writer of this run"),
        (["--write", "csv="], "a file must follow the ="),
        (["--write", "txt", "--embed"], "--embed needs --write xmp"),
        (["--rules", "none.toml"], "none.toml"),
        (["--dry-run", "--plan", "plan.jsonl"], "choose one"),
        (["--include", "*.gif"], "no image found"),
    ],
)
def test_what_cannot_run_ends_with_code_2_and_says_why(run, preset, photos, files, arguments, said):
    before = files()
    result = run("album", photos, "--preset", preset, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert files() == before


def test_an_album_without_photographs_ends_the_run_and_begins_no_state(run, preset, tmp_path):
    (tmp_path / "empty").mkdir()
    result = run("album", tmp_path / "empty", "--preset", preset)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no image found" in result.stderr
    assert not (tmp_path / "state").exists()


def test_an_album_whose_disk_is_not_mounted_keeps_its_state(run, preset, photos, tmp_path):
    run("album", photos, "--preset", preset)
    [state] = (tmp_path / "state").iterdir()
    kept = {file: file.read_bytes() for file in state.iterdir() if file.is_file()}
    photos.rename(tmp_path / "unmounted")
    photos.mkdir()
    result = run("album", photos, "--preset", preset, "--adopt")
    assert result.exit_code == 2
    assert "no image found" in result.stderr
    assert {file: file.read_bytes() for file in state.iterdir() if file.is_file()} == kept


def test_a_state_folder_that_cannot_be_made_ends_the_run_before_anything_is_done(run, preset, photos, files):
    before = files()
    result = run("album", photos, "--preset", preset, "--state", photos / "blue.png" / "state")
    assert result.exit_code == 2
    assert "cannot write the run's journal" in result.stderr
    assert files() == before


def test_undo_where_nothing_was_done_says_so(run, photos):
    result = run("undo", photos)
    assert result.exit_code == 2
    assert "nothing can be undone" in result.stderr


@pytest.mark.slow
def test_ctrl_c_stops_after_what_is_in_hand_and_the_next_run_goes_on(start, run, preset, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(60):
        make_image(size=(8 + number, 8)).save(folder / f"{number:02}.png")
    options = ("--preset", preset, "--batch-size", "2", "--set", "name_colours.pause=0.3", "--ndjson")
    process = start("album", folder, *options)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 130
    assert b"Everything so far is safe" in stderr
    done = len(list(folder.glob("*.xmp")))
    assert 0 < done < 60
    result = run("album", folder, "--preset", preset, "--batch-size", "2", "--set", "name_colours.pause=0.0")
    assert result.exit_code == 0
    assert len(list(folder.glob("*.xmp"))) == 60


def test_what_is_left_and_what_is_away_is_said_and_exits_with_one(run, preset, photos, tmp_path):
    run("album", photos, "--preset", preset, "--write", "csv", "--write", "xmp")
    (photos / "tags.csv").write_text("edited")
    result = run("undo", photos)
    assert result.exit_code == 1
    assert "tags.csv: another program changed it since, so it stays unchanged" in result.stderr
    assert "3 steps undone" in result.stderr
    (photos / "tags.csv").unlink()
    assert run("undo", photos).exit_code == 0


def test_a_state_of_another_album_is_refused_and_adopted(run, preset, photos, tmp_path):
    run("album", photos, "--preset", preset)
    [state] = (tmp_path / "state").iterdir()
    shutil.copytree(photos, tmp_path / "copy")
    result = run("undo", tmp_path / "copy", "--state", state)
    assert result.exit_code == 2
    assert "--adopt" in result.stderr
    assert run("undo", tmp_path / "copy", "--state", state, "--adopt").exit_code == 0
    assert not list((tmp_path / "copy").rglob("*.xmp"))
    assert list(photos.rglob("*.xmp"))


def test_what_somebody_wrote_during_a_run_is_said(run, preset, photos, monkeypatch):
    from autotag.albums import outputs

    own = outputs.digest_of

    def late(path):
        if path.name.startswith(".tags.csv") and not (photos / "tags.csv").exists():
            (photos / "tags.csv").write_text("mine")
        return own(path)

    monkeypatch.setattr(outputs, "digest_of", late)
    result = run("album", photos, "--preset", preset, "--write", "csv")
    assert result.exit_code == 0
    assert "tags.csv: another program changed it, so it is not overwritten" in result.stderr
    assert f"wrote {photos / 'tags (2).csv'}" in result.stderr
    assert (photos / "tags.csv").read_text() == "mine"


def test_links_to_folders_are_named_once_or_followed(run, preset, photos, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    make_image("green").save(elsewhere / "far.png")
    (photos / "link").symlink_to(elsewhere)
    rules = tmp_path / "rules.toml"
    rules.write_text("prefer_my_keywords = true\n")  # for which the album is listed once more
    result = run("album", photos, "--preset", preset, "--rules", rules)
    named = [line for line in result.stderr.splitlines() if "a link to a folder" in line]
    assert len(named) == 1
    assert str(photos / "link") in named[0]
    assert "--follow-symlinks" in named[0]
    assert not list(elsewhere.glob("*.xmp"))
    result = run("album", photos, "--preset", preset, "--rules", rules, "--follow-symlinks", "--dry-run")
    assert result.exit_code == 0
    assert "a link to a folder" not in result.stderr
    assert "link/far.png" in result.stdout


def test_what_is_written_where_links_lead_is_taken_back_from_there(run, preset, photos, tmp_path, files):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    make_image("green").save(elsewhere / "far.png")
    (photos / "link").symlink_to(elsewhere)
    before = files()
    assert run("album", photos, "--preset", preset, "--follow-symlinks").exit_code == 0
    assert (elsewhere / "far.png.xmp").exists()
    assert run("undo", photos).exit_code == 0
    assert files() == before
    assert [path.name for path in elsewhere.iterdir()] == ["far.png"]


@pytest.mark.parametrize("inside", [["--state", ".autotag"], ["--plan", "plan.jsonl"]])
def test_what_others_may_have_written_leads_nowhere_out_of_the_album(
    run, preset, photos, tmp_path, monkeypatch, inside
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    make_image("green").save(elsewhere / "far.png")
    (photos / "link").symlink_to(elsewhere)
    monkeypatch.chdir(photos)
    result = run("album", photos, "--preset", preset, "--follow-symlinks", *inside)
    assert result.exit_code == 1
    assert "outside the album, or a link leads out of the album; nothing is written" in result.stderr
    assert [path.name for path in elsewhere.iterdir()] == ["far.png"]


def test_files_that_end_too_early_are_read_on_request(run, preset, photos):
    file = photos / "blue.png"
    make_image("blue", (640, 480)).save(file.with_suffix(".jpg"))
    cut = file.with_suffix(".jpg")
    cut.write_bytes(cut.read_bytes()[:-200])
    assert run("album", photos, "--preset", preset).exit_code == 1
    result = run("album", photos, "--preset", preset, "--allow-truncated")
    assert result.exit_code == 0
    assert "1 photograph to tag, 3 unchanged" in result.stderr
    assert cut.with_name("blue.jpg.xmp").exists()


def test_rules_add_a_keyword_and_a_parent(run, preset, photos, tmp_path):
    rules = tmp_path / "rules.toml"
    rules.write_text('always = ["autotag"]\nparent = "AI"\n')
    assert run("album", photos, "--preset", preset, "--rules", rules).exit_code == 0
    packet = read_packet((photos / "blue.png.xmp").read_bytes())
    assert {"autotag", "blue", "picture"} <= set(packet.keywords.flat)
    assert ("AI", "blue") in packet.keywords.paths
