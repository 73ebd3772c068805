"""Changes that can be stopped anywhere and taken back."""

from __future__ import annotations

import errno
import itertools
import os
from contextlib import suppress
from dataclasses import replace

import pytest

from autotag.albums.state.changes import OutputChange, TextChange, read_if_there
from autotag.errors import FileChangedError, MetadataError
from autotag.files.file_states import digest_of, sha256, state_of
from autotag.files.replacing import PartFile
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
