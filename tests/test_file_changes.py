"""Changes that can be stopped anywhere and taken back."""

from __future__ import annotations

import errno
import itertools
import os
from contextlib import suppress
from pathlib import Path

import pytest

from autotag import file_changes
from autotag.errors import FileChangedError
from autotag.file_changes import RenameChange, TextChange, move, read_if_there
from autotag.metadata.safe_files import SystemCalls

CALLS = [
    "open", "lock", "stat", "fstat", "truncate", "write", "fsync", "read", "copy_attributes", "set_times",
    "replace", "unlink", "sync_folder", "close",
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


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "fault", [OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "broken"), Stopped()], ids=repr
)
@pytest.mark.parametrize("before", [None, b"mine"], ids=["new", "there"])
def test_a_text_file_is_the_old_or_the_new_one_wherever_it_is_stopped(tmp_path, before, fault, call, at):
    path = tmp_path / "a.txt"
    if before is not None:
        path.write_bytes(before)
    planned = TextChange.planned(path, b"new words", before=read_if_there(path))
    stopped = TextChange(
        path, planned.before, planned.after, b"new words", planned.state, Faulty(call, at, fault)
    )
    with suppress(OSError, Stopped, FileChangedError):
        stopped.apply()
    now = path.read_bytes() if path.exists() else None
    assert now in (before, b"new words")
    TextChange.from_dict(planned.to_dict()).undo()
    assert (path.read_bytes() if path.exists() else None) == before


def test_an_edited_text_file_is_left_as_it_is(tmp_path):
    path = tmp_path / "a.txt"
    planned = TextChange.planned(path, b"new", before=None)
    planned.apply()
    path.write_bytes(b"edited")
    with pytest.raises(FileChangedError, match="somebody changed it"):
        planned.undo()
    assert path.read_bytes() == b"edited"


def rename(folder: Path) -> RenameChange:
    pairs = [("a.jpg", "b.jpg"), ("a.jpg.xmp", "b.jpg.xmp"), ("a.txt", "b.txt")]
    return RenameChange(tuple((folder / old, folder / new) for old, new in pairs))


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
    monkeypatch.setattr(os.path, "lexists", lambda path: Path(path).name.lower() == "img.jpg")
    monkeypatch.setattr(file_changes, "same_entry", lambda one, other: True)
    assert move(tmp_path / "img.jpg", tmp_path / "IMG.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["IMG.jpg"]
    assert (tmp_path / "IMG.jpg").read_text() == "a photograph"
