"""``autotag tag`` end to end, with a stage that needs no weights."""

from __future__ import annotations

import json
import os
import pty
import signal
import sys
import time
from pathlib import Path

import pytest

from autotag.cli.tag import results_to
from autotag.records import Result
from autotag.testing import make_image
from autotag.writers.json_writer import JsonWriter
from autotag.writers.parquet_writer import ParquetWriter, read_parquet


def _rows(text: str | bytes) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def _names(rows: list[dict]) -> list[str]:
    return [Path(row["source"]).name for row in rows]


def _many(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        make_image(size=(8, 8)).save(folder / f"{number:03}.png")
    return folder


def _terminal_text(master: int) -> str:
    """Everything a program writes to a terminal until it ends."""
    chunks = []
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError:  # Linux says EIO where others give an empty read
            break
        if not chunk:
            break
        chunks.append(chunk)
    os.close(master)
    return b"".join(chunks).decode()


def test_a_folder_is_searched_and_each_image_gives_one_line_of_jsonl(run, preset, photos):
    result = run("tag", photos, "--preset", preset, "--format", "jsonl")
    rows = _rows(result.stdout)
    assert result.exit_code == 0
    assert _names(rows) == ["a red.png", "blue.png", "green.png"]
    assert rows[0]["caption"] == "a red picture"
    assert [tag["text"] for tag in rows[0]["tags"]] == ["red", "picture"]


def test_json_is_one_array(run, preset, photos):
    result = run("tag", photos, "--preset", preset, "--format", "json")
    assert _names(json.loads(result.stdout)) == ["a red.png", "blue.png", "green.png"]


def test_the_table_is_the_default_and_shows_file_caption_tags_and_prompt(run, preset, photos):
    result = run("tag", photos / "blue.png", "--preset", preset)
    for text in ("blue.png", "48 x 32", "a blue picture", "blue 0.25", "blue, picture"):
        assert text in result.stdout
    assert "\x1b" not in result.stdout


def test_results_go_to_stdout_and_the_summary_to_stderr(run, preset, photos):
    result = run("tag", photos, "--preset", preset, "--format", "jsonl")
    assert len(_rows(result.stdout)) == 3
    assert "3 images" in result.stderr


def test_quiet_leaves_stderr_empty(run, preset, photos):
    assert run("tag", photos, "--preset", preset, "--quiet").stderr == ""


def test_a_bad_image_costs_one_line_and_a_record_and_exit_code_1(run, preset, photos):
    (photos / "empty.png").touch()
    result = run("tag", photos, "--preset", preset, "--format", "jsonl", "--quiet")
    rows = _rows(result.stdout)
    assert result.exit_code == 1
    assert _names(rows) == ["a red.png", "blue.png", "empty.png", "green.png"]
    assert [bool(row["error"]) for row in rows] == [False, False, True, False]
    assert len(result.stderr.splitlines()) == 1
    assert "empty.png" in result.stderr


def test_a_bad_image_is_visible_in_the_table(run, preset, photos):
    (photos / "empty.png").touch()
    result = run("tag", photos / "empty.png", photos / "blue.png", "--preset", preset)
    assert "error" in result.stdout
    assert "empty.png" in result.stdout
    assert "a blue picture" in result.stdout


def test_a_stage_that_fails_on_one_image_costs_one_line_whatever_it_says(run, preset, photos):
    settings = ("--set", "name_colours.refuse=blue")
    result = run("tag", photos, "--preset", preset, "--format", "jsonl", "--quiet", *settings)
    assert result.exit_code == 1
    assert [bool(row["error"]) for row in _rows(result.stdout)] == [False, True, False]
    assert len(result.stderr.splitlines()) == 1
    assert r"no colour\nfor" in result.stderr


def test_a_missing_file_among_others_is_a_bad_image(run, preset, photos):
    paths = (photos / "gone.png", photos / "blue.png")
    result = run("tag", *paths, "--preset", preset, "--format", "jsonl")
    assert result.exit_code == 1
    assert [bool(row["error"]) for row in _rows(result.stdout)] == [True, False]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["gone.png"], "no such file"),
        (["empty"], "no image found in empty"),
        (["photos", "--preset", "bse"], "Did you mean 'base'?"),
        (["photos", "--preset", "gone.toml"], "gone.toml"),
        (["photos", "--set", "name_colours.topk=2"], "Did you mean 'top_k'?"),
        (["photos", "--set", "name_colour.top_k=2"], "Did you mean 'name_colours'?"),
        (["photos", "--set", "name_colours.top_k=two"], "a whole number"),
        (["photos", "--set", "top_k"], "stage.option=value"),
        (["photos", "--set", "device.top_k=2"], "unknown stage"),
        (["photos", "--format", "jsnl"], "Did you mean 'jsonl'?"),
        (["photos", "--device", "gpu"], "unknown device 'gpu'"),
        (["photos", "--batch-size", "0"], "0 is not in the range"),
        (["photos", "http://example.com/a.png"], "--allow-urls"),
        (["photos", "--output", "empty"], "is a folder"),
        (["photos", "--output", "gone/out.json"], "there is no folder 'gone'"),
        (["photos", "--output", "photos/blue.png"], "is an image"),
        (["photos", "--output", "other.jpg"], "is an image"),
        (["photos", "--output", "link.json"], "is an image"),
        (["photos", "--output", "new.jpg"], "unknown suffix of --output without --format: 'jpg'"),
        (["photos", "--output", "tags.xlsx"], "Known: coco, csv, json, jsonl, parquet, table, txt."),
        (["photos", "--output", "tags.josnl"], "Did you mean 'jsonl'?"),
    ],
)
def test_what_cannot_run_is_one_clear_line_and_exit_code_2(
    run, preset, photos, monkeypatch, arguments, wanted
):
    monkeypatch.chdir(photos.parent)
    Path("empty").mkdir()
    Path("other.jpg").write_bytes(b"a photograph that is not to be tagged")
    Path("link.json").symlink_to("photos/blue.png")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    result = run("tag", "--preset", preset, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert wanted in result.stderr
    assert "Traceback" not in result.stderr
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_missing_weights_are_one_clear_line_within_seconds(run, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    result = run("tag", photos)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    for words in ("autotag: error:", "'blip-base'", "990 MB", "mini"):
        assert words in result.stderr


def test_a_stage_that_always_fails_is_said_once_and_ends_the_run(run, preset, photos):
    settings = ("--set", "name_colours.refuse=png")
    result = run("tag", photos, "--preset", preset, "--format", "jsonl", *settings)
    assert result.exit_code == 2
    assert "the stage is broken" in result.stderr
    assert len(_rows(result.stdout)) == 3


def test_set_changes_an_option(run, preset, photos):
    settings = ("--set", "name_colours.top_k=1")
    result = run("tag", photos, "--preset", preset, "--format", "jsonl", *settings)
    assert [len(row["tags"]) for row in _rows(result.stdout)] == [1, 1, 1]


@pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"\0"])
def test_paths_come_from_stdin_by_lines_or_by_nul(run, preset, photos, separator):
    listed = separator.join(os.fsencode(photos / name) for name in ("blue.png", "a red.png")) + separator
    result = run("tag", "-", "--preset", preset, "--format", "jsonl", stdin=listed)
    assert _names(_rows(result.stdout)) == ["blue.png", "a red.png"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are text")
@pytest.mark.parametrize("format_name", ["jsonl", "json", "table"])
def test_odd_file_names_come_out_whole(start, preset, tmp_path, format_name):
    folder = tmp_path / "odd"
    folder.mkdir()
    names = [b" spaced .png", b"caf\xe9.png", b"two\nlines.png", "été ☀.png".encode()]
    paths = [os.fsencode(folder) + b"/" + name for name in names]
    for path in paths:
        make_image("blue").save(os.fsdecode(path), format="png")
    for arguments in ([folder], map(os.fsdecode, paths)):
        with start("tag", *arguments, "--preset", preset, "--format", format_name, "--quiet") as process:
            out, err = process.communicate()
        assert (process.returncode, err) == (0, b"")
        text = out.decode("utf-8")
        if format_name == "table":
            assert len(text.split("\n\n")) == len(names)
            assert all(
                name in text for name in ("/ spaced .png", r"/caf\xe9.png", r"/two\nlines.png", "/été ☀.png")
            )
        else:
            rows = json.loads(text) if format_name == "json" else _rows(text)
            assert sorted(os.fsencode(row["source"]) for row in rows) == sorted(paths)


def test_output_takes_its_format_from_the_suffix(run, preset, photos, tmp_path):
    for name, read in ("out.jsonl", _rows), ("out.json", json.loads), ("other.JSON", json.loads):
        result = run("tag", photos, "--preset", preset, "--output", tmp_path / name)
        assert (result.exit_code, result.stdout) == (0, "")
        assert len(read((tmp_path / name).read_text())) == 3
    run("tag", photos, "--preset", preset, "--output", tmp_path / "out.txt")
    assert "a blue picture" in (tmp_path / "out.txt").read_text()
    run("tag", photos, "--preset", preset, "--format", "jsonl", "--output", tmp_path / "out.json")
    assert len(_rows((tmp_path / "out.json").read_text())) == 3


def test_a_file_that_autotag_did_not_write_is_replaced_only_with_overwrite(run, preset, photos, tmp_path):
    output = tmp_path / "out.jsonl"
    command = ("tag", photos, "--preset", preset, "--output", output)
    output.write_text("somebody's notes")
    refused = run(*command)
    assert refused.exit_code == 2
    assert "exists, and autotag did not write this version" in refused.stderr
    assert "--overwrite" in refused.stderr
    assert output.read_text() == "somebody's notes"
    assert run(*command, "--overwrite").exit_code == 0
    assert run(*command).exit_code == 0, "a file as autotag left it is autotag's"
    output.write_text(output.read_text() + "a line of mine\n")
    assert run(*command).exit_code == 2
    assert output.read_text().endswith("a line of mine\n")


def test_a_file_that_ends_too_early_is_read_on_request_and_its_result_says_so(run, preset, tmp_path):
    file = tmp_path / "cut.jpg"
    make_image("red", (640, 480)).save(file)
    file.write_bytes(file.read_bytes()[:-200])
    command = ("tag", file, "--preset", preset, "--format", "jsonl", "-q")
    refused = run(*command)
    assert refused.exit_code == 1
    assert "--allow-truncated" in refused.stderr
    [row] = _rows(run(*command, "--allow-truncated").stdout)
    assert (row["error"], row["extras"]["truncated"]) == (None, True)


def test_a_link_to_a_folder_is_named_or_followed(run, preset, photos, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    make_image("green").save(elsewhere / "far.png")
    (photos / "link").symlink_to(elsewhere)
    command = ("tag", photos, "--preset", preset, "--format", "jsonl")
    left_out = run(*command)
    assert f"left out {photos / 'link'}: a link to a folder" in left_out.stderr
    assert len(_rows(left_out.stdout)) == 3
    followed = run(*command, "--follow-symlinks")
    assert "a link to a folder" not in followed.stderr
    assert len(_rows(followed.stdout)) == 4


def test_max_pixels_are_as_the_command_line_says(run, preset, photos):
    command = ("tag", photos / "blue.png", "--preset", preset, "-q")
    refused = run(*command, "--max-pixels", 100)
    assert refused.exit_code == 1
    assert "48 x 32 pixels are more than max_pixels=100" in refused.stderr
    assert run(*command, "--max-pixels", 48 * 32).exit_code == 0


def test_a_name_that_turns_the_direction_of_text_reaches_the_terminal_as_an_escape(run, preset, tmp_path):
    name = "photo\u202egpj.exe.png"
    (tmp_path / name).write_bytes(b"nothing")
    make_image("red").save(tmp_path / "\u2066red.png")
    for format_name in ("table", "jsonl", "json"):
        result = run("tag", tmp_path, "--preset", preset, "--format", format_name)
        assert "\u202e" not in result.output
        assert "\u2066" not in result.output
        assert r"photo\u202egpj.exe" in result.stderr


def test_a_run_that_cannot_start_leaves_the_former_output_alone(run, preset, photos, tmp_path, monkeypatch):
    for name in ("out.json", "out.jsonl"):
        (tmp_path / name).write_text("former")
        broken = preset.with_name("broken.toml")
        broken.write_text('[[stages]]\nstage = "colour_stages:BreaksOnSetup"\n')
        run("tag", photos, "--preset", broken, "--output", tmp_path / name)
        assert (tmp_path / name).read_text() == "former"


@pytest.fixture
def writing(tmp_path):
    """Opens a file whose earlier content is ``former`` for the results of a writer."""

    def writing(make_writer):
        (tmp_path / "out").write_bytes(b"former")
        return results_to(tmp_path / "out", make_writer)

    return writing


@pytest.mark.parametrize("make_writer", [JsonWriter, ParquetWriter])
def test_a_stopped_run_leaves_the_former_output_or_a_whole_one(writing, tmp_path, make_writer):
    with pytest.raises(KeyboardInterrupt), writing(make_writer) as take:
        _stop_after(take)
    assert (tmp_path / "out").read_bytes() == b"former"
    with pytest.raises(KeyboardInterrupt), writing(make_writer) as take:
        _stop_after(take, "a.jpg")
    read = {JsonWriter: _read_json, ParquetWriter: _read_parquet}[make_writer]
    assert read(tmp_path / "out") == ["a.jpg"]
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def _stop_after(take, *sources):
    for source in sources:
        take(Result(source, (4, 3)))
    raise KeyboardInterrupt


def _read_json(file):
    return [row["source"] for row in json.loads(file.read_text())]


def _read_parquet(file):
    return [result.source for result in read_parquet(file)]


@pytest.mark.parametrize("part", ["write", "close"])
def test_an_output_whose_writer_fails_leaves_the_former_one(writing, tmp_path, part):
    class Broken(JsonWriter):
        """Fails after the first result."""

        def write(self, result, /):
            super().write(result)
            if part == "write" and result.source == "b.jpg":
                raise KeyboardInterrupt  # a second Ctrl-C

        def close(self):
            raise ZeroDivisionError

    with pytest.raises((KeyboardInterrupt, ZeroDivisionError)), writing(Broken) as take:
        _stop_after(take, "a.jpg", "b.jpg")
    assert (tmp_path / "out").read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_extras_that_are_no_plain_data_name_the_image_and_the_field(run, preset, photos):
    settings = ("--set", "name_colours.plain_extras=false")
    result = run("tag", photos, "--preset", preset, "--format", "jsonl", *settings)
    assert result.exit_code == 2
    assert "a red.png" in result.stderr
    assert "'area'" in result.stderr


def test_a_folder_that_cannot_be_listed_is_a_warning(run, preset, photos, caplog):
    (photos / "loop.png").symlink_to("nowhere.png")
    result = run("tag", photos, "--preset", preset, "--quiet", "--format", "jsonl")
    assert result.exit_code == 0
    assert "autotag: warning: left out" in result.stderr
    assert len(_rows(result.stdout)) == 3


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_whole_lines(start, preset, tmp_path):
    settings = ("--batch-size", 1, "--set", "name_colours.pause=0.05")
    with start(
        "tag", _many(tmp_path / "many", 200), "--preset", preset, "--format", "jsonl", *settings
    ) as run:
        first = run.stdout.readline()
        run.send_signal(signal.SIGINT)
        rest, err = run.stdout.read(), run.stderr.read()
    assert run.returncode == 130
    assert b"autotag: interrupted" in err
    assert b"Traceback" not in err
    assert 1 <= len(_rows(first + rest)) < 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("out.json", signal.SIGINT),
        ("out.jsonl", signal.SIGINT),
        ("out.json", signal.SIGTERM),
        ("out.json", signal.SIGHUP),
    ],
)
def test_a_signal_leaves_an_output_file_with_what_was_finished(start, preset, tmp_path, name, number):
    folder, output = _many(tmp_path / "many", 200), tmp_path / name
    settings = ("--batch-size", 1, "--set", "name_colours.pause=0.05")
    command = ("tag", folder, "--preset", preset, "--output", output, *settings)
    with start(*command, preexec_fn=_hear_hang_ups) as run:
        _wait_for_bytes(tmp_path)
        run.send_signal(number)
        run.communicate(timeout=600)
    assert run.returncode == 128 + number
    text = output.read_text()
    assert 1 <= len(json.loads(text) if name == "out.json" else _rows(text)) < 200
    assert not list(tmp_path.glob(".*part"))


