from __future__ import annotations

import io
import logging
import sqlite3
from contextlib import closing

import pytest
from PIL import Image

from autotag.records import Result
from autotag.search import Filter, Index
from autotag.search import thumbnails as module
from autotag.search.page import page
from autotag.search.picture_cache import PictureCache, cache_beside
from autotag.search.thumbnails import thumbnails, thumbnails_of
from autotag.testing import make_image


@pytest.fixture
def photos(tmp_path):
    paths = []
    for colour in ("red", "green", "blue"):
        paths.append(tmp_path / f"{colour}.png")
        make_image(colour).resize((900, 300)).save(paths[-1])
    return paths


@pytest.fixture
def index(photos, tmp_path):
    with Index.open(tmp_path / "i.db") as opened:
        opened.add(Result(str(path), (900, 300)) for path in photos)
        yield opened


@pytest.fixture
def made(monkeypatch):
    paths = []
    make = module._made
    monkeypatch.setattr(module, "_made", lambda path: paths.append(path) or make(path))
    return paths


def hits(index):
    return index.search(filter=Filter())


def test_they_are_small_made_once_and_shown_also_when_the_photograph_is_away(index, photos, made):
    first = thumbnails_of(index, hits(index), cache_beside(index.path))
    for jpeg in first:
        assert max(Image.open(io.BytesIO(jpeg)).size) <= 480
        assert len(jpeg) < 20_000
    assert len(made) == 3
    photos[0].unlink()
    assert thumbnails_of(index, hits(index), cache_beside(index.path)) == first
    assert len(made) == 3


def test_a_photograph_with_other_pixels_gets_another_thumbnail(index, photos):
    cache = cache_beside(index.path)
    first = thumbnails_of(index, hits(index), cache)
    make_image("yellow").resize((900, 300)).save(photos[0])
    index.add([Result(str(photos[0]), (900, 300))])
    second = thumbnails_of(index, hits(index), cache)
    assert [a == b for a, b in zip(first, second, strict=True)] == [False, True, True]


def test_the_oldest_are_dropped_beyond_the_limit(index, photos, made):
    (size, *_) = map(len, thumbnails_of(index, hits(index), cache_beside(index.path)))
    small = PictureCache(index.path.with_name("small"), most_bytes=size * 5 // 2)
    red, green, blue = hits(index)
    for some in ([red], [green], [red], [blue]):
        thumbnails_of(index, some, small)
    made.clear()
    thumbnails_of(index, [red, blue], small)
    assert made == []
    thumbnails_of(index, [green], small)
    assert len(made) == 1


def test_without_a_photograph_there_is_the_reason(tmp_path):
    found = thumbnails([("https://example.com/a.jpg", ""), (str(tmp_path / "no.jpg"), "")])
    assert found[0] == "on the web"
    assert found[1] == "no such file"
    assert "0 found" in page([], [])


@pytest.mark.parametrize("harm", ["folder", "text", "database"])
def test_a_cache_that_cannot_be_used_is_done_without(index, harm, caplog):
    path = cache_beside(index.path).path
    if harm == "folder":
        path.mkdir()
    elif harm == "text":
        path.write_bytes(b"of another program " * 100)
    else:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE mine (x)")
    with caplog.at_level(logging.WARNING, "autotag"):
        assert all(
            isinstance(one, bytes) for one in thumbnails_of(index, hits(index), cache_beside(index.path))
        )
    assert "are not kept" in caplog.text
    if harm == "database":
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]
