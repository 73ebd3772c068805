"""A full disk, two writers, readers during a write, names that are no UTF-8."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import closing

import pytest

from autotag.errors import SearchIndexError
from autotag.pipeline.pipeline import Pipeline
from autotag.records import Caption, Result
from autotag.search import Index, schema
from autotag.search.index_writing import put
from autotag.search.photo_facts import PhotoFacts
from autotag.search.updating import carry_out, make_plan, tag_due
from autotag.stages import EmbedImages
from autotag.testing import FakeEncoder, make_image


def result(number):
    return Result(f"/{number}.jpg", (1, 1), captions=(Caption(f"photograph {number} " * 40, "c"),))


def put_in(index, generation, number):
    put(index._connection, "i.db", result(number), facts=None, generation=generation, encoder_name=None)


def test_a_full_disk_is_said_and_what_was_written_is_safe(tmp_path):
    path = tmp_path / "i.db"
    with Index.open(path) as index:
        index.add(map(result, range(100)))
        ((pages,),) = index.execute("PRAGMA page_count")
        index.execute(f"PRAGMA max_page_count = {pages + 40}")
        with pytest.raises(
            SearchIndexError, match="the disk is full; make room and run the same command again"
        ):
            index.add(map(result, range(100, 5000)))
        held = len(index)
        assert 100 <= held < 5000
        assert held % 64 in {0, 100 % 64}
        assert index.execute("PRAGMA integrity_check") == [("ok",)]
        index.execute("PRAGMA max_page_count = 1000000")
        index.add(map(result, range(5000)))
        assert len(index) == 5000


def test_a_second_writer_waits_for_the_first(tmp_path):
    path = tmp_path / "i.db"
    with Index.open(path) as first, Index.open(path) as second:
        waiting = threading.Thread(target=second.add, args=([result(1)],))
        with first.writing():
            waiting.start()
            time.sleep(0.2)
            assert waiting.is_alive()
            assert len(first) == 0
        waiting.join(10)
        assert len(first) == 1


def test_a_second_writer_that_waited_too_long_is_refused_with_the_reason(tmp_path):
    path = tmp_path / "i.db"
    with Index.open(path) as first:
        first.remove()
    with Index.open(path) as first, Index.open(path) as second:
        second.execute("PRAGMA busy_timeout = 50")
        with first.writing(), pytest.raises(SearchIndexError, match="another program has been writing it"):
            second.add([result(1)])
        second.add([result(1)])
        assert len(first) == 1


def test_one_that_makes_an_index_waits_for_another_that_makes_it():
    answers = ["database is locked", "database is locked", ""]

    class Busy:
        def execute(self, statement):
            if answer := answers.pop(0):
                raise sqlite3.OperationalError(answer)

    schema._use_log(Busy())
    assert not answers


@pytest.fixture
def fixed(tmp_path, monkeypatch):
    """An index in a folder in which nothing can be written."""
    path = tmp_path / "fixed # ?" / "i.db"
    with Index.open(path) as index:
        index.add(map(result, range(3)))
    access = os.access
    monkeypatch.setattr(os, "access", lambda file, mode: mode != os.W_OK and access(file, mode))
    return path


def test_an_index_that_is_read_only_is_searched_and_not_changed(fixed):
    with Index.open(fixed) as index:
        assert [hit.path for hit in index.search("photograph 1", by="words", top_k=1)] == ["/1.jpg"]
        assert [path.name for path in fixed.parent.iterdir()] == ["i.db"]
        with pytest.raises(SearchIndexError, match="cannot be changed: the file, its folder or the disk"):
            index.add([result(4)])
        assert len(index) == 3


def test_a_read_only_index_of_an_earlier_version_is_refused(fixed):
    with closing(sqlite3.connect(fixed)) as connection:
        connection.execute("PRAGMA user_version = 1")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with pytest.raises(SearchIndexError, match="an earlier autotag made it, and it is read-only here"):
        Index.open(fixed)


def test_changes_of_what_another_run_deleted_or_replaced_are_left_out_or_win(tmp_path):
    facts = PhotoFacts(1, 2, "d")
    with Index.open(tmp_path / "i.db") as index:
        index.add(map(result, range(3)))
        moved = [(1, "/1.jpg", facts), (9, "/2.jpg", facts)]  # 1.jpg has the id 2, and the id 9 is not there
        index.change(gone=[], offline=[], back=[], facts=moved)
        assert index.execute("SELECT id, path FROM photo") == [(1, b"/1.jpg"), (3, b"/2.jpg")]
        assert [hit.path for hit in index.search("1", by="words")] == ["/1.jpg"]


def test_a_change_that_does_not_fit_does_not_make_the_index_look_damaged(tmp_path):
    with Index.open(tmp_path / "i.db") as index:
        index.add(map(result, range(2)))
        with pytest.raises(SearchIndexError, match=r"does not fit what is there: UNIQUE .*path\.$"):
            index.execute("UPDATE photo SET path = 'a'")


def test_a_head_that_is_damaged_is_said_to_be(tmp_path):
    with pytest.raises(SearchIndexError, match="it is damaged or not an index"), schema.readable(tmp_path):
        b"\xff".decode()


def test_an_object_that_another_thread_uses_says_so(tmp_path):
    with (
        Index.open(tmp_path / "i.db") as index,
        index.writing(),
        pytest.raises(SearchIndexError, match="open the index once for each thread"),
    ):
        index.search("a", by="words")


def test_a_search_during_a_write_finds_what_was_there_before(tmp_path):
    path = tmp_path / "i.db"
    with Index.open(path) as writer, Index.open(path) as reader:
        writer.add([result(1)])
        with writer.writing() as generation:
            put_in(writer, generation, 2)
            assert len(writer) == 2
            assert [hit.path for hit in reader.search("photograph", by="words")] == ["/1.jpg"]
        assert len(reader.search("photograph", by="words")) == 2


def half(index):
    with index.writing() as generation:
        put_in(index, generation, 2)
        index.execute("SELECT * FROM missing_table")


def test_a_writer_that_fails_midway_leaves_nothing_half(tmp_path):
    with Index.open(tmp_path / "i.db") as index:
        index.add([result(1)])
        before = index.about()
        with pytest.raises(SearchIndexError, match="no such table"):
            half(index)
        assert (len(index), index.about()) == (1, before)


def test_a_file_that_is_damaged_in_the_middle_is_said_to_be(tmp_path):
    path = tmp_path / "i.db"
    with Index.open(path) as index:
        index.add(map(result, range(300)))
    raw = bytearray(path.read_bytes())
    raw[4096:] = b"\xff" * (len(raw) - 4096)
    path.write_bytes(raw)
    with pytest.raises(SearchIndexError, match="damaged"), Index.open(path) as index:
        index.search("photograph", by="words")


def test_names_that_are_no_utf8_are_indexed_followed_and_forgotten(tmp_path):
    folder = os.fsencode(tmp_path / "photos")
    os.mkdir(folder)  # noqa: PTH102 - bytes
    make_image("red").save(tmp_path / "red.png")
    names = [os.path.join(folder, name) for name in (b"a\xff.png", b"b\xfe.png")]  # noqa: PTH118
    os.replace(tmp_path / "red.png", names[0])  # noqa: PTH105

    def run(*images):
        plan = make_plan(index, list(map(os.fsdecode, images)), [tmp_path / "photos"])
        carry_out(index, plan)
        tag_due(index, plan, pipeline, encoder_name=None)
        return plan

    with Index.open(tmp_path / "i.db") as index, Pipeline([EmbedImages()], encoder=FakeEncoder()) as pipeline:
        assert run(names[0]).due == [os.fsdecode(names[0])]
        assert run(names[0]).unchanged == 1
        os.replace(*names)  # noqa: PTH105
        assert len(run(names[1]).moved) == 1
        assert index.execute("SELECT path FROM photo") == [(names[1],)]
        os.remove(names[1])  # noqa: PTH107
        make_image("blue").save(tmp_path / "photos" / "other.png")
        assert len(run(os.fsencode(tmp_path / "photos" / "other.png")).gone) == 1
