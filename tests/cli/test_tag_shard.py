"""``autotag tag --shard`` and ``--format parquet``, end to end."""

from __future__ import annotations

import io
import signal
import sys
import time
from pathlib import Path

import pytest

from autotag.distributed.shards import read_shards
from autotag.testing import make_image
from autotag.writers.parquet_writer import read_parquet


def _captions(results) -> dict[str, str]:
    return {Path(result.source).name: result.caption for result in results}


ALL = {"a red.png": "a red picture", "blue.png": "a blue picture", "green.png": "a green picture"}


def test_all_shards_together_tag_every_image_once(run, preset, photos, tmp_path):
    for number in (1, 2, 3):
        result = run(
            "tag", photos, "--preset", preset, "--shard", f"{number}/3", "--output", tmp_path / "tags"
        )
        assert (result.exit_code, result.stdout) == (0, "")
    results = list(read_shards(tmp_path / "tags"))
    assert len(results) == 3
    assert _captions(results) == ALL


def test_the_same_command_again_does_what_is_missing_and_says_so(run, preset, photos, tmp_path):
    command = ("tag", photos, "--preset", preset, "--shard", "1/1", "--output", tmp_path / "tags")
    assert "3 images" in run(*command).stderr
    assert "3 done before; 0 to do" in run(*command).stderr
    make_image("white").save(photos / "white.png")
    assert "3 done before; 1 to do" in run(*command).stderr
    assert _captions(read_shards(tmp_path / "tags")) == {**ALL, "white.png": "a white picture"}


def test_images_with_errors_are_tried_again_on_request(run, preset, photos, tmp_path):
    (photos / "late.png").touch()
    command = ("tag", photos, "--preset", preset, "--shard", "1/1", "--output", tmp_path / "tags")
    assert run(*command).exit_code == 1
    make_image("black").save(photos / "late.png")
    again = run(*command)
    assert (again.exit_code, _captions(read_shards(tmp_path / "tags"))["late.png"]) == (0, "")
    assert "4 done before, 1 of them with an error; 0 to do" in again.stderr
    assert run(*command, "--retry-errors").exit_code == 0
    assert _captions(read_shards(tmp_path / "tags")) == {**ALL, "late.png": "a black picture"}


def test_a_result_that_cannot_be_stored_is_a_row_with_its_error(run, preset, photos, tmp_path):
    settings = ("--set", "name_colours.plain_extras=false")
    result = run(
        "tag", photos, "--preset", preset, *settings, "--shard", "1/1", "--output", tmp_path / "tags"
    )
    assert result.exit_code == 1
    assert result.stderr.count("'area' must write plain data") == 3
    assert all("must write plain data" in row.error for row in read_shards(tmp_path / "tags"))


def test_a_run_that_cannot_begin_leaves_no_folder(run, photos, tmp_path):
    preset = tmp_path / "missing.toml"
    preset.write_text(
        'encoder = "none"\n[[stages]]\nstage = "caption_images"\nmodel = "remote:http://127.0.0.1:9/c#retries=0"\n'
    )
    tags = tmp_path / "tags"
    result = run("tag", photos, "--preset", preset, "--shard", "1/1", "--output", tags)
    assert (result.exit_code, "cannot be reached" in result.stderr) == (2, True)
    assert not tags.exists()


def test_a_folder_of_shards_is_not_called_like_a_file(run, preset, photos, tmp_path):
    for name in ("tags.jsonl", "tags.TXT", "tags.parquet"):
        result = run("tag", photos, "--preset", preset, "--shard", "1/1", "--output", tmp_path / name)
        assert (result.exit_code, "name a folder" in result.stderr) == (2, True), name
        assert not (tmp_path / name).exists()


