from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import Result
from fake_immich import ANOTHER, EVERYTHING, KEY, ME, FakeImmich

from autotag.errors import ConfigError, PhotoServerError
from autotag.photo_servers.immich_client import OLDEST, ImmichClient, Photo, read_key
from autotag.photo_servers.immich_run import values_of
from autotag.photo_servers.immich_state import opened, state_file
from autotag.records import Result as Found
from autotag.records import Tag

Run = Callable[..., Result]
ALL = {
    "one.jpg": {"auto/red", "auto/picture"},
    "two.jpg": {"auto/blue", "auto/picture"},
    "three.jpg": {"auto/green", "auto/picture"},
}


def changes(fake: FakeImmich) -> list[str]:
    return [what for what in fake.asked if what.startswith(("PUT", "DELETE"))]


# What it is for


def test_photographs_get_their_tags_below_auto(run: Run, fake: FakeImmich) -> None:
    found = run()
    assert (found.exit_code, fake.values()) == (0, ALL), found.output
    assert "3 photographs to tag, 0 done before" in found.output
    assert "6 tags written" in found.output


def test_a_second_run_does_only_what_is_new(run: Run, fake: FakeImmich) -> None:
    run()
    fake.asked.clear()
    fake.add("four.jpg", "red")
    found = run()
    assert "1 photograph to tag, 3 done before" in found.output
    assert fake.values() == {**ALL, "four.jpg": {"auto/red", "auto/picture"}}
    assert sum("thumbnail" in what for what in fake.asked) == 1
    fake.asked.clear()
    assert "0 tags written" in run().output
    assert changes(fake) == []


def test_undo_removes_exactly_what_was_written(run: Run, fake: FakeImmich) -> None:
    fake.tag("one.jpg", "auto/red", "family/ann")  # what a person did, in the machine's own words
    fake.tag("two.jpg", "blue")
    fake.add("other.jpg", None)
    fake.tag("other.jpg", "auto/picture")
    before = fake.values()
    run()
    fake.tag("two.jpg", "auto/sea")
    found = run("--undo")
    assert (found.exit_code, "5 tags removed" in found.output) == (0, True), found.output
    assert fake.values() == {**before, "two.jpg": {"blue", "auto/sea"}}
    assert "0 tags removed" in run("--undo").output
    assert "0 done before" in run().output


def test_an_undo_leaves_what_the_server_refuses_for_the_next(run: Run, fake: FakeImmich) -> None:
    run()
    gone = next(asset for asset in fake.assets.values() if asset.name == "one.jpg")
    del fake.assets[gone.id]
    red, picture = (
        next(tag for tag, value in fake.tags.items() if value == name)
        for name in ("auto/red", "auto/picture")
    )
    del fake.tags[red]
    refuse = f"DELETE /api/tags/{picture}/assets"
    fake.answers[refuse] = lambda rows: [
        row
        if row["error" if not row["success"] else "id"] == "not_found"
        else {**row, "success": False, "error": "no_permission"}
        for row in rows
    ]
    found = run("--undo")
    assert found.exit_code == 1
    assert found.output.count("no_permission") == 2
    assert "2 tags removed, 2 were gone already" in found.output
    fake.answers.clear()
    found = run("--undo")
    assert (found.exit_code, "2 were gone already" in found.output) == (0, True)  # the fake had taken them


def test_a_dry_run_shows_and_writes_nothing(run: Run, fake: FakeImmich, tmp_path: Path) -> None:
    fake.tag("one.jpg", "auto/red")
    before = fake.values()
    found = run("--dry-run")
    assert "one.jpg: auto/picture\n" in found.output
    assert "5 tags to write" in found.output
    assert (fake.values(), changes(fake), (tmp_path / "state").exists()) == (before, [], False)
    run()
    after = fake.values()
    fake.asked.clear()
    assert "5 tags to remove" in run("--undo", "--dry-run").output
    assert (fake.values(), changes(fake)) == (after, [])


