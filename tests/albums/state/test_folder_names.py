"""Which files in a folder belong together."""

from __future__ import annotations

import pytest

from autotag.albums.state import folder_names
from autotag.albums.state.folder_names import FolderNames


def made(folder, *names):
    for name in names:
        (folder / name).touch()
    return FolderNames()


@pytest.fixture
def tells_case_apart(tmp_path):
    (tmp_path / "probe").touch()
    if (tmp_path / "PROBE").exists():
        pytest.skip("this file system does not tell letter case apart")
    (tmp_path / "probe").unlink()


def test_what_has_the_name_of_a_picture_belongs_to_it(tmp_path):
    found = made(tmp_path, "a.jpg", "a.jpg.xmp", "a.jpg.pp3", "a.txt", "a.MOV", "b.jpg", "b.jpg.xmp", "a.doc")
    assert sorted(found.companions(tmp_path / "a.jpg")) == ["a.MOV", "a.jpg.pp3", "a.jpg.xmp", "a.txt"]


@pytest.mark.usefixtures("tells_case_apart")
def test_names_that_differ_in_case_only_are_two_pictures_with_files_of_their_own(tmp_path):
    found = made(tmp_path, "IMG.jpg", "img.JPG", "img.JPG.xmp", "img.jpg.pp3", "IMG.txt", "img.mov")
    assert found.companions(tmp_path / "IMG.jpg") == ["IMG.txt"]
    assert sorted(found.companions(tmp_path / "img.JPG")) == ["img.JPG.xmp", "img.mov"]
    assert found.same_stem(tmp_path / "IMG.jpg") == []


def test_where_the_file_system_sees_one_name_letter_case_is_overlooked(tmp_path, monkeypatch):
    found = made(tmp_path, "IMG.jpg", "img.jpg.pp3", "Img.png")
    monkeypatch.setattr(folder_names, "is_there", lambda path: True)
    assert found.companions(tmp_path / "IMG.jpg") == ["img.jpg.pp3"]
    assert found.same_stem(tmp_path / "IMG.jpg") == ["Img.png"]


def test_a_new_name_never_differs_from_another_in_case_alone(tmp_path):
    found = made(tmp_path, "A Dog.jpg")
    assert found.taken(tmp_path, "a dog.JPG")
    found.take(tmp_path, "A cat.jpg")
    assert found.taken(tmp_path, "a CAT.jpg")
    assert not found.taken(tmp_path, "a cat.png")


def test_sidecars_that_came_after_the_folder_was_listed_belong_to_it_too(tmp_path):
    found = made(tmp_path, "a.jpg")
    assert found.companions(tmp_path / "a.jpg") == []
    made(tmp_path, "a.jpg.xmp", "a.txt")
    assert found.companions(tmp_path / "a.jpg") == ["a.jpg.xmp", "a.txt"]


def test_of_several_pictures_of_one_stem_the_raw_file_has_the_sidecar(tmp_path):
    found = made(tmp_path, "a.jpg", "a.cr2", "a.xmp", "a.txt")
    assert found.companions(tmp_path / "a.cr2") == ["a.xmp"]
    assert found.companions(tmp_path / "a.jpg") == []
