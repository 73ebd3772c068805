from __future__ import annotations

from pathlib import Path

import pytest

from autotag.albums.state.change_records import files_of, leads_out, relocated, to_record
from autotag.albums.state.changes import TextChange
from autotag.albums.state.renaming import RenameChange
from autotag.errors import ConfigError


def text(path):
    return TextChange(path, None, "digest")


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
