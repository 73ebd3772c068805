"""To which album and user a state belongs."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from autotag.albums.state import identity
from autotag.albums.state.identity import album_of, check_state, claim_state, is_state
from autotag.errors import ConfigError


@pytest.fixture
def album(tmp_path):
    folder = tmp_path / "album"
    folder.mkdir()
    return folder


@pytest.fixture
def claimed(tmp_path, album):
    folder = tmp_path / "state"
    folder.mkdir()
    claim_state(folder, album)
    (folder / "journal.jsonl").touch()
    return folder


def test_a_new_state_is_anybodys_and_then_of_its_album(tmp_path, album):
    check_state(tmp_path / "new", album)
    (tmp_path / "new").mkdir()
    assert not is_state(tmp_path / "new")
    claim_state(tmp_path / "new", album)
    assert is_state(tmp_path / "new")
    assert album_of(tmp_path / "new") == str(album)
    check_state(tmp_path / "new", album)


def test_a_state_of_another_album_is_refused_with_the_way_out(tmp_path, claimed):
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigError, match=r"belongs to another album, '.*album'.*--adopt.*--state"):
        check_state(claimed, tmp_path / "other")
    check_state(claimed, tmp_path / "other", adopt=True)
    claim_state(claimed, tmp_path / "other")
    check_state(claimed, tmp_path / "other")


def test_an_album_that_was_renamed_keeps_its_state_and_a_copy_has_none(tmp_path, album, claimed):
    shutil.copytree(album, tmp_path / "copy")
    album.rename(tmp_path / "renamed")
    check_state(claimed, tmp_path / "renamed")
    with pytest.raises(ConfigError, match="another album"):
        check_state(claimed, tmp_path / "copy")


def test_an_album_with_a_folder_of_its_own_is_known_on_another_disk_unless_the_first_is_there(
    tmp_path, album
):
    (album / ".autotag").mkdir()
    claim_state(album / ".autotag", album)
    state = tmp_path / "state"
    state.mkdir()
    claim_state(state, album)
    shutil.copytree(album, tmp_path / "moved")
    with pytest.raises(ConfigError, match="another album"):
        check_state(state, tmp_path / "moved")
    album.rename(tmp_path / "kept so that its number is not given again")
    check_state(state, tmp_path / "moved")


def test_another_album_in_the_same_place_is_told_by_its_own_folder(tmp_path, album):
    state = tmp_path / "state"
    state.mkdir()
    (album / ".autotag").mkdir()
    claim_state(album / ".autotag", album)
    claim_state(state, album)
    (album / ".autotag" / "id").write_text("another")
    with pytest.raises(ConfigError, match="another album"):
        check_state(state, album)


@pytest.mark.parametrize("way", ["machine", "user"])
def test_what_another_machine_or_user_wrote_is_refused_until_it_is_adopted(album, monkeypatch, way):
    folder = album / ".autotag"
    folder.mkdir()
    claim_state(folder, album)
    (folder / "journal.jsonl").touch()
    identity.owner.cache_clear()
    if way == "machine":
        monkeypatch.setattr(identity, "_machine", lambda: "another")
    else:
        monkeypatch.setattr(os, "getuid", lambda: 12345)
    try:
        with pytest.raises(ConfigError, match="on another machine or by another user"):
            check_state(folder, album)
        check_state(folder, album, adopt=True)
        claim_state(folder, album)
        check_state(folder, album)
    finally:
        identity.owner.cache_clear()
        monkeypatch.undo()
    check_state(folder, album)  # who owned it before still does


@pytest.mark.parametrize("identity", [None, "junk", "{}", "[" * 10_000, '{"real": 1}'])
def test_a_state_that_does_not_say_whose_it_is_is_refused(album, identity):
    folder = album / ".autotag"
    folder.mkdir()
    (folder / "journal.jsonl").touch()
    if identity is not None:
        (folder / "album.json").write_text(identity)
    with pytest.raises(ConfigError, match="does not say which album it belongs to"):
        check_state(folder, album)
    check_state(folder, album, adopt=True)
    claim_state(folder, album)
    assert json.loads((folder / "album.json").read_text())["real"] == str(album)


@pytest.mark.parametrize("name", ["journal.jsonl", "ledger.sqlite", "ledger.sqlite-wal", "lock.sqlite", "id"])
def test_a_state_that_leads_elsewhere_is_refused_also_when_it_is_adopted(tmp_path, album, name):
    folder = album / ".autotag"
    folder.mkdir()
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="is a link or a device"):
        check_state(folder, album, adopt=True)


def test_a_link_in_the_place_of_the_albums_own_folder_is_refused(tmp_path, album):
    (tmp_path / "elsewhere").mkdir()
    (album / ".autotag").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="is a link"):
        check_state(album / ".autotag", album)


def test_claiming_again_changes_no_byte(album, claimed):
    before = (claimed / "album.json").read_bytes(), (claimed / "album.json").stat().st_mtime_ns
    claim_state(claimed, album)
    assert ((claimed / "album.json").read_bytes(), (claimed / "album.json").stat().st_mtime_ns) == before


def test_a_state_in_any_folder_of_its_album_is_claimed(album):
    folder = album / "deeper" / "state"
    folder.mkdir(parents=True)
    claim_state(folder, album)
    check_state(folder, album)
    assert not (album / ".autotag").exists()