def test_another_preset_in_the_same_folder_is_refused(run, preset, photos, tmp_path):
    command = ("tag", photos, "--preset", preset, "--shard", "1/1", "--output", tmp_path / "tags")
    run(*command)
    result = run(*command, "--set", "name_colours.top_k=1")
    assert result.exit_code == 2
    assert "NameColours.top_k was None and is 1. Use the same settings" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--shard", "1/2"], "--shard and --engine ray need --output"),
        (["--shard", "3/2", "--output", "tags"], "shard 3/2 does not exist"),
        (["--shard", "one", "--output", "tags"], "such as 3/10"),
        (["--shard", "1/2", "--output", "tags", "--format", "jsonl"], "write parquet, not jsonl"),
        (["--shard", "1/2", "--output", "photos/blue.png"], "cannot use"),
        (["--retry-errors", "--output", "tags"], "--retry-errors needs --shard"),
    ],
)
def test_options_that_do_not_go_together_are_refused(run, preset, photos, monkeypatch, arguments, wanted):
    monkeypatch.chdir(photos.parent)
    result = run("tag", "photos", "--preset", preset, *arguments)
    assert result.exit_code == 2
    assert wanted in result.stderr
    assert not Path("tags").exists()


def test_without_pyarrow_the_command_that_installs_it_is_named_before_any_work(
    run, preset, photos, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for arguments in (
        ["--shard", "1/1", "--output", tmp_path / "tags"],
        ["--output", tmp_path / "x.parquet"],
    ):
        result = run("tag", photos, "--preset", preset, *arguments)
        assert result.exit_code == 2
        assert "pip install 'autotag-images[parquet]'" in result.stderr
    assert not (tmp_path / "tags").exists()
    assert not (tmp_path / "x.parquet").exists()


@pytest.mark.slow
def test_a_run_interrupted_with_ctrl_c_keeps_what_was_finished_and_is_completed(start, run, preset, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(40):
        make_image(size=(8, 8)).save(folder / f"{number:03}.png")
    slow = ("--batch-size", 1, "--set", "name_colours.pause=0.1")
    command = ("tag", folder, "--preset", preset, *slow, "--shard", "1/1", "--output", tmp_path / "tags")
    with start(*command) as process:
        while not (tmp_path / "tags").exists():
            assert process.poll() is None
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=600) == 130
    before = len(list(read_shards(tmp_path / "tags")))
    assert before < 40
    again = run(*command)
    assert again.exit_code == 0
    assert f"{40 - before} images in" in again.stderr
    assert len(list(read_shards(tmp_path / "tags"))) == 40


def test_parquet_is_a_format_like_others(run, preset, photos, tmp_path):
    result = run("tag", photos, "--preset", preset, "--output", tmp_path / "out.parquet")
    assert (result.exit_code, result.stdout) == (0, "")
    assert _captions(read_parquet(tmp_path / "out.parquet")) == ALL


@pytest.mark.slow
def test_parquet_goes_through_a_pipe(start, preset, photos):
    with start("tag", photos, "--preset", preset, "--format", "parquet", "--quiet") as process:
        out, err = process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert _captions(read_parquet(io.BytesIO(out))) == ALL


def test_images_in_tar_files_are_tagged_like_files(run, preset, photos, tmp_path):
    import tarfile

    with tarfile.open(tmp_path / "shard-000.tar", "w") as tar:
        tar.add(photos / "blue.png", "blue.png")
    tar_file = str(tmp_path / "shard-000.tar")
    alone = run("tag", tar_file, "--preset", preset, "--format", "jsonl")
    assert (alone.exit_code, f'"source": "{tar_file}/blue.png"' in alone.stdout) == (0, True)
    command = ("tag", tar_file, photos, "--preset", preset, "--shard", "1/1", "--output", tmp_path / "tags")
    assert run(*command).exit_code == 0
    assert len(list(read_shards(tmp_path / "tags"))) == 4
    assert "4 done before; 0 to do" in run(*command).stderr
    beside = run("tag", tar_file, tmp_path / "missing.jpg", "--preset", preset, "--format", "jsonl")
    assert (beside.exit_code, len(beside.stdout.splitlines())) == (1, 2)
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    empty = run("tag", tmp_path / "empty.tar", "--preset", preset)
    assert (empty.exit_code, "no image found in" in empty.stderr) == (2, True)
    refused = run("tag", tar_file, "--preset", preset, "--engine", "ray", "--output", tmp_path / "more")
    assert (refused.exit_code, "takes files and URLs, not tar files" in refused.stderr) == (2, True)


def test_options_of_clusters_need_a_cluster(run, preset, photos):
    result = run("tag", photos, "--preset", preset, "--actors", "2")
    assert (result.exit_code, "--actors needs --engine ray" in result.stderr) == (2, True)
