"""After a run that was killed, the next one always goes on."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pytest

from autotag.albums import undo_album
from autotag.albums.state.changes import TextChange
from autotag.albums.state.identity import claim_state
from autotag.albums.state.journal import Journal
from autotag.albums.state.ledger import Ledger, state_folder
from autotag.albums.state.renaming import RenameChange, move


@pytest.fixture
def journal_of(photos):
    """The journal of the album, as a run has it open."""

    @contextmanager
    def journal_of():
        folder = state_folder(photos)
        folder.mkdir(parents=True, exist_ok=True)
        claim_state(folder, photos)
        Ledger(folder / "ledger.sqlite", album=photos).close()
        with Journal(folder / "journal.jsonl", album=photos) as journal:
            yield journal

    return journal_of


@pytest.fixture
def renaming(photos):
    return RenameChange.planned(
        [(photos / f"b{suffix}", photos / f"sea{suffix}") for suffix in (".jpg", ".txt")]
    )


def begun(journal_of, change, moved=0):
    """A run that is killed after it wrote a change down and moved some files."""
    with journal_of() as journal:
        journal.begin([change])
    for source, target in change.moves[:moved]:
        move(source, target)


def test_a_renaming_that_was_half_done_is_ended(photos, tagged, journal_of, renaming, tree):
    before = tree(photos)
    begun(journal_of, renaming, 1)
    assert tagged(photos, "csv").notes == []
    assert (photos / "sea.txt").read_text() == "my own words"
    assert (photos / "sea.jpg").exists()
    undo_album(photos)
    assert tree(photos) == before


@pytest.mark.parametrize("by", ["a run", "undo"])
def test_a_file_that_took_the_new_name_of_one_never_renamed_keeps_nobody_from_going_on(
    photos, tagged, journal_of, renaming, tree, by
):
    begun(journal_of, renaming)
    (photos / "sea.jpg").write_text("another file")
    before = tree(photos)
    if by == "a run":
        assert tagged(photos, "xmp").failed == 1  # it is not a photograph
    summary = undo_album(photos)
    assert (summary.errors, tree(photos)) == ([], before)


@pytest.mark.parametrize("by", ["a run", "undo"])
def test_a_renaming_that_cannot_be_ended_goes_back_and_that_is_said(
    photos, tagged, journal_of, renaming, tree, by
):
    before = tree(photos)
    begun(journal_of, renaming, 1)
    (photos / "sea.txt").write_text("another file")
    notes = (tagged(photos, "csv") if by == "a run" else undo_album(photos)).notes
    assert [note for note in notes if "was killed while renaming it; it keeps its name" in note]
    undo_album(photos)
    (photos / "sea.txt").unlink()
    assert tree(photos) == before


def test_a_renaming_that_can_neither_be_ended_nor_go_back_is_left_to_undo_and_that_is_said(
    photos, tagged, journal_of, renaming, tree
):
    before = tree(photos)
    begun(journal_of, renaming, 1)
    (photos / "sea.txt").write_text("another file")
    (photos / "b.jpg").write_text("one more")
    notes = tagged(photos, "csv").notes
    assert [note for note in notes if "its name could not be repaired" in note]
    assert tagged(photos, "csv").notes == []
    assert [reason for _, reason in undo_album(photos).errors if "another file" in reason]
    (photos / "sea.txt").unlink()
    (photos / "b.jpg").unlink()
    assert undo_album(photos).errors == []
    assert tree(photos) == before


def test_a_renaming_on_a_disk_that_is_away_waits_for_it(photos, tagged, journal_of, tree, tmp_path):
    before = tree(photos)
    inside = photos / "more"
    moves = [(inside / "f.jpg", inside / "sea.jpg")]
    begun(journal_of, RenameChange.planned(moves), 1)
    inside.rename(tmp_path / "unplugged")
    assert tagged(photos, "csv").notes == []
    (tmp_path / "unplugged").rename(inside)
    assert undo_album(photos).errors == []
    assert tree(photos) == before


def strange(photos, record):
    """Adds a step to the journal that this version of autotag cannot load."""
    with (state_folder(photos) / "journal.jsonl").open("a") as file:
        file.write(json.dumps({"id": 10_000, "do": record}) + "\n")


@pytest.mark.parametrize(
    "record", [{"kind": "from a plug-in", "path": "b.jpg"}, {"kind": "text"}, {"kind": "rename", "moves": 1}]
)
def test_a_step_that_cannot_be_loaded_keeps_nobody_from_going_on(photos, tagged, tree, record):
    before = tree(photos)
    tagged(photos, "xmp")
    strange(photos, record)
    notes = tagged(photos, "txt").notes
    assert [note for note in notes if "skipped a step" in note]
    assert tagged(photos, "txt").notes == []
    summary = undo_album(photos)
    assert len(summary.errors) == 1
    assert tree(photos) == before


class Unregistered(TextChange):
    """A change of a plug-in that forgot to register it."""

    kind = "unregistered"


class PlugIn:
    def changes(self, photo, result):
        return [Unregistered.planned(photo.with_name(photo.name + ".own"), b"new", before=None)]


def test_a_change_that_nobody_could_take_back_is_refused_before_it_is_made(photos, tagged, tree):
    before = tree(photos)
    summary = tagged(photos, PlugIn())
    assert summary.failed == 7
    assert "register its class as an entry point 'unregistered'" in summary.errors[0][1]
    assert tree(photos) == before
    tagged(photos, PlugIn(), "xmp")
    undo_album(photos)
    assert tree(photos) == before


class WritesOutside:
    def changes(self, photo, result):
        return [TextChange.planned(photo.parent.parent / "outside.own", b"new", before=None)]


def test_a_change_of_a_file_outside_is_refused_before_it_is_made(photos, tagged, tmp_path):
    summary = tagged(photos, WritesOutside())
    assert "outside the album" in dict(summary.errors)["b.jpg"]
    assert not (tmp_path / "outside.own").exists()