def test_an_album_or_a_date_chooses_photographs(run: Run, fake: FakeImmich) -> None:
    fake.albums = {"a1": "Summer", "a2": "Twice", "a3": "Twice"}
    fake.add("beach.jpg", "red", albums=frozenset({"a1"}))
    fake.add("late.jpg", "blue", taken="2025-06-01T08:00:00.000Z")
    fake.add("film.mp4", "red", kind="VIDEO", albums=frozenset({"a1"}))
    fake.add("theirs.jpg", "red", owner=ANOTHER, albums=frozenset({"a1"}))
    assert run("--album", "Summer").exit_code == 0
    assert set(fake.values()) == {"beach.jpg"}
    run("--since", "2025-01-01")
    assert set(fake.values()) == {"beach.jpg", "late.jpg"}
    missing, twice = run("--album", "Winter"), run("--album", "Twice")
    assert (missing.exit_code, twice.exit_code) == (2, 2)
    assert "no album 'Winter' for this user; it has: Summer, Twice" in missing.output
    assert "2 albums 'Twice'; name one by its id: a2, a3" in twice.output
    assert run("--album", "a2").exit_code == 0
    assert run("--undo", "--album", "Summer").exit_code == 2


def test_a_slash_in_a_tag_makes_no_level() -> None:
    tags = [Tag.proposed(text, 0.5, "x") for text in ("black/white photo", "dog", "dog", " / ")]
    result = Found("x", (8, 8), tags=tuple(tags))
    assert values_of(result) == ["auto/black white photo", "auto/dog"]


# What can go wrong


@pytest.mark.parametrize("permission", sorted(EVERYTHING - {"asset.update", "album.read"}))
def test_a_missing_permission_is_named_and_nothing_is_forgotten(
    run: Run, fake: FakeImmich, permission: str
) -> None:
    fake.permissions = EVERYTHING - {permission}
    found = run("--undo" if permission == "tag.read" else "--quiet")
    assert found.exit_code == 2
    assert f"Missing required permission: {permission}" in found.output
    assert "tag.create, tag.asset" in found.output
    fake.permissions = EVERYTHING
    assert run().exit_code == 0
    assert fake.values() == ALL
    run("--undo")
    assert fake.values() == {}


def test_a_wrong_key_is_refused(run: Run, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("another-key")
    found = run("--api-key-file", wrong)
    assert (found.exit_code, "does not accept the API key (Invalid API key)" in found.output) == (2, True)
    assert "another-key" not in found.output


def test_a_key_file_that_is_not_there_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^cannot read the API key file '\S+': No such file or directory\.$"
    ):
        read_key(tmp_path / "none")


@pytest.mark.parametrize("content", [b"", b"two words", b"two\nlines", b"\xff"])
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ConfigError, match="API key file"):
        read_key(tmp_path / "key")


@pytest.mark.parametrize(
    "url", ["immich.local:2283", "ftp://immich", "http://me:pw@immich", "http://immich/?x=1"]
)
def test_what_is_not_the_url_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="--server"):
        ImmichClient(url, KEY)


def test_another_kind_of_server_and_an_old_one_are_refused(run: Run, fake: FakeImmich) -> None:
    fake.version = (OLDEST - 1, 140, 0)
    old = run()
    assert (old.exit_code, "it is Immich 1.140.0" in old.output) == (2, True)
    fake.version = (OLDEST, 0, 0)
    fake.answers["GET /api/server/ping"] = lambda _found: {"status": "ok"}
    other = run()
    assert (other.exit_code, "not an Immich server" in other.output) == (2, True)


class _Page(BaseHTTPRequestHandler):
    """A web page under every address but those that redirect or are not there."""

    def do_GET(self) -> None:
        moved, missing = self.server.moved, self.server.missing  # type: ignore[attr-defined]
        self.send_response(302 if moved else 404 if missing else 200)
        self.send_header("Location", "https://elsewhere.example/api")
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"<html>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("page", "not an Immich server"),
        ("missing", "not an Immich server"),
        ("moved", "https://elsewhere.example/api"),
    ],
)
def test_a_server_that_is_not_immich_is_refused(kind: str, words: str) -> None:
    with HTTPServer(("127.0.0.1", 0), _Page) as server:
        server.moved, server.missing = kind == "moved", kind == "missing"  # type: ignore[attr-defined]
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            with (
                ImmichClient(f"http://127.0.0.1:{server.server_port}/api/", KEY) as client,
                pytest.raises(PhotoServerError, match=words),
            ):
                client.check()
        finally:
            server.shutdown()
            thread.join()


