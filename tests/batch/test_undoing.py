"""Undo after a run was killed at any moment, and what undo says about what it cannot take back."""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from autotag.batch import WriterChoice, undo_album
from autotag.errors import ConfigError
from autotag.testing import make_image

EMBED = WriterChoice("xmp", options={"embed": True})
PROGRAM = """
import sys
from autotag.batch import WriterChoice, tag_folder
from autotag.config import from_config

writers = [
    WriterChoice("xmp", options={"embed": True}),
    WriterChoice("txt", options={"mode": "append", "naming": "full"}),
    "jsonl",
    "csv",
    "rename",
]
with from_config({"batch_size": 2, "stages": [{"stage": "colour_stages:NameColours"}]}) as pipeline:
    pipeline.load()
    print("begins", flush=True)
    tag_folder(sys.argv[1], pipeline=pipeline, writers=writers, redo=len(sys.argv) > 2)
"""

DIES = """
    import os, signal
    from autotag.batch import outputs
    outputs.OutputChange = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # written, not yet journalled
"""


@pytest.fixture
def album(tmp_path):
    folder = tmp_path / "album"
    folder.mkdir()
    colours = ("red", "green", "blue", "yellow")
    for number in range(24):
        suffix = ("jpg", "png", "webp", "gif")[number % 4]
        make_image(colours[number % 3], (16 + number, 16)).save(folder / f"{number:02}.{suffix}")
    (folder / "03.gif.txt").write_text("words of mine, picture\n")
    (folder / "05.xmp").write_text("this is no XMP")
    return folder


