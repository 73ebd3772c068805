"""The journal of an album."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from autotag.errors import ConfigError
from autotag.file_changes import RenameChange, TextChange
from autotag.journal import Journal
from autotag.metadata.safe_files import SystemCalls

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


def test_damage_in_the_middle_is_named_by_its_line(tmp_path):
    with Journal(tmp_path / "j", album=ALBUM) as journal:
        journal.begin([change("a"), change("b")])
    lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    (tmp_path / "j").write_bytes(lines[0] + b"junk\n" + lines[1])
    with pytest.raises(ConfigError, match="damaged in line 2"):
        Journal(tmp_path / "j", album=ALBUM)


def test_changes_survive_the_way_through_json(tmp_path):
    steps = [
        TextChange(Path("/album/a.txt"), b"\xff old", "digest"),
        RenameChange(((Path("/album/a.jpg"), Path("/album/b.jpg")),)),
    ]
    with Journal(tmp_path / "j", album=ALBUM) as journal:
        journal.begin(steps)
        assert [step for _, step in journal.newest_first()] == steps[::-1]


def test_the_steps_of_the_last_run_are_those_since_it_began(tmp_path):
    for run in (["a", "b"], [], ["c", "d"]):
        with Journal(tmp_path / "j", album=ALBUM) as journal:
            journal.begin([change(name) for name in run[:1]])
            journal.begin([change(name) for name in run[1:]])
    with Journal(tmp_path / "j", album=ALBUM) as journal:
        last = list(journal.newest_first(last_run=True))
        assert [step.paths[0].name for _, step in last] == ["d", "c"]
        journal.undone(number for number, _ in last)
        assert [step.paths[0].name for _, step in journal.newest_first(last_run=True)] == ["b", "a"]


def test_steps_follow_an_album_that_is_gone_from_its_place(tmp_path):
    with Journal(tmp_path / "j", album=tmp_path / "old") as journal:
        journal.begin([TextChange.planned(tmp_path / "old" / "a", b"new", before=None), change("b")])
    with Journal(tmp_path / "j", album=tmp_path / "new") as journal:
        assert [step.paths[0] for _, step in journal.newest_first()] == [ALBUM / "b", tmp_path / "new" / "a"]
    (tmp_path / "old").mkdir()
    with Journal(tmp_path / "j", album=tmp_path / "new") as journal:
        assert [step.paths[0] for _, step in journal.newest_first()] == [ALBUM / "b", tmp_path / "old" / "a"]


def test_of_several_albums_that_are_gone_none_is_guessed(tmp_path):
    for name in ("one", "two"):
        with Journal(tmp_path / "j", album=tmp_path / name) as journal:
            journal.begin([change("a")])
    with pytest.raises(ConfigError, match="albums that are gone"):
        Journal(tmp_path / "j", album=tmp_path / "new")
