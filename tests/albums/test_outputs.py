"""Files of results beside what other people write at the same time."""

from __future__ import annotations

import os

import pytest

from autotag.albums import WriterChoice, undo_album
from autotag.albums.reports import Silent
from autotag.errors import ConfigError
from autotag.files.system_calls import SystemCalls

MINE = "image,my notes of ten years\n"


class Meanwhile(Silent):
    """Somebody writes a file while the run is at work."""

    def __init__(self, path):
        self.path = path

    def done(self, report):
        self.path.write_text(MINE)


@pytest.mark.parametrize("earlier", [False, True], ids=["new", "ours before"])
def test_a_file_that_appears_or_changes_during_a_run_survives_run_and_undo(photos, tagged, tree, earlier):
    if earlier:
        tagged(photos, "csv")
    summary = tagged(photos, "csv", options={"top_k": 1}, listener=Meanwhile(photos / "tags.csv"), redo=True)
    assert [note for note in summary.notes if "tags.csv: another program changed it" in note]
    assert (photos / "tags.csv").read_text() == MINE
    assert (photos / "tags (2).csv").read_text().startswith("image,")
    assert [os.path.basename(name) for name in summary.outputs] == ["tags (2).csv"]  # noqa: PTH119
    assert summary.failed == 0
    undo_album(photos)
    assert (photos / "tags.csv").read_text() == MINE
    assert not (photos / "tags (2).csv").exists()


def test_a_file_that_appears_in_the_last_moment_survives(photos, tagged, monkeypatch):
    own = SystemCalls.rename_new

    def late(self, source, target):
        if target.name == "tags.csv" and not target.exists():
            target.write_text(MINE)
        own(self, source, target)

    monkeypatch.setattr(SystemCalls, "rename_new", late)
    tagged(photos, "csv")
    assert (photos / "tags.csv").read_text() == MINE
    assert (photos / "tags (2).csv").exists()
    undo_album(photos)
    assert (photos / "tags.csv").read_text() == MINE


def test_a_plan_that_appears_during_a_run_survives(photos, tagged, tmp_path):
    plan = tmp_path / "plan.jsonl"
    summary = tagged(photos, plan_file=plan, listener=Meanwhile(plan))
    assert plan.read_text() == MINE
    assert (tmp_path / "plan (2).jsonl").read_text().startswith('{"autotag_plan"')
    assert [note for note in summary.notes if "the plan is in" in note]


def test_hidden_files_follow_no_link_that_lies_in_wait(photos, tagged, tmp_path, tree):
    secret = tmp_path / "secret"
    secret.write_text("precious")
    for name in (".tags.csv.autotag-part", "b.jpg.xmp", "c.txt"):
        (photos / name).symlink_to(secret if name.startswith(".") else tmp_path / "not there")
    before = tree(tmp_path)
    summary = tagged(photos, "csv", "xmp", "txt")
    errors = dict(summary.errors)
    assert set(errors) == {"b.jpg", "c.webp", "e.jpg", "e.png"}
    assert "outside the album" in errors["b.jpg"]
    assert "outside the album" in errors["c.webp"]
    assert (secret.read_text(), (tmp_path / "not there").exists()) == ("precious", False)
    undo_album(photos)
    now = tree(tmp_path)
    assert {name: digest for name, digest in now.items() if not name.startswith("state/")} == before


def test_a_text_file_that_leads_out_of_the_album_is_not_added_to(photos, tagged, tmp_path):
    (tmp_path / "bashrc").write_text("precious")
    (photos / "d.txt").symlink_to(tmp_path / "bashrc")
    summary = tagged(photos, WriterChoice("txt", options={"mode": "append"}))
    assert "outside the album" in dict(summary.errors)["d.jpg"]
    assert (tmp_path / "bashrc").read_text() == "precious"


def test_a_state_in_the_album_takes_no_files_of_results_elsewhere(photos, tagged, tmp_path):
    (photos / ".autotag").mkdir()
    with pytest.raises(ConfigError, match="outside the album.*--state"):
        tagged(photos, WriterChoice("csv", file=tmp_path / "tags.csv"))
    assert not (tmp_path / "tags.csv").exists()


def test_a_file_of_results_elsewhere_is_taken_back_where_the_state_is_elsewhere_too(photos, tagged, tmp_path):
    tagged(photos, WriterChoice("csv", file=tmp_path / "tags.csv"))
    assert (tmp_path / "tags.csv").exists()
    assert undo_album(photos).errors == []
    assert not (tmp_path / "tags.csv").exists()


def test_a_file_of_results_over_a_photograph_is_refused(photos, tagged):
    before = (photos / "b.jpg").read_bytes()
    with pytest.raises(ConfigError, match="autotag did not write this version"):
        tagged(photos, WriterChoice("csv", file=photos / "b.jpg"))
    assert (photos / "b.jpg").read_bytes() == before


class Killed(BaseException):
    """What a kill -9 is to a program: nothing runs after it."""


@pytest.mark.parametrize("call", ["rename_new", "exchange", "unlink"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_while_a_file_of_results_is_replaced_leaves_nothing_of_ours(
    photos, tagged, tree, monkeypatch, call, after
):
    before = tree(photos)
    tagged(photos, "csv")
    is_dead: list[bool] = []

    def dying(name):
        own = getattr(SystemCalls, name)

        def call_or_die(self, *arguments):
            if is_dead:
                raise Killed
            is_dying = name == call and ".tags.csv." in arguments[0].name
            found = own(self, *arguments) if after or not is_dying else None
            if is_dying:
                is_dead.append(True)
                raise Killed
            return found

        return call_or_die

    with monkeypatch.context() as patch:
        for name in ("rename_new", "exchange", "replace", "unlink", "lstat", "close"):
            patch.setattr(SystemCalls, name, dying(name))
        with pytest.raises(Killed):
            tagged(photos, "csv", options={"top_k": 1})
    if not (call == "unlink" and after):
        assert [name for name in tree(photos) if name.startswith(".tags.csv.")]
    summary = tagged(photos, "csv", options={"top_k": 1})
    assert (summary.notes, summary.failed) == ([], 0)
    assert set(tree(photos)) == {*before, "tags.csv"}
    undo_album(photos)
    assert tree(photos) == before
