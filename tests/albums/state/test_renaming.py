"""Renaming that can be stopped anywhere and taken back."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from autotag.albums.state import renaming
from autotag.albums.state.renaming import RenameChange, move
from autotag.errors import FileChangedError, MetadataError
from autotag.files import system_calls
from autotag.files.system_calls import SystemCalls


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
    monkeypatch.setattr(renaming, "is_there", lambda path: path.name.lower() == "img.jpg")
    monkeypatch.setattr(renaming, "same_entry", lambda one, other: True)
    assert move(tmp_path / "img.jpg", tmp_path / "IMG.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["IMG.jpg"]
    assert (tmp_path / "IMG.jpg").read_text() == "a photograph"


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
