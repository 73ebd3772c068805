"""Undo after a run was killed at any moment, and what undo says about what it cannot take back."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from hashlib import sha256

import pytest

from autotag.albums import WriterChoice, apply_plan, undo_album
from autotag.errors import ConfigError
from autotag.metadata import read_existing
from autotag.testing import make_image

EMBED = WriterChoice("xmp", options={"embed": True})
SOMEBODYS = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag><rdf:li>Oma</rdf:li></rdf:Bag>
</dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"""
PROGRAM = """
import sys
from autotag.albums import WriterChoice, tag_folder
from autotag.pipeline.presets import from_config

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
    from autotag.albums import outputs
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


@pytest.mark.slow
def test_a_run_killed_at_random_moments_can_always_be_taken_back(album, tree):
    before, chance = tree(album), random.Random(5)  # noqa: S311
    kills, longest = 0, seconds_of_a_run(album)
    assert tree(album) == before
    for _ in range(10):
        kills += killed_after(chance.uniform(0.0, longest), album)
        undo_album(album)
        assert tree(album) == before
    assert kills >= 3


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_undo_killed_at_random_moments_goes_on_where_it_stopped(album, tree, tagged):
    before, chance = tree(album), random.Random(9)  # noqa: S311
    tagged(album, "xmp", WriterChoice("txt", options={"naming": "full"}), "rename")
    program = (
        "import sys, autotag.albums\nprint('begins', flush=True)\nautotag.albums.undo_album(sys.argv[1])"
    )
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
    with pytest.raises(ConfigError, match="nothing can be undone"):
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


@pytest.mark.parametrize("how", ["folder gone", "folder empty"])
def test_what_is_away_is_listed_and_taken_back_when_it_is_there_again(photos, tagged, tree, tmp_path, how):
    before = tree(photos)
    tagged(photos, EMBED, WriterChoice("txt", options={"naming": "full"}), "rename")
    (photos / "more").rename(tmp_path / "unplugged")
    if how == "folder empty":
        (photos / "more").mkdir()  # the place where a disk is mounted
    here = {name: digest for name, digest in before.items() if not name.startswith("more/")}
    summary = undo_album(photos)
    assert [(file, reason[:51]) for file, reason in summary.errors] == [
        (str(photos / "more"), "the folder does not exist or is empty; 3 steps wait")
    ]
    assert tree(photos) == here
    assert undo_album(photos).steps == 0
    if how == "folder empty":
        (photos / "more").rmdir()
    (tmp_path / "unplugged").rename(photos / "more")
    assert (undo_album(photos).errors, tree(photos)) == ([], before)


def test_what_is_gone_for_good_can_be_forgotten(photos, tagged):
    tagged(photos, EMBED, "rename")
    shutil.rmtree(photos / "more")
    summary = undo_album(photos, forget_missing=True)
    assert summary.errors == []
    assert [note for note in summary.notes if "is empty; 2 steps forgotten" in note]
    assert undo_album(photos).errors == []


@pytest.mark.parametrize("writer", [EMBED, "xmp"], ids=["embedded", "sidecar"])
@pytest.mark.parametrize("again", [False, True], ids=["once", "with a run between"])
def test_a_photograph_that_was_renamed_waits_for_its_old_name(photos, tagged, tree, writer, again):
    before = tree(photos)
    tagged(photos, writer)
    moved = {"b.jpg": "z.jpg", "b.jpg.xmp": "z.jpg.xmp"}
    moved = {old: new for old, new in moved.items() if (photos / old).exists()}
    for old, new in moved.items():
        (photos / old).rename(photos / new)
    if again:
        tagged(photos, writer)
    for _ in range(2):
        [(folder, reason)] = undo_album(photos).errors
        assert folder == str(photos)
        assert re.match(r"b\.jpg(\.xmp)? does not exist; 1 step waits for the next undo \(if renamed", reason)
    for old, new in moved.items():
        (photos / new).rename(photos / old)
    assert (undo_album(photos).errors, tree(photos)) == ([], before)


def test_deleted_photographs_are_one_line_and_can_be_forgotten(photos, tagged, tree):
    before = tree(photos)
    tagged(photos, "xmp")
    for name in ("b.jpg", "d.jpg"):
        (photos / name).unlink()
        (photos / f"{name}.xmp").unlink()
    [(_, reason)] = undo_album(photos).errors
    assert reason.startswith("d.jpg.xmp and 1 more do not exist; 2 steps wait for the next undo")
    summary = undo_album(photos, forget_missing=True)
    assert summary.errors == []
    assert [note for note in summary.notes if "do not exist; 2 steps forgotten" in note]
    assert tree(photos) == {name: digest for name, digest in before.items() if name not in {"b.jpg", "d.jpg"}}
    assert undo_album(photos).errors == []


def test_several_runs_over_a_deleted_photograph_are_one_line(photos, tagged, tree):
    before = tree(photos)
    tagged(photos, EMBED, options={"top_k": 1})
    tagged(photos, EMBED, "rename")
    tagged(photos, EMBED, options={"top_k": 2})
    [gone] = [path for path in photos.iterdir() if path.suffix == ".webp"]
    gone.unlink()
    [(folder, reason)] = undo_album(photos).errors
    assert folder == str(photos)
    assert re.match(r".*\.webp.* not exist; \d steps wait for the next undo", reason)
    here = {name: digest for name, digest in before.items() if not name.endswith(".webp")}
    assert tree(photos) == here
    assert undo_album(photos, forget_missing=True).errors == []
    assert (undo_album(photos).errors, tree(photos)) == ([], here)


def test_a_sidecar_that_somebody_deleted_needs_no_undo(photos, tagged, tree):
    before = tree(photos)
    tagged(photos, "xmp")
    (photos / "b.jpg.xmp").unlink()
    assert (undo_album(photos).errors, tree(photos)) == ([], before)


def test_a_sidecar_of_somebody_that_was_moved_waits(photos, tagged, tree):
    (photos / "b.jpg.xmp").write_text(SOMEBODYS)
    before = tree(photos)
    tagged(photos, "xmp")
    (photos / "b.jpg.xmp").rename(photos / "aside.xmp")
    [(_, reason)] = undo_album(photos).errors
    assert reason.startswith("b.jpg.xmp does not exist; 1 step waits")
    (photos / "aside.xmp").rename(photos / "b.jpg.xmp")
    assert (undo_album(photos).errors, tree(photos)) == ([], before)


def test_a_group_whose_photograph_was_renamed_by_hand_stays_together(photos, tagged, tree):
    (photos / "b.jpg.xmp").write_text(SOMEBODYS)
    before = tree(photos)
    tagged(photos, "rename")
    new = next(path for path in photos.iterdir() if path.suffix == ".txt").with_suffix(".jpg")
    new.rename(photos / "by hand.jpg")
    companions = [new.with_suffix(".txt"), photos / f"{new.name}.xmp"]
    [(_, reason)] = undo_album(photos).errors
    assert reason.startswith(f"{new.name} does not exist; 1 step waits")
    assert all(path.exists() for path in companions)
    (photos / "by hand.jpg").rename(new)
    assert (undo_album(photos).errors, tree(photos)) == ([], before)


def test_a_step_that_waits_for_a_later_one_is_not_forgotten_as_gone(photos, tagged, tree):
    before = tree(photos)
    tagged(photos, EMBED)
    (photos / "b.jpg.xmp").write_text(SOMEBODYS)
    between = tree(photos)
    tagged(photos, "rename")
    (photos / "b.jpg.xmp").write_text("in the way")
    assert [reason for _, reason in undo_album(photos, forget_missing=True).errors if "b.jpg.xmp" in reason]
    (photos / "b.jpg.xmp").unlink()
    assert undo_album(photos).errors == []
    assert tree(photos) == {**before, "b.jpg.xmp": between["b.jpg.xmp"]}


def test_of_a_change_of_two_files_the_one_that_is_there_is_undone(photos, tagged, tree):
    (photos / "b.jpg.xmp").write_text(SOMEBODYS.replace("Oma", ""))
    before = tree(photos)
    tagged(photos, EMBED)
    (photos / "b.jpg.xmp").rename(photos / "aside")
    [(_, reason)] = undo_album(photos).errors
    assert reason.startswith("b.jpg.xmp does not exist; 1 step waits")
    assert {name: digest for name, digest in tree(photos).items() if name != "aside"} == {
        name: digest for name, digest in before.items() if name != "b.jpg.xmp"
    }
    (photos / "aside").rename(photos / "b.jpg.xmp")
    assert (undo_album(photos).errors, tree(photos)) == ([], before)


@pytest.mark.parametrize("is_edited", [False, True])
def test_undo_keeps_the_copy_of_a_keyword_whose_sidecar_was_deleted(photos, tagged, tree, is_edited):
    (photos / "b.jpg.xmp").write_text(SOMEBODYS)
    before = tree(photos)
    tagged(photos, EMBED)
    (photos / "b.jpg.xmp").rename(photos / "aside")
    if is_edited:
        tagged(photos, EMBED, options={"top_k": 1})
        undo_album(photos, last=True)
    assert "1 step waits" in undo_album(photos).errors[0][1]
    assert "Oma" in read_existing((photos / "b.jpg").read_bytes()).keywords.flat
    (photos / "aside").rename(photos / "b.jpg.xmp")
    assert (undo_album(photos).errors, tree(photos)) == ([], before)
    tagged(photos, EMBED)
    (photos / "b.jpg.xmp").unlink()
    summary = undo_album(photos, forget_missing=True)
    assert any("keeps Oma" in note for note in summary.notes)
    assert read_existing((photos / "b.jpg").read_bytes()).keywords.flat == ("Oma",)


@pytest.mark.parametrize("writer", [EMBED, "xmp"], ids=["embedded", "sidecar"])
def test_marks_that_a_power_cut_lost_are_of_one_run(photos, tagged, tree, state, writer):
    before = tree(photos)
    tagged(photos, "rename")
    tagged(photos, writer)
    [journal] = state.glob("*/journal*")
    synced: list[bytes] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        synced.append(journal.read_bytes())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", noted)
        undo_album(photos)
    between = next(content for content in synced if b'"undone"' in content)
    journal.write_bytes(between)
    assert (undo_album(photos).errors, tree(photos)) == ([], before)


def test_the_last_run_is_passed_over_where_only_gone_files_are_left_of_it(photos, tagged, tree):
    before = tree(photos)
    tagged(photos, WriterChoice("txt", options={"naming": "full"}))
    tagged(photos, "xmp")
    (photos / "b.jpg").unlink()
    (photos / "b.jpg.xmp").unlink()
    assert undo_album(photos, last=True).steps == 6
    assert undo_album(photos, last=True).steps == 7
    assert tree(photos) == {name: digest for name, digest in before.items() if name != "b.jpg"}


def test_after_a_move_and_a_new_run_the_old_state_is_named(photos, tagged, tree, tmp_path):
    before = tree(photos)
    tagged(photos, "xmp")
    now = tmp_path / "now"
    photos.rename(now)
    tagged(now, "xmp")
    [(_, reason)] = undo_album(now).errors
    assert "6 more sidecars hold machine tags" in reason
    state = re.search("The folder was '.*photos' before; name its state: --state '(.*?)'", reason)[1]
    assert (undo_album(now, state=state).errors, tree(now)) == ([], before)


def test_without_a_state_the_sidecars_with_machine_tags_are_counted(photos, tagged, state):
    tagged(photos, "xmp")
    shutil.rmtree(state)
    with pytest.raises(
        ConfigError, match=r"no run of autotag is recorded.* and 6 more sidecars hold machine"
    ):
        undo_album(photos)


def test_a_share_that_does_not_answer_is_not_taken_for_an_empty_one(photos, tagged, tree, monkeypatch):
    before = tree(photos)
    tagged(photos, "rename")
    lstat = os.lstat

    def stale(path, *more, **others):
        if "more" in str(path):
            raise OSError(errno.ESTALE, "Stale file handle")
        return lstat(path, *more, **others)

    with monkeypatch.context() as patch:
        patch.setattr(os, "lstat", stale)
        assert [reason for _, reason in undo_album(photos).errors] == ["Stale file handle"]
    assert (undo_album(photos).errors, tree(photos)) == ([], before)


def test_files_of_results_in_a_folder_of_their_own_are_taken_back_run_by_run(photos, tagged, tmp_path):
    (tmp_path / "tables").mkdir()
    table = WriterChoice("csv", file=tmp_path / "tables" / "tags.csv")
    tagged(photos, table)
    tagged(photos, table, options={"top_k": 1})
    assert [undo_album(photos, last=True).errors for _ in range(2)] == [[], []]
    assert list((tmp_path / "tables").iterdir()) == []


def test_a_file_of_results_that_somebody_edited_is_left_listed_and_not_counted(photos, tagged):
    tagged(photos, "csv")
    (photos / "tags.csv").write_text("edited")
    summary = undo_album(photos)
    assert (summary.steps, (photos / "tags.csv").read_text()) == (0, "edited")
    assert [reason for _, reason in summary.errors if "tags.csv" in reason and "stays unchanged" in reason]


def test_a_sidecar_that_lost_its_record_is_left_and_nobody_says_that_tags_were_removed(photos, tagged):
    from autotag.metadata import without_machine_tags

    tagged(photos, "xmp")
    sidecar = photos / "c.webp.xmp"
    sidecar.write_bytes(sidecar.read_bytes().replace(b"autotag", b"nobody"))
    content = sidecar.read_bytes()
    assert without_machine_tags(content) == content
    summary = undo_album(photos)
    assert sidecar.read_bytes() == content
    [note] = [note for note in summary.notes if "c.webp.xmp" in note]
    assert "has no record" in note
    assert "removed" not in note


def test_undo_brings_the_times_of_files_back(photos, tagged):
    (photos / "d.jpg.txt").write_text("mine")
    tagged(photos, "xmp")
    for path in photos.rglob("*.xmp"):
        os.utime(path, ns=(10**18, 10**18 + 7))
    times = {path: path.stat().st_mtime_ns for path in photos.rglob("*") if path.is_file()}
    embed = WriterChoice("xmp", options={"embed": True, "touch": True})
    tagged(
        photos, embed, WriterChoice("txt", options={"naming": "full", "mode": "append"}), options={"top_k": 1}
    )
    undo_album(photos, last=True)
    assert {path: path.stat().st_mtime_ns for path in photos.rglob("*") if path.is_file()} == times


def test_undo_of_a_folder_around_takes_back_the_runs_inside_it_newest_first(photos, tagged, tree, tmp_path):
    before = tree(tmp_path)
    (photos / "more" / ".autotag").mkdir()
    tagged(photos / "more", "xmp")
    tagged(photos, EMBED, options={"top_k": 1})
    tagged(photos / "more", "xmp", "txt", options={"top_k": 2})
    summary = undo_album(tmp_path)
    assert summary.errors == []
    now = {name: digest for name, digest in tree(tmp_path).items() if ".autotag" not in name}
    assert {name: digest for name, digest in now.items() if not name.startswith("state/")} == before


def test_undo_of_a_folder_inside_names_the_run_around_it(photos, tagged):
    tagged(photos, "xmp")
    with pytest.raises(ConfigError, match=f"undo that as a whole: '{photos}'"):
        undo_album(photos / "more")


def test_tags_of_runs_that_are_not_known_are_named(photos, tagged, tmp_path, monkeypatch):
    tagged(photos / "more", "xmp", state=tmp_path / "lost")
    shutil.rmtree(tmp_path / "lost")
    tagged(photos, "csv")
    [note] = undo_album(photos).notes
    assert note.startswith(f"{photos}: more/f.jpg.xmp holds machine tags")


def test_the_state_of_another_album_is_refused(photos, tagged, tree, tmp_path):
    tagged(photos, "xmp")
    shutil.copytree(photos, tmp_path / "copy")
    before = tree(tmp_path)
    [state] = (tmp_path / "state").iterdir()
    with pytest.raises(ConfigError, match="belongs to another album"):
        undo_album(tmp_path / "copy", state=state)
    with pytest.raises(ConfigError, match="belongs to another album"):
        tagged(tmp_path / "copy", "xmp", state=state)
    assert tree(tmp_path) == before


def test_one_folder_keeps_the_states_of_several_albums(photos, tagged, tree, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(photos, other)
    before, states = tree(photos), tmp_path / "states"
    for folder in (photos, other):
        assert tagged(folder, "xmp", state=states).written == 7
    left = tree(other)
    undo_album(photos, state=states)
    assert (tree(photos), tree(other)) == (before, left)


@pytest.mark.parametrize("by", ["a run", "undo"])
def test_the_journal_of_a_stranger_is_refused_and_never_acts_outside(photos, tagged, tree, tmp_path, by):
    home = tmp_path / "home"
    home.mkdir()
    (home / "tax.ods").write_text("precious")
    digest = sha256(b"precious").hexdigest()
    steps = [
        {"kind": "output", "path": str(home / "tax.ods"), "after": digest, "before": ""},
        {"kind": "text", "path": str(home / "tax.ods"), "after": digest, "before": None, "mtime_ns": None},
        {
            "kind": "rename",
            "inodes": [1, 2],
            "moves": [[str(home / "tax.ods"), str(home / "gone")], [str(home / "a"), str(home)]],
        },
    ]
    rows = [{"run": 1, "at": 1, "album": "/else", "real": "/else"}]
    rows += [{"id": number, "do": step} for number, step in enumerate(steps, 1)]
    (photos / ".autotag").mkdir()
    (photos / ".autotag" / "journal.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = tree(tmp_path)

    def act(**options):
        return tagged(photos, "xmp", **options) if by == "a run" else undo_album(photos, **options)

    with pytest.raises(ConfigError, match="does not say which album it belongs to.*--adopt"):
        act()
    assert tree(tmp_path) == before
    summary = act(adopt=True)
    assert (home / "tax.ods").read_text() == "precious"
    assert len([note for note in summary.notes if "not a file of the album" in note]) == 3


def test_runs_are_taken_back_in_the_order_of_the_journal_also_if_the_clock_was_set_back(
    photos, tagged, tree, monkeypatch
):
    before, now = tree(photos), iter([3_000, 2_000, 1_000])
    for top_k in (1, 2, 3):
        at = next(now)
        monkeypatch.setattr(time, "time_ns", lambda at=at: at)
        tagged(photos, EMBED, options={"top_k": top_k})
    monkeypatch.undo()
    monkeypatch.setenv("AUTOTAG_STATE", str(photos.parent / "state"))
    summary = undo_album(photos)
    assert (summary.notes, summary.errors, tree(photos)) == ([], [], before)


def test_steps_that_somebody_damaged_in_the_journal_are_listed_and_the_others_taken_back(
    photos, tagged, tree
):
    tagged(photos, "xmp", WriterChoice("txt", options={"naming": "full"}))
    [state] = (photos.parent / "state").iterdir()
    path = state / "journal.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    steps = [row["do"] for row in rows if "do" in row]
    for step in steps:
        if "d.jpg" in json.dumps(step) and step["kind"] == "text":
            step["before"], step["after"] = "bWluZQ==", 7
        elif "d.jpg" in json.dumps(step):
            step["change"]["files"][0] |= {"undo": [[1, 2, 3], "!"], "sha256_before": 5}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = undo_album(photos)
    assert len(summary.errors) == 2
    assert {name for name in tree(photos) if name.endswith((".xmp", ".jpg.txt"))} == {
        "d.jpg.txt",
        "d.jpg.xmp",
    }


@pytest.mark.parametrize("moves", [[], [["a", "b"]]])
def test_a_renaming_whose_files_and_numbers_do_not_go_together_is_listed(photos, tagged, moves):
    tagged(photos, "csv")
    [state] = (photos.parent / "state").iterdir()
    moves = [[str(photos / name) for name in move] for move in moves]
    with (state / "journal.jsonl").open("a") as file:
        file.write(json.dumps({"id": 99, "do": {"kind": "rename", "moves": moves, "inodes": []}}) + "\n")
    [(_, reason)] = undo_album(photos).errors
    assert "do not match" in reason


def test_after_a_whole_undo_a_plan_proposes_what_the_models_found_and_not_the_edits(tagged, photos, tmp_path):
    plan, again = tmp_path / "plan.jsonl", tmp_path / "again.jsonl"
    tagged(photos, plan_file=plan)
    proposed = plan.read_text()
    assert '"blue"' in proposed
    plan.write_text(proposed.replace('"blue"', '"azure"'))
    apply_plan(plan)
    tagged(photos, "csv")
    undo_album(photos, last=True)
    tagged(photos, "xmp", plan_file=again)
    assert '"blue"' not in again.read_text(), "what is not undone stays as the person left it"
    again.unlink()
    undo_album(photos)
    tagged(photos, plan_file=again)
    assert again.read_text().splitlines()[1:] == proposed.splitlines()[1:]


def test_after_a_whole_undo_a_photograph_that_was_replaced_keeps_its_own_tags(tagged, photos, tmp_path):
    plan, again = tmp_path / "plan.jsonl", tmp_path / "again.jsonl"
    tagged(photos, plan_file=plan)
    lines = map(json.loads, plan.read_text().splitlines()[1:])
    name = next(line["file"] for line in lines if "blue" in json.dumps(line))
    plan.write_text(plan.read_text().replace('"blue"', '"azure"'))
    apply_plan(plan)
    make_image("green").save(photos / name)
    tagged(photos)
    undo_album(photos)
    tagged(photos, plan_file=again)
    [line] = [line for line in again.read_text().splitlines()[1:] if json.loads(line)["file"] == name]
    assert '"green"' in line
    assert '"blue"' not in line