def _hear_hang_ups():
    """Undoes what nohup does to the tests; the command itself goes on under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.slow
def test_kill_9_keeps_every_line_whole(start, preset, tmp_path):
    folder, output = _many(tmp_path / "many", 200), tmp_path / "out.jsonl"
    settings = ("--batch-size", 1, "--set", "name_colours.pause=0.05")
    with start("tag", folder, "--preset", preset, "--output", output, *settings) as run:
        _wait_for_bytes(tmp_path)
        run.kill()
    assert 1 <= len(_rows(output.read_text())) < 200


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_the_run_quietly(start, preset, tmp_path):
    settings = ("--batch-size", 1, "--set", "name_colours.pause=0.01", "--quiet")
    with start(
        "tag", _many(tmp_path / "many", 50), "--preset", preset, "--format", "jsonl", *settings
    ) as run:
        assert len(_rows(run.stdout.readline())) == 1
        run.stdout.close()
        assert run.stderr.read() == b""
        assert run.wait(timeout=600) == 141


@pytest.mark.slow
def test_a_terminal_shows_progress_on_stderr_and_results_alone_on_stdout(start, preset, photos):
    master, slave = pty.openpty()
    with start("tag", photos, "--preset", preset, "--format", "jsonl", stderr=slave) as run:
        os.close(slave)
        shown = _terminal_text(master)
        assert len(_rows(run.stdout.read())) == 3
    assert "3/3" in shown
    assert "per second" in shown


@pytest.mark.slow
def test_quiet_shows_no_progress_on_a_terminal(start, preset, photos):
    master, slave = pty.openpty()
    with start("tag", photos, "--preset", preset, "--format", "jsonl", "--quiet", stderr=slave) as run:
        os.close(slave)
        assert _terminal_text(master) == ""
        assert len(_rows(run.stdout.read())) == 3


@pytest.mark.slow
def test_the_output_may_be_a_device(start, preset, photos):
    with start("tag", photos, "--preset", preset, "--format", "json", "--output", "/dev/stdout") as run:
        assert len(json.loads(run.communicate()[0])) == 3


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has this device")
@pytest.mark.parametrize("format_name", ["table", "json", "jsonl", "csv", "parquet"])
def test_an_output_without_space_is_one_line_and_exit_code_2(start, preset, photos, format_name):
    arguments = ("tag", photos, "--preset", preset, "--quiet", "--format", format_name)
    for place, options in (("stdout", {}), ("'/dev/full'", {"--output": "/dev/full"})):
        with Path("/dev/full").open("wb") as full:
            named = [word for pair in options.items() for word in pair]
            with start(*arguments, *named, stdout=full) as run:
                err = run.stderr.read().decode()
        assert run.returncode == 2
        assert err == f"autotag: error: cannot write {place}: No space left on device.\n"


def _wait_for_bytes(folder: Path) -> None:
    """Until a results file in the folder, or the hidden one beside it, has something in it."""
    for _ in range(1000):
        if any(file.stat().st_size for file in folder.glob("*out.json*")):
            return
        time.sleep(0.01)
    raise AssertionError("nothing was written within 10 s")


def test_stats_show_each_part_and_what_binds(run, preset, photos):
    (photos / "empty.png").touch()
    result = run("tag", photos, "--preset", preset, "--format", "jsonl", "--quiet", "--stats")
    assert len(_rows(result.stdout)) == 4
    _, heading, *lines, total = result.stderr.splitlines()
    assert heading.split()[:4] == ["part", "thread", "images", "seconds"]
    assert [line.split()[:3] for line in lines] == [
        ["read", "reading", "4"],
        ["name_colours", "consumer", "3"],
        ["consumer", "consumer", "4"],
    ]
    assert total.startswith("4 images, 1 failed, ")
    assert "; bound by " in total


def test_without_stats_there_is_no_table(run, preset, photos):
    assert "reading" not in run("tag", photos, "--preset", preset).stderr
