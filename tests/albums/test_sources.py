"""Where an album's photographs come from."""

from __future__ import annotations

import zipfile

import pytest

from autotag.albums.sources import album_root, find_album
from autotag.errors import ConfigError, ImageReadError
from autotag.images.reading import read_image
from autotag.testing import make_image


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "album"
    for name in ("a.png", "b/c.png", "b/d.jpg", "@eaDir/e.png", ".thumbnails/f.png", "x.lrdata/g.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        make_image().save(folder / name)
    (folder / "notes.txt").touch()
    return folder


def names(*sources, **options):
    return [photo.name for photo in find_album(sources, **options).photos()]


def test_a_folder_gives_its_pictures_without_those_of_systems(folder):
    assert names(folder) == ["a.png", "b/c.png", "b/d.jpg"]
    assert names(folder, include=["*.png"], exclude=["b"]) == ["a.png"]


def test_a_relative_folder_gives_paths_that_hold_anywhere(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    album = find_album(["album"])
    assert all(photo.path.is_absolute() for photo in album.photos())
    assert (album.root, album.key) == album_root(["album"]) == (folder, folder)


def test_globs_and_files_share_the_folder_around_them(folder):
    assert names(folder / "**" / "*.png") == ["a.png", "b/c.png"]
    assert names(folder / "b" / "d.jpg", folder / "a.png", folder / "a.png") == ["b/d.jpg", "a.png"]
    assert find_album([folder / "b" / "d.jpg", folder / "a.png"]).root == folder


def test_a_bomb_in_a_zip_archive_is_refused_before_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "album.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("a.bmp", "w") as file:
            for _ in range(80):
                file.write(bytes(2**20))
        archive.writestr("b.bmp", bytes(2**20))
    photos = list(find_album([tmp_path / "album.zip"]).photos())
    with pytest.raises(ImageReadError, match=r"a\.bmp.*unpacks from"):
        read_image(photos[0].image)
    assert photos[1].image.read() == bytes(2**20)


def test_a_zip_archive_gives_pictures_that_can_be_read(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "album.zip", "w") as archive:
        for name in ("a.png", "b/c.png", "@eaDir/e.png", "notes.txt"):
            archive.write(folder / name, name)
    album = find_album([tmp_path / "album.zip"])
    photos = list(album.photos())
    assert [photo.name for photo in photos] == ["a.png", "b/c.png"]
    assert album.is_archive
    assert read_image(photos[1].image).source == f"{tmp_path / 'album.zip'}/b/c.png"
    assert names(tmp_path / "album.zip", include=["b/*"]) == ["b/c.png"]


def test_a_damaged_entry_of_an_archive_is_an_error_of_one_picture(folder, tmp_path):
    path = tmp_path / "album.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(folder / "a.png", "a.png")
    content = bytearray(path.read_bytes())
    content[50] ^= 0xFF
    path.write_bytes(content)
    [photo] = find_album([path]).photos()
    with pytest.raises(ImageReadError, match="archive cannot be read"):
        read_image(photo.image)


def test_what_does_not_go_together_is_refused(folder, tmp_path):
    (tmp_path / "bad.zip").write_text("no archive")
    for sources, said in [
        ([], "needs a folder"),
        ([tmp_path / "bad.zip"], "not a readable zip archive"),
        ([tmp_path / "bad.zip", folder], "must be the only path"),
    ]:
        with pytest.raises(ConfigError, match=said):
            find_album(sources)
    with pytest.raises(ImageReadError, match="no picture fits"):
        find_album([folder / "*.gif"])
    with pytest.raises(ImageReadError, match="no such file"):
        find_album([folder / "missing"])
