"""The journal of an album."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from autotag.albums.state.changes import OutputChange, TextChange
from autotag.albums.state.journal import Journal, LostStep
from autotag.albums.state.renaming import RenameChange
from autotag.files.system_calls import SystemCalls

ALBUM = Path("/album")


def change(name: str) -> TextChange:
    return TextChange.planned(Path(ALBUM, name), b"new", before=None)


def names(journal: Journal) -> list[str]:
    return [step.paths[0].name for _, step in journal.newest_first()]


def test_steps_come_back_newest_first_also_after_it_was_closed(tmp_path):
    with Journal(tmp_path / "j", album=ALBUM) as journal:
        journal.done(journal.begin([change("a"), change("b")]))
        journal.begin([change("c")])
    with Journal(tmp_path / "j", album=ALBUM) as journal:
        assert names(journal) == ["c", "b", "a"]
        assert [step.paths[0].name for _, step in journal.pending()] == ["c"]


def test_what_was_taken_back_or_refused_is_over(tmp_path):
    with Journal(tmp_path / "j", album=ALBUM) as journal:
        first, second, third = journal.begin([change("a"), change("b"), change("c")])
        journal.undone([second])
        journal.failed([third])
    with Journal(tmp_path / "j", album=ALBUM) as journal:
        assert names(journal) == ["a"]
        assert journal.begin([change("d")]) == [third + 1]
        assert first == 1


def test_it_is_on_the_disk_before_a_step_is_taken(tmp_path):
    synced: list[int] = []

    class Calls(SystemCalls):
        def fsync(self, descriptor: int) -> None:
            synced.append(os.fstat(descriptor).st_size)

    with Journal(tmp_path / "j", album=ALBUM, calls=Calls()) as journal:
        journal.begin([change("a")])
        assert synced == [(tmp_path / "j").stat().st_size]


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_line_that_a_crash_cut_short_is_cut_off(tmp_path, cut):
    with Journal(tmp_path / "j", album=ALBUM) as journal:
        journal.begin([change("a")])
        whole = (tmp_path / "j").stat().st_size
        journal.begin([change("b")])
    os.truncate(tmp_path / "j", whole + cut)
    with Journal(tmp_path / "j", album=ALBUM) as journal:
        assert names(journal) == ["a"]
        journal.begin([change("c")])
    with Journal(tmp_path / "j", album=ALBUM) as journal:
        assert names(journal) == ["c", "a"]


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_what_cannot_be_put_down_leaves_the_journal_as_it_was(tmp_path, call):
    with Journal(tmp_path / "j", album=ALBUM) as journal:
        journal.begin([change("a")])
    before = (tmp_path / "j").read_bytes()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    calls = SystemCalls()
    setattr(calls, call, full)
    journal = Journal(tmp_path / "j", album=ALBUM, calls=calls)
    with pytest.raises(OSError, match="No space left"):
        journal.begin([change("b")])
    assert (tmp_path / "j").read_bytes() == before
    assert names(journal) == ["a"]
    calls.fsync = lambda descriptor: None  # type: ignore[method-assign]
    journal.close()


@pytest.mark.parametrize(
    "line", [b"junk", b'{"id": "x", "do": 1}', b'{"done": []}', b"7", b"[" * 100_000, b'{"later": 1}']
)
def test_a_line_that_cannot_be_read_is_named_and_skipped(tmp_path, line):
    with Journal(tmp_path / "j", album=ALBUM) as journal:
        journal.begin([change("a"), change("b")])
    heading, *lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    (tmp_path / "j").write_bytes(b"".join([heading, lines[0], line + b"\n", *lines[1:]]))
    with Journal(tmp_path / "j", album=ALBUM) as journal:
        assert names(journal) == ["b", "a"]
        [problem] = journal.problems
    assert "line 3" in problem


@pytest.mark.parametrize(
    "record",
    [
        {"kind": "from a plug-in", "path": "/album/a"},
        {"kind": "text"},
        {"kind": "text", "path": 7, "before": None, "after": "", "mtime_ns": None},
        {"kind": "text", "path": "/album/\0", "before": None, "after": "", "mtime_ns": None},
        {"kind": "rename", "moves": [["/album/a"]]},
        {"kind": "metadata", "change": {}},
        [],
        None,
    ],
    ids=str,
)
def test_a_step_that_cannot_be_loaded_is_lost_and_says_why(tmp_path, record):
    with Journal(tmp_path / "j", album=ALBUM) as journal:
        journal.begin([change("a")])
    with (tmp_path / "j").open("a") as file:
        file.write(json.dumps({"id": 2, "do": record}) + "\n")
    with Journal(tmp_path / "j", album=ALBUM) as journal:
        (_, lost), (_, kept) = journal.newest_first()
        assert isinstance(lost, LostStep)
        assert lost.reason
        assert kept.paths[0].name == "a"


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"kind": "text", "path": "/album/a", "before": None, "after": ""}, "'mtime_ns' is missing"),
        (
            {"kind": "text", "path": "/album/a", "before": None, "after": "", "mtime_ns": 1, "shell": "rm"},
            "'shell' is unknown",
        ),
        (
            {"kind": "text", "path": "/album/a", "before": None, "after": 5, "mtime_ns": 1},
            "'after' is 5, not a text",
        ),
        ({"kind": "output", "path": "/album/a", "after": "", "before": True}, "'before' is True, not a text"),
        ({"kind": "rename", "moves": [["/album/a"]], "inodes": [1]}, "expected [old name, new name]"),
        ({"kind": "rename", "moves": [["/album/a", "/album/b"]], "inodes": ["1"]}, "not whole numbers"),
        ({"kind": "metadata", "touch": 1, "change": {}}, "'touch' is 1, not true or false"),
        ({"path": "/album/a"}, "has no kind"),
        ([], "'do' is [], not a row"),
    ],
    ids=str,
)
def test_a_field_that_is_unknown_missing_or_of_another_type_is_named(tmp_path, record, why):
    with Journal(tmp_path / "j", album=ALBUM) as journal:
        journal.begin([change("a")])
    with (tmp_path / "j").open("a") as file:
        file.write(json.dumps({"id": 2, "do": record}) + "\n")
    with Journal(tmp_path / "j", album=ALBUM) as journal:
        (_, lost), _ = journal.newest_first()
    assert isinstance(lost, LostStep)
    assert why in lost.reason


@pytest.mark.parametrize("inside", [True, False], ids=["in the album", "elsewhere"])
def test_steps_about_files_outside_of_the_album_are_lost(tmp_path, inside):
    album = tmp_path / "album"
    (album / ".autotag").mkdir(parents=True)
    (album / "link").symlink_to(tmp_path)
    steps = [
        TextChange.planned(tmp_path / "a", b"new", before=None),
        TextChange.planned(album / "link" / "a", b"new", before=None),
        RenameChange(((tmp_path / "a", album / "a"),), (7,)),
        OutputChange(tmp_path / "tags.csv", "digest"),
    ]
    path = (album / ".autotag" if inside else tmp_path) / "j"
    with Journal(path, album=album) as journal:
        journal.begin(steps)
        found = [step for _, step in journal.newest_first()][::-1]
    assert [isinstance(step, LostStep) for step in found] == [True, True, True, inside]


def test_a_link_in_the_place_of_the_journal_is_not_followed(tmp_path):
    (tmp_path / "other").write_text("mine\n")
    (tmp_path / "j").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic link"):
        Journal(tmp_path / "j", album=ALBUM)
    assert (tmp_path / "other").read_text() == "mine\n"


def test_changes_survive_the_way_through_json(tmp_path):
    steps = [
        TextChange(Path("/album/a.txt"), b"\xff old", "digest", mtime_ns=7),
        RenameChange(((Path("/album/a.jpg"), Path("/album/b.jpg")),), (7,)),
    ]
    with Journal(tmp_path / "j", album=ALBUM) as journal:
        journal.begin(steps)
        assert [step for _, step in journal.newest_first()] == steps[::-1]


def test_steps_are_known_by_the_run_that_took_them(tmp_path):
    for run in (["a", "b"], [], ["c", "d"]):
        with Journal(tmp_path / "j", album=ALBUM) as journal:
            journal.begin([change(name) for name in run[:1]])
            journal.begin([change(name) for name in run[1:]])
    with Journal(tmp_path / "j", album=ALBUM) as journal:
        first, second = journal.open_runs()
        assert first.at < second.at
        last = list(journal.newest_first(second.first))
        assert [step.paths[0].name for _, step in last] == ["d", "c"]
        journal.undone(number for number, _ in last)
        assert journal.open_runs() == [first]
        assert [step.paths[0].name for _, step in journal.newest_first(first.first)] == ["b", "a"]


def test_steps_follow_an_album_to_its_new_place(tmp_path):
    with Journal(tmp_path / "j", album=tmp_path / "old") as journal:
        journal.begin([TextChange.planned(tmp_path / "old" / "a", b"new", before=None)])
    with Journal(tmp_path / "j", album=tmp_path / "new") as journal:
        journal.begin([TextChange.planned(tmp_path / "new" / "b", b"new", before=None)])
    with Journal(tmp_path / "j", album=tmp_path / "newer") as journal:
        found = [step.paths[0] for _, step in journal.newest_first()]
    assert found == [tmp_path / "newer" / "b", tmp_path / "newer" / "a"]


def test_where_a_run_was_let_out_of_its_album_its_steps_are_known_there_only(tmp_path):
    album, linked = tmp_path / "album", tmp_path / "linked"
    album.mkdir()
    step = TextChange.planned(linked / "a.txt", b"words", before=None)
    for place in (tmp_path / "j", album / "j"):
        with Journal(place, album=album, linked=[linked]) as journal:
            journal.begin([step])
    with Journal(tmp_path / "j", album=album) as journal:
        assert [isinstance(found, LostStep) for _, found in journal.newest_first()] == [False]
        journal.begin([step])
    with Journal(tmp_path / "j", album=album) as journal:
        assert [isinstance(found, LostStep) for _, found in journal.newest_first()] == [True, False]
    with Journal(album / "j", album=album) as journal:
        [(_, lost)] = journal.newest_first()
        assert isinstance(lost, LostStep)
