"""The ledger of an album, where it is kept, and the lock."""

from __future__ import annotations

import errno
import gc
import sqlite3
import sys

import pytest
from platformdirs import user_state_path

from autotag.albums.state.ledger import Entry, Ledger, fingerprint, locked, state_folder
from autotag.errors import ConfigError
from autotag.records import Caption, Result, Tag

ENTRY = Entry(10, 20, "pixels", "settings", "written")
ODD = "d\udce4/\n.jpg"  # a name that is no UTF-8


def found(name: str) -> Result:
    return Result(
        name, (4, 3), captions=(Caption("a dog", "test"),), tags=(Tag.proposed("dog", 0.5, "test"),)
    )


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite", album=tmp_path)
    yield ledger
    ledger.close()


@pytest.mark.parametrize("name", ["a.jpg", ODD])
def test_what_is_put_down_is_there_after_it_was_closed(tmp_path, ledger, name):
    ledger.keep(name, ENTRY, found(name))
    ledger.close()
    again = Ledger(tmp_path / "ledger.sqlite", album=tmp_path)
    assert (again.entry(name), again.result(name)) == (ENTRY, found(name))
    assert (again.entry("other"), again.result("other")) == (None, None)
    again.close()


def test_a_state_without_a_result_keeps_the_one_that_is_there(ledger):
    ledger.keep("a.jpg", ENTRY, found("a.jpg"))
    changed = Entry(11, 21, "pixels", "settings", "")
    ledger.keep("a.jpg", changed)
    assert (ledger.entry("a.jpg"), ledger.result("a.jpg")) == (changed, found("a.jpg"))


def test_results_come_by_name_for_the_photographs_of_this_run_and_these_settings(ledger):
    names = [f"{number:04}.jpg" for number in range(600)]
    for name in names:
        ledger.keep(name, ENTRY, found(name))
    ledger.keep("other settings.jpg", Entry(1, 1, "", "other", ""), found("x"))
    ledger.list_photos([(name, 0) for name in (*reversed(names[5:]), "other settings.jpg", "new.jpg")])
    assert [name for name, _ in ledger.results("settings")] == names[5:]


def test_photographs_are_listed_in_the_order_of_the_album_by_the_work_there_is(ledger):
    ledger.list_photos([(f"{number}.jpg", number % 3) for number in range(900)])
    assert list(ledger.listed(1)) == [f"{number}.jpg" for number in range(900) if number % 3 == 1]
    assert ledger.counted(2) == 300


def test_a_renamed_photograph_keeps_what_is_known(ledger):
    ledger.keep("a.jpg", ENTRY, found("a.jpg"))
    ledger.keep("b.jpg", ENTRY, found("b.jpg"))
    ledger.list_photos([("a.jpg", 0)])
    ledger.rename("a.jpg", "b.jpg")
    assert ledger.entry("a.jpg") is None
    assert ledger.result("b.jpg") == found("a.jpg")
    assert [name for name, _ in ledger.results("settings")] == ["b.jpg"]


def test_after_undo_everything_has_to_be_written_again_and_results_stay(ledger, tmp_path):
    ledger.keep("a.jpg", ENTRY, found("a.jpg"))
    ledger.keep_output(tmp_path / "x.csv", "digest")
    ledger.forget_writing()
    assert ledger.entry("a.jpg").written == ""
    assert ledger.result("a.jpg") == found("a.jpg")
    assert ledger.output_digest(tmp_path / "x.csv") == "digest"


def test_a_file_that_is_no_ledger_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "ledger.sqlite").write_text("something else, long enough to be looked at as a database" * 20)
    with pytest.raises(ConfigError, match="You may delete it"):
        Ledger(tmp_path / "ledger.sqlite", album=tmp_path)


def test_albums_have_folders_of_their_own_in_the_users_state(tmp_path, monkeypatch):
    monkeypatch.delenv("AUTOTAG_STATE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    one, other = tmp_path / "one" / "photos", tmp_path / "other" / "photos"
    assert state_folder(one).parent == user_state_path("autotag", appauthor=False) / "albums"
    if sys.platform == "linux":
        assert state_folder(one).parent == tmp_path / "state" / "autotag" / "albums"
    assert state_folder(one) != state_folder(other)
    mine = state_folder(one, tmp_path / "mine")
    assert mine.parent == tmp_path / "mine"
    assert mine != state_folder(other, tmp_path / "mine")
    mine.mkdir(parents=True)
    (mine / "journal.jsonl").touch()
    assert state_folder(one, mine) == mine
    (one / ".autotag").mkdir(parents=True)
    assert state_folder(one) == one / ".autotag"


def test_a_fingerprint_is_of_the_content_and_not_of_the_order():
    assert (
        fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1}) != fingerprint({"a": 1, "b": [3]})
    )


def test_a_state_folder_that_cannot_be_locked_is_not_taken_for_another_run(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "lock.sqlite").write_text("no database " * 100)
    with pytest.raises(ConfigError, match="cannot be used"), locked(tmp_path, tmp_path / "state"):
        pass


def test_what_is_put_down_before_an_error_is_not_put_down_at_all(ledger):

    def interrupted():
        with ledger.transaction():
            ledger.keep("a.jpg", ENTRY, found("a.jpg"))
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert ledger.entry("a.jpg") is None
    with ledger.transaction():
        ledger.keep("a.jpg", ENTRY, found("a.jpg"))
    assert ledger.entry("a.jpg") == ENTRY


@pytest.mark.parametrize(
    ("code", "number"), [(sqlite3.SQLITE_FULL, errno.ENOSPC), (sqlite3.SQLITE_READONLY, errno.EROFS)]
)
def test_errors_of_the_database_are_those_that_are_documented(ledger, code, number):
    class Broken:
        def execute(self, *_):
            error = sqlite3.OperationalError("refused")
            error.sqlite_errorcode = code
            raise error

    whole, ledger._database = ledger._database, Broken()
    for call in (lambda: ledger.entry("a"), lambda: ledger.keep("a", ENTRY), lambda: ledger.list_photos([])):
        with pytest.raises(OSError, match="the ledger cannot be used: refused") as raised:
            call()
        assert raised.value.errno == number
    ledger._database = whole


def test_a_ledger_that_cannot_be_opened_leaves_no_connection_open(tmp_path):
    with pytest.raises(OSError, match="cannot be used"):
        Ledger(tmp_path / "no folder" / "ledger.sqlite", album=tmp_path)
    (tmp_path / "junk").write_text("junk " * 500)
    with pytest.raises(ConfigError):
        Ledger(tmp_path / "junk", album=tmp_path)
    gc.collect()  # a connection that is open would be a ResourceWarning, and so an error


def test_a_result_that_is_damaged_is_refused_with_the_way_out(ledger):
    ledger.keep("a.jpg", ENTRY, found("a.jpg"))
    ledger._database.execute("UPDATE photos SET result = x'00'")
    with pytest.raises(ConfigError, match="delete it"):
        ledger.result("a.jpg")


def test_states_are_locked_one_by_one_and_albums_once(tmp_path):
    album, states = tmp_path / "album", [tmp_path / "one", tmp_path / "two"]
    album.mkdir()
    with locked(album, *states):
        for state in states:
            with pytest.raises(ConfigError, match="another run"), locked(tmp_path / "other", state):
                pass