def test_a_server_that_lacks_an_endpoint_is_too_old(
    run: Run, fake: FakeImmich, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = FakeImmich._routed

    def routed(fake: FakeImmich, method: str, path: list[str], *rest: Any) -> Any:
        return true(fake, method, ["none"] if path == ["tags", "assets"] else path, *rest)

    monkeypatch.setattr(FakeImmich, "_routed", routed)
    found = run()
    assert found.exit_code == 2
    assert "older than Immich 2" in found.output
    assert "PUT /api/tags/assets" in found.output


def test_trouble_is_waited_out(fake: FakeImmich) -> None:
    waits: list[float] = []
    said: list[str] = []
    fake.troubles = [(429, {"Retry_After": "7"}), (503, {}), (500, {}), (502, {"Retry_After": "soon"})]
    with ImmichClient(fake.url, KEY, wait=waits.append, told=said.append) as client:
        assert client.check() == ME
    assert waits == [7, 2, 4, 8]
    assert len(said) == 4
    assert said[0] == (
        f"Immich at {fake.url}: it answers 429 to GET /api/server/ping (trouble); try 2 of 8 follows in 7 s"
    )


def test_each_wait_is_said_on_stderr(run: Run, fake: FakeImmich, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ImmichClient.__init__.__kwdefaults__, "wait", lambda _seconds: None)
    fake.troubles = [(503, {})]
    found = run("--quiet")
    assert (found.exit_code, fake.values()) == (0, ALL)
    assert "answers 503 to GET /api/server/ping (trouble); try 2 of 8 follows in 1 s" in found.stderr


def test_trouble_without_end_and_a_server_that_goes_down_are_said(fake: FakeImmich) -> None:
    waits: list[float] = []
    fake.troubles = [(503, {})] * 50
    with (
        ImmichClient(fake.url, KEY, wait=waits.append) as client,
        pytest.raises(PhotoServerError, match=r"answers 503 to GET /api/server/ping \(trouble\), 8 times"),
    ):
        client.check()
    assert 100 < sum(waits) < 200
    fake.troubles.clear()
    waits.clear()
    with ImmichClient(fake.url, KEY, wait=waits.append) as client:
        client.check()
        client.url = "http://127.0.0.1:1"  # as if nobody listened any more
        with pytest.raises(PhotoServerError, match="cannot be reached"):
            client.tags()
    assert 100 < sum(waits) < 200


def test_a_server_that_never_answered_is_not_waited_for(run: Run, fake: FakeImmich) -> None:
    fake.close()
    waits: list[float] = []
    with (
        ImmichClient(fake.url, KEY, wait=waits.append) as client,
        pytest.raises(PhotoServerError, match=r"refused.*does the server run, .* port is 2283"),
    ):
        client.check()
    assert not waits
    found = run()
    assert (found.exit_code, "cannot be reached" in found.stderr) == (2, True)


def test_a_photograph_that_fails_is_said_and_tried_again(run: Run, fake: FakeImmich) -> None:
    fake.add("none.jpg", None)
    fake.add("broken.jpg").preview = b"\xff\xd8\xff\xe0 is no picture"
    fake.add("huge.jpg").preview = b""
    found = run()
    assert (found.exit_code, fake.values()) == (1, ALL)
    assert "none.jpg: no preview: it answers 404" in found.output
    assert "broken.jpg: cannot read image" in found.output
    assert "3 photographs failed" in found.output
    for asset in fake.assets.values():
        asset.preview = asset.preview if asset.name in ALL else fake.assets[next(iter(fake.assets))].preview
    found = run()
    assert (found.exit_code, "3 photographs to tag, 3 done before" in found.output) == (0, True)
    assert set(fake.values()) == {*ALL, "none.jpg", "broken.jpg", "huge.jpg"}


def test_a_photograph_that_is_deleted_or_refused_meanwhile_stops_nothing(run: Run, fake: FakeImmich) -> None:
    one, two, _three = fake.assets.values()

    def meanwhile(what: str, body: Any) -> None:
        if what == "PUT /api/tags/assets" and body["assetIds"] == [one.id]:
            fake.assets.pop(two.id, None)
            one.owner = ANOTHER

    fake.before = meanwhile
    found = run()
    assert (found.exit_code, set(fake.values())) == (1, {"three.jpg"})
    assert "one.jpg: the server does not let this user tag it" in found.output
    assert "two.jpg: it was deleted meanwhile" in found.output
    assert "2 tags removed\n" in run("--undo").output


@pytest.mark.parametrize(
    ("what", "answer"),
    [
        ("GET /api/server/version", {"version": "v2.4.1"}),
        ("GET /api/users/me", []),
        ("GET /api/users/me", {"id": "../../etc/passwd"}),
        ("GET /api/albums", [{"id": "a1"}]),
        ("POST /api/search/metadata", {"assets": []}),
        ("POST /api/search/metadata", {"assets": {"items": [{"id": 3}], "nextPage": None}}),
        ("POST /api/search/metadata", {"assets": {"items": [], "nextPage": "1"}}),
        ("PUT /api/tags", [{"id": "t1", "value": "something else"}]),
        ("PUT /api/tags", {"tags": []}),
        ("PUT /api/tags/assets", []),
        ("PUT /api/tags/assets", b"<html>"),
    ],
)
def test_an_answer_of_another_shape_is_refused(run: Run, fake: FakeImmich, what: str, answer: object) -> None:
    fake.albums = {"a1": "Summer"}
    fake.answers[what] = lambda _true: answer
    found = run("--album", "Summer") if "albums" in what else run()
    assert found.exit_code == 2
    assert what in found.output or "did not make the tag 'auto/red'" in found.output
    assert found.output.count("error: photo server") == 1


def test_state_is_of_one_run_one_user_and_this_version(run: Run, fake: FakeImmich, tmp_path: Path) -> None:
    run()
    path = state_file(ME, tmp_path / "state")
    assert path.is_file()
    with opened(path):
        found = run()
        assert (found.exit_code, "another run has the state" in found.output) == (2, True)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 9")
    assert "newer autotag" in run().output
    path.write_bytes(b"this is no database, but long enough to be taken for one" * 40)
    found = run()
    assert (found.exit_code, "cannot be used" in found.output) == (2, True)


def test_state_is_kept_where_the_user_keeps_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AUTOTAG_STATE", str(tmp_path))
    assert state_file("u1") == tmp_path / "immich" / "u1.sqlite"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_after_a_kill_a_run_continues_and_undo_removes_all(
    arguments: list[str], run: Run, fake: FakeImmich, moment: str
) -> None:
    fake.tag("two.jpg", "auto/picture")
    processes: list[subprocess.Popen[bytes]] = []

    def kill(what: str, _body: Any) -> None:
        if what == "PUT /api/tags/assets" and changes(fake).count(what) == 2:
            os.kill(processes[0].pid, signal.SIGKILL)
            processes[0].wait()
            if moment == "before":
                raise ConnectionAbortedError

    setattr(fake, moment, kill)
    command = [sys.executable, "-c", "from autotag.cli.main import main; main()", *arguments]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        processes.append(process)
    assert process.returncode == -signal.SIGKILL
    half = {"one.jpg": ALL["one.jpg"], "two.jpg": {"auto/picture"} if moment == "before" else ALL["two.jpg"]}
    assert fake.values() == half
    fake.before = fake.after = lambda _what, _body: None
    found = run()
    assert (found.exit_code, fake.values()) == (0, ALL), found.output
    run("--undo")
    assert fake.values() == {"two.jpg": {"auto/picture"}}


def test_an_undo_right_after_a_kill_knows_what_was_written(
    arguments: list[str], run: Run, fake: FakeImmich
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "from autotag.cli.main import main; main()", *arguments]
    ) as process:
        fake.after = lambda what, _body: process.kill() if what == "PUT /api/tags/assets" else None
    fake.after = lambda _what, _body: None
    assert fake.values() == {"one.jpg": ALL["one.jpg"]}
    assert run("--undo").exit_code == 0
    assert fake.values() == {}


def test_the_key_goes_to_the_server_only_in_its_header(fake: FakeImmich) -> None:
    with ImmichClient(fake.url, KEY) as client:
        user = client.check()
        photos = list(client.photos(user))
    assert photos[0] == Photo(next(iter(fake.assets)), "one.jpg")
    assert not any(KEY in what for what in fake.asked)
