"""Changes that can be stopped anywhere and taken back."""

from __future__ import annotations

import errno
import itertools
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from autotag.albums.state import changes
from autotag.albums.state.changes import (
    OutputChange,
    RenameChange,
    TextChange,
    files_of,
    leads_out,
    move,
    read_if_there,
    relocated,
    to_record,
)
from autotag.errors import ConfigError, FileChangedError, MetadataError
from autotag.files import system_calls
from autotag.files.replacing import PartFile, digest_of, sha256, state_of
from autotag.files.system_calls import SystemCalls

CALLS = [
    "open", "lock", "stat", "lstat", "write", "fsync", "read", "copy_attributes", "set_times", "exchange",
    "rename_new", "replace", "unlink", "sync_folder", "close",
]  # fmt: skip


class Stopped(BaseException):
    """Stands for a kill."""


class Faulty(SystemCalls):
    """Fails at the ``at``-th call of one kind."""

    def __init__(self, call: str, at: int, fault: BaseException) -> None:
        own = getattr(SystemCalls, call)
        count = itertools.count(1)

        def failing(*arguments: object) -> object:
            if next(count) == at:
                raise fault
            return own(self, *arguments)

        setattr(self, call, failing)


@pytest.mark.parametrize("before", [None, b"mine"], ids=["new", "there"])
def test_a_text_file_is_the_old_or_the_new_one_wherever_it_is_stopped(tmp_path, before):
    faults = (OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "broken"), Stopped())
    for number, (fault, call, at) in enumerate(itertools.product(faults, CALLS, (1, 2, 3))):
        folder = tmp_path / str(number)
        folder.mkdir()
        stop_and_take_back(folder / "a.txt", before, fault, call, at)


def stop_and_take_back(path, before, fault, call, at):
    if before is not None:
        path.write_bytes(before)
    planned = TextChange.planned(path, b"new words", before=read_if_there(path))
    stopped = replace(planned, calls=Faulty(call, at, fault))
    with suppress(OSError, Stopped, FileChangedError):
        stopped.apply()
    now = path.read_bytes() if path.exists() else None
    assert now in (before, b"new words"), (call, at, fault)
    TextChange.from_dict(planned.to_dict()).undo()
    assert (path.read_bytes() if path.exists() else None) == before


def test_an_edited_text_file_is_left_as_it_is(tmp_path):
    path = tmp_path / "a.txt"
    planned = TextChange.planned(path, b"new", before=None)
    planned.apply()
    path.write_bytes(b"edited")
    with pytest.raises(FileChangedError, match="another program changed it"):
        planned.undo()
    assert path.read_bytes() == b"edited"


def rename(folder: Path) -> RenameChange:
    pairs = [("a.jpg", "b.jpg"), ("a.jpg.xmp", "b.jpg.xmp"), ("a.txt", "b.txt")]
    return RenameChange.planned([(folder / old, folder / new) for old, new in pairs])


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "a.jpg.xmp", "a.txt"):
        (tmp_path / name).write_text(name)
    return tmp_path


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize("linked", [True, False], ids=["between link and unlink", "between two files"])
@pytest.mark.parametrize("moved", [0, 1, 2, 3])
def test_a_renaming_stopped_anywhere_goes_on_or_back(folder, moved, linked):
    before = content(folder)
    change = rename(folder)
    for source, target in change.moves[:moved]:
        move(source, target)
    if linked and moved < 3:
        os.link(*change.moves[moved])
    change.undo()
    assert content(folder) == before
    change.apply()
    after = content(folder)
    assert after == {"b.jpg": "a.jpg", "b.jpg.xmp": "a.jpg.xmp", "b.txt": "a.txt"}
    assert change.apply() == ()
    assert content(folder) == after


def test_a_file_system_without_hard_links_renames_too(folder, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "not here")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(system_calls, "_linux_renameat2", lambda: None)
    rename(folder).apply()
    assert sorted(content(folder)) == ["b.jpg", "b.jpg.xmp", "b.txt"]


def test_nothing_is_moved_when_one_name_is_taken(folder):
    (folder / "b.txt").write_text("another")
    with pytest.raises(FileChangedError, match="another file is called b.txt"):
        rename(folder).apply()
    assert sorted(content(folder)) == ["a.jpg", "a.jpg.xmp", "a.txt", "b.txt"]


