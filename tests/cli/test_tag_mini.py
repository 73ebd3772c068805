"""``autotag`` with the weights that come with it, as a user runs it: offline.

What depends on the process (a hub, a library that speaks up, signals, pipes) runs in one of its own.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
PHOTOS = sorted(EXAMPLES.glob("*.jpg"))


@pytest.fixture(autouse=True)
def _without_a_hub(monkeypatch, tmp_path):
    """No hub and an empty cache: whatever is needed has to come with the package."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def _rows(text: bytes) -> list[dict]:
    return [json.loads(line) for line in text.decode("utf-8").splitlines()]


def _many(folder: Path, count: int) -> Path:
    """One small photograph by many names."""
    folder.mkdir()
    with Image.open(PHOTOS[0]) as photo:
        photo.convert("RGB").resize((96, 96)).save(folder / "0000.jpg")
    for number in range(1, count):
        os.link(folder / "0000.jpg", folder / f"{number:04}.jpg")
    return folder


@pytest.mark.slow
def test_photographs_get_captions_scored_tags_and_a_prompt_and_stderr_one_line(start):
    """No library speaks up: no warning, no bar of its own."""
    with start("tag", EXAMPLES, "--preset", "mini", "--format", "jsonl") as process:
        out, err = process.communicate()
    rows = _rows(out)
    assert process.returncode == 0, err
    assert len(err.splitlines()) == 1, err
    assert [Path(row["source"]) for row in rows] == PHOTOS
    for row, photo in zip(rows, PHOTOS, strict=True):
        with Image.open(photo) as image:
            assert tuple(row["size"]) == image.size
        assert row["caption"]
        assert row["prompt"].startswith(row["caption"].rstrip(". "))
        scores = [tag["score"] for tag in row["tags"]]
        assert scores == sorted(scores, reverse=True)
        for tag in row["tags"]:
            assert tag["source"] in {"extract_keyphrases", "match_vocabulary"}
            assert {tag["source"], "filter_tags"} <= set(tag["scores"])
    assert sum(len(row["tags"]) for row in rows) >= len(rows)
    assert len({row["caption"] for row in rows}) > 1


@pytest.mark.slow
def test_the_table_is_for_people_and_all_that_a_quiet_run_says(start):
    keep_all = ("--set", "filter_tags.threshold=-1.0")
    with start("tag", PHOTOS[0], "--preset", "mini", "--quiet", *keep_all) as process:
        out, err = process.communicate()
    lines = out.decode("utf-8").splitlines()
    assert err == b""
    assert PHOTOS[0].name in lines[0]
    assert [line.split()[0] for line in lines[1:]] == ["caption", "tags", "prompt"]


@pytest.mark.slow
def test_bad_images_among_good_ones_cost_a_line_each_and_exit_code_1(run, tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "cut.jpg").write_bytes(PHOTOS[0].read_bytes()[:500])
    result = run("tag", tmp_path, PHOTOS[0], "--preset", "mini", "--format", "jsonl", "--quiet")
    assert result.exit_code == 1
    assert [bool(row["error"]) for row in _rows(result.stdout_bytes)] == [True, True, True, False]
    for name, line in zip(("cut.jpg", "empty.jpg", "text.jpg"), result.stderr.splitlines(), strict=True):
        assert name in line


@pytest.mark.slow
def test_set_takes_effect_in_every_stage(run):
    settings = ("filter_tags.threshold=-1.0", "filter_tags.top_k=1", "caption_images.max_new_tokens=2")
    options = [word for setting in settings for word in ("--set", setting)]
    rows = _rows(run("tag", EXAMPLES, "--preset", "mini", "--format", "jsonl", *options).stdout_bytes)
    assert max(len(row["tags"]) for row in rows) == 1
    assert max(len(row["caption"].split()) for row in rows) <= 2


@pytest.mark.slow
def test_several_captioners_write_and_the_image_chooses(run, tmp_path, tiny_git):
    preset = tmp_path / "ensemble.toml"
    preset.write_text(
        'encoder = "clip-mini"\n[[stages]]\nstage = "caption_images"\nmodel = "blip-mini"\n'
        '[[stages]]\nstage = "choose_caption"\n'
    )
    both = f'caption_images.model=["blip-mini", "{tiny_git}"]'
    options = (
        "--set",
        both,
        "--set",
        "caption_images.candidates=2",
        "--set",
        "caption_images.max_new_tokens=8",
    )
    result = run("tag", PHOTOS[0], "--preset", preset, "--format", "jsonl", *options)
    assert result.exit_code == 0, result.stderr
    [row] = _rows(result.stdout_bytes)
    captions = row["captions"]
    scores = [caption["score"] for caption in captions]
    assert row["caption"] == captions[0]["text"]
    assert scores == sorted(scores, reverse=True)
    assert sorted(caption["source"] for caption in captions) == sorted(["blip-mini", str(tiny_git)] * 2)
    assert all(list(caption["scores"]) == [caption["source"], "choose_caption"] for caption in captions)


@pytest.mark.slow
def test_ctrl_c_in_a_long_run_keeps_the_finished_lines(start, tmp_path):
    folder = _many(tmp_path / "many", 2000)
    with start("tag", folder, "--preset", "mini", "--format", "jsonl") as process:
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()  # communicate() would lose what readline() read ahead
        err = process.stderr.read()
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert 1 <= len(_rows(first + rest)) < 2000


@pytest.mark.slow
def test_kill_9_in_a_long_run_keeps_whole_lines(start, tmp_path):
    folder, output = _many(tmp_path / "many", 2000), tmp_path / "out.jsonl"
    with start("tag", folder, "--preset", "mini", "--output", output) as process:
        while process.poll() is None and not (output.exists() and output.stat().st_size):
            time.sleep(0.02)
        process.kill()
    rows = _rows(output.read_bytes())
    assert 1 <= len(rows) < 2000
    assert all(row["caption"] for row in rows)


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_a_long_run_quietly(start, tmp_path):
    folder = _many(tmp_path / "many", 2000)
    with start("tag", folder, "--preset", "mini", "--format", "jsonl", "--quiet") as process:
        assert len(_rows(process.stdout.readline())) == 1
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=600) == 141


@pytest.mark.slow
def test_the_bundled_preset_is_here_and_has_nothing_to_download(start):
    with start("models", "--format", "json") as process:
        listed = json.loads(process.communicate()[0])
    assert next(row["present"] for row in listed["presets"] if row["name"] == "mini")
    bundled = [row for row in listed["models"] if row["bundled"]]
    assert all(row["present"] and row["size"] > 0 for row in bundled)
    assert (
        sum(row["size"] for row in bundled if row["name"] != "objects-mini") < 60_000_000
    )  # it is clip-mini
    with start("download", "mini") as process:
        lines = process.communicate()[0].decode().splitlines()
    assert process.returncode == 0
    assert len(lines) == 3
    assert all("comes with autotag, nothing to download" in line for line in lines)