def seconds_of_a_run(album) -> float:
    """How long a run takes here that nobody kills."""
    command = [sys.executable, "-c", PROGRAM, str(album)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        run.stdout.readline()
        begun = time.perf_counter()
        run.wait()
    seconds = time.perf_counter() - begun
    undo_album(album)
    return seconds


def killed_after(seconds: float, album, *more: str) -> bool:
    """Whether the run was killed before its end."""
    command = [sys.executable, "-c", PROGRAM, str(album), *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        run.stdout.readline()
        time.sleep(seconds)
        run.send_signal(signal.SIGKILL)
        return run.wait() == -signal.SIGKILL


def test_a_run_killed_at_random_moments_can_always_be_taken_back(album, tree):
    before, chance = tree(album), random.Random(5)  # noqa: S311
    kills, longest = 0, seconds_of_a_run(album)
    assert tree(album) == before
    for _ in range(10):
        kills += killed_after(chance.uniform(0.0, longest), album)
        undo_album(album)
        assert tree(album) == before
    assert kills >= 3


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_run_killed_while_it_writes_a_file_of_results_leaves_nothing(album, tree, tagged, goes_on):
    before = tree(album)
    program = PROGRAM.replace("    pipeline.load()\n", f"    pipeline.load()\n{DIES}")
    run = subprocess.run([sys.executable, "-c", program, str(album)], stdout=subprocess.DEVNULL, check=False)
    assert run.returncode == -signal.SIGKILL
    assert [name for name in tree(album) if name.startswith(".metadata.jsonl.")]
    if goes_on:
        tagged(album, "xmp")
        assert not [name for name in tree(album) if name.startswith(".")]
    undo_album(album)
    assert tree(album) == before


def test_runs_killed_one_after_the_other_end_as_one_that_was_not(album, tree, tagged, tmp_path):
    before, chance, longest = tree(album), random.Random(7), seconds_of_a_run(album)  # noqa: S311
    for _ in range(5):
        killed_after(chance.uniform(0.0, longest), album)
        now = tree(album)
        pictures = {name for name in now if name.rpartition(".")[2] in {"jpg", "png", "webp", "gif"}}
        assert len({name for name in pictures if not name.startswith(".")}) >= 24
    writers = [
        WriterChoice("xmp", options={"embed": True}),
        WriterChoice("txt", options={"mode": "append", "naming": "full"}),
        "jsonl", "csv", "rename",
    ]  # fmt: skip
    summary = tagged(album, *writers)
    assert [file for file, _ in summary.errors] == ["05.png"]
    assert len([name for name in tree(album) if "picture" in name and name.endswith(".jpg")]) == 6
    assert not [name for name in tree(album) if name.startswith(".")]
    undo_album(album)
    assert tree(album) == before


def test_undo_killed_at_random_moments_goes_on_where_it_stopped(album, tree, tagged):
    before, chance = tree(album), random.Random(9)  # noqa: S311
    tagged(album, "xmp", WriterChoice("txt", options={"naming": "full"}), "rename")
    program = "import sys, autotag.batch\nprint('begins', flush=True)\nautotag.batch.undo_album(sys.argv[1])"
    for _ in range(4):
        command = [sys.executable, "-c", program, str(album)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
            run.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.1))
            run.kill()
    undo_album(album)
    assert tree(album) == before


def test_undo_says_what_it_would_take_back_and_does_nothing(photos, tagged, tree):
    tagged(photos, "xmp", "rename")
    before, seen = tree(photos), []
    summary = undo_album(photos, dry_run=True, listener=lambda change: seen.append(change.describe()))
    assert tree(photos) == before
    assert summary.steps == len(seen) == 14
    assert seen[0].startswith("renames")


def test_where_no_run_is_known_there_is_nothing_to_undo(photos):
    with pytest.raises(ConfigError, match="nothing to undo"):
        undo_album(photos)


def test_a_name_that_somebody_took_meanwhile_is_reported_and_tried_again(photos, tagged, tree):
    before = tree(photos)
    tagged(photos, "rename")
    (photos / "b.jpg").write_text("another file")
    summary = undo_album(photos)
    assert [reason for _, reason in summary.errors if "another file is called b.jpg" in reason]
    (photos / "b.jpg").unlink()
    assert undo_album(photos).errors == []
    assert tree(photos) == before


def test_undo_works_from_another_working_folder(photos, tagged, tree, monkeypatch, tmp_path):
    before = tree(photos)
    monkeypatch.chdir(photos.parent)
    tagged("photos", "xmp", WriterChoice("txt", options={"naming": "full"}), "csv", "rename")
    monkeypatch.chdir(tmp_path / "state")
    undo_album(photos)
    assert tree(photos) == before


def test_the_last_run_alone_is_taken_back(photos, tagged, tree):
    before = tree(photos)
    tagged(photos, "xmp")
    once = tree(photos)
    tagged(photos, EMBED, "csv", options={"top_k": 1})
    undo_album(photos, last=True)
    assert tree(photos) == once
    undo_album(photos, last=True)
    assert tree(photos) == before
    assert undo_album(photos, last=True).steps == 0


def test_what_cannot_be_taken_back_keeps_earlier_steps_on_the_same_files_waiting(photos, tagged, tree):
    before = tree(photos)
    tagged(photos, EMBED, WriterChoice("txt", options={"naming": "full"}), "rename")
    (photos / "b.jpg").write_text("another file")
    summary = undo_album(photos)
    assert len(summary.errors) == 3
    assert (photos / "b.jpg").read_text() == "another file"
    (photos / "b.jpg").unlink()
    assert undo_album(photos).errors == []
    assert tree(photos) == before


@pytest.mark.parametrize("is_copy", [False, True])
def test_an_album_with_its_state_inside_is_taken_back_where_it_is_now(
    photos, tagged, tree, tmp_path, is_copy
):
    before = tree(photos)
    (photos / ".autotag").mkdir()
    tagged(photos, EMBED, "csv", WriterChoice("txt", options={"naming": "full"}), "rename")
    tagged_photos, now = tree(photos), tmp_path / "elsewhere" / "now"
    (shutil.copytree if is_copy else shutil.move)(photos, now)
    assert tagged(now, EMBED, "csv", WriterChoice("txt", options={"naming": "full"}), "rename").unchanged == 7
    undo_album(now)
    shutil.rmtree(now / ".autotag")
    assert tree(now) == before
    if is_copy:
        assert {name: digest for name, digest in tree(photos).items() if "/ledger" not in name} == {
            name: digest for name, digest in tagged_photos.items() if "/ledger" not in name
        }


def test_of_an_album_that_was_moved_the_old_state_is_named_and_does_it(photos, tagged, tree, tmp_path):
    before = tree(photos)
    tagged(photos, EMBED, "csv", "rename")
    now = tmp_path / "now"
    photos.rename(now)
    with pytest.raises(ConfigError, match="--state '(.*)' if it was '.*photos'") as refused:
        undo_album(now)
    state = re.search("--state '(.*?)'", str(refused.value))[1]
    undo_album(now, state=state)
    assert tree(now) == before