def test_a_name_that_differs_in_letters_only_is_given_where_the_file_system_sees_one_name(
    tmp_path, monkeypatch
):
    (tmp_path / "img.jpg").write_text("a photograph")
    monkeypatch.setattr(changes, "is_there", lambda path: path.name.lower() == "img.jpg")
    monkeypatch.setattr(changes, "same_entry", lambda one, other: True)
    assert move(tmp_path / "img.jpg", tmp_path / "IMG.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["IMG.jpg"]
    assert (tmp_path / "IMG.jpg").read_text() == "a photograph"


def test_undoing_a_text_brings_its_time_of_change_back(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("mine")
    os.utime(path, ns=(10**18, 10**18 + 7))
    planned = TextChange.planned(path, b"new", before=read_if_there(path))
    planned.apply()
    TextChange.from_dict(planned.to_dict()).undo()
    assert (path.read_text(), path.stat().st_mtime_ns) == ("mine", 10**18 + 7)


@pytest.mark.parametrize("name", ["b.jpg", "b.MOV", "link to a photograph.txt"])
def test_no_text_is_written_over_a_photograph_or_film(tmp_path, name):
    (tmp_path / "a.jpg").write_text("a photograph")
    (tmp_path / "link to a photograph.txt").symlink_to("a.jpg")
    with pytest.raises(MetadataError, match="photograph or film"):
        TextChange.planned(tmp_path / name, b"new", before=None)


@pytest.mark.parametrize("number", [1, 2])
def test_a_renaming_that_fails_half_way_puts_everything_back(folder, number):
    before = content(folder)

    class Full(SystemCalls):
        def rename_new(self, source, target):
            if source.name == [old.name for old, _ in change.moves][number]:
                raise OSError(errno.EDQUOT, "quota")
            super().rename_new(source, target)

    change = replace(rename(folder), calls=Full())
    with pytest.raises(OSError, match="quota"):
        change.apply()
    assert content(folder) == before
    assert not change.has_begun()


def test_a_strangers_file_under_the_new_name_is_not_a_renaming_that_has_begun(folder):
    change = rename(folder)
    (folder / "b.jpg").write_text("another")
    assert not change.has_begun()
    (folder / "a.jpg").unlink()
    assert change.has_begun()


def test_files_that_were_never_renamed_are_left_beside_those_that_took_their_new_names(folder):
    before = content(folder)
    change = rename(folder)
    move(*change.moves[0])
    (folder / "b.txt").write_text("another")
    RenameChange.from_dict(change.to_dict()).undo()
    assert content(folder) == {**before, "b.txt": "another"}


def test_two_files_that_would_get_one_name_are_refused_when_that_is_planned(folder):
    with pytest.raises(MetadataError, match="another file would get the name c too"):
        RenameChange.planned([(folder / "a.jpg", folder / "c"), (folder / "a.txt", folder / "c")])


def output(path, before=""):
    part = PartFile(path)
    part.write(b"new")
    return OutputChange(path, sha256(b"new"), before, part, state_of(path))


def test_a_file_of_results_is_placed_and_removed_again(tmp_path):
    change = output(tmp_path / "tags.csv")
    change.apply()
    assert (tmp_path / "tags.csv").read_bytes() == b"new"
    OutputChange.from_dict(change.to_dict()).undo()
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_results_that_somebody_edited_is_left_and_that_is_said(tmp_path):
    path = tmp_path / "tags.csv"
    change = output(path)
    change.apply()
    path.write_text("edited")
    with pytest.raises(FileChangedError, match="stays unchanged"):
        change.undo()
    assert path.read_text() == "edited"


def test_a_file_of_results_that_was_never_placed_leaves_the_earlier_one(tmp_path):
    path = tmp_path / "tags.csv"
    path.write_text("earlier")
    change = output(path, digest_of(path))
    change.part.discard()
    assert change.undo() == ()
    assert path.read_text() == "earlier"


def test_files_of_a_record_follow_an_album_that_moved_and_tags_do_not():
    record = {
        "kind": "own", "path": "/old/a", "moves": [["/old/b", "/older/c"]],
        "change": {"files": [{"path": "/old/d"}], "tags": [{"path": ["/old/x"]}]}, "text": "/old/e",
    }  # fmt: skip
    assert list(map(str, files_of(record))) == ["/old/a", "/old/b", "/older/c", "/old/d"]
    assert relocated(record, {"/old": "/new"}) == {
        "kind": "own", "path": "/new/a", "moves": [["/new/b", "/older/c"]],
        "change": {"files": [{"path": "/new/d"}], "tags": [{"path": ["/old/x"]}]}, "text": "/old/e",
    }  # fmt: skip


def text(path):
    return TextChange(path, None, "digest")


def test_a_change_may_not_lead_out_of_its_album(tmp_path):
    album, outside = tmp_path / "album", tmp_path / "outside"
    album.mkdir()
    outside.mkdir()
    (album / "link").symlink_to(outside)
    (album / "link.txt").symlink_to(outside / "a.txt")
    assert leads_out(text(album / "a.txt"), [album]) is None
    assert leads_out(RenameChange(((album / "link.txt", album / "b.txt"),), (1,)), [album]) is None
    for path in (outside / "a", album / ".." / "outside" / "a", album / "link" / "a", album / "link.txt"):
        assert leads_out(text(path), [album]) == path
    assert leads_out(RenameChange(((album / "a", album / "link" / "a"),), (1,)), [album])
    assert leads_out(text(Path("album/a")), [album])


def test_a_kind_that_nobody_registered_is_refused_before_it_is_written_down(tmp_path):
    class Own:
        kind = "own"

        def to_dict(self):
            return {}

    with pytest.raises(ConfigError, match="entry point 'own' in \"autotag.changes\""):
        to_record(Own())
