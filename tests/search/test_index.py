from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from word_encoder import DIMENSION, ENCODER, Words

from autotag.errors import ConfigError, SearchIndexError
from autotag.files.file_states import FileState
from autotag.records import Caption, Result, Tag
from autotag.relevance.embeddings import written_embedding
from autotag.search import Filter, Index, photo_facts, vector_rows, word_rankings
from autotag.search.album_index import AlbumIndex
from autotag.search.exact import top
from autotag.search.fusion import reciprocal_ranks
from autotag.search.photo_facts import PhotoFacts
from autotag.search.schema import VERSION
from autotag.search.shot import Shot, read_shot
from autotag.search.text_query import TextQuery
from autotag.search.updating import carry_out, make_plan
from autotag.search.vector_rows import VectorRows, load_rows


def result(source, caption, *tags, looks=None, encoder=ENCODER.id):
    extras = {}
    if looks is not None:
        extras["embedding"] = written_embedding(encoder, ENCODER.embed_texts([looks])[0])
    return Result(
        str(source),
        (40, 30),
        captions=(Caption(caption, "c"),),
        tags=tuple(Tag(tag, 0.5, "s") for tag in tags),
        extras=extras,
    )


ALBUM = [
    result("/album/2019/a.jpg", "a small dog", "dog", looks="dog"),
    result("/album/2019/b.jpg", "a cat sits on a sofa", "cat", looks="cat"),
    result("/album/2020/c.jpg", "waves", "sea", looks="beach"),
    result("/album/2020/d.jpg", "an animal runs", "beach", looks="dog beach"),
]


@pytest.fixture
def index(tmp_path):
    with Index.open(tmp_path / "index.db", encoder=ENCODER) as opened:
        opened.add(ALBUM)
        yield opened


def names(hits):
    return [Path(hit.path).name for hit in hits]


def test_a_cosine_is_never_beyond_one():
    query = np.full(8, 1 / np.sqrt(8), dtype=np.float32)
    longer = np.float32(1.002)  # by what float16 may round
    rows = VectorRows(np.array([1, 2]), np.stack([query * longer, -query * longer]))
    assert rows.top(query, 2) == [(1, 1.0), (2, -1.0)]


def test_a_new_index_is_a_file_only_when_something_is_in_it(tmp_path):
    file = tmp_path / "new" / "index.db"
    with Index.open(file, encoder=ENCODER) as index:
        assert (len(index), index.stats()["photos"], index.known([], [])) == (0, 0, {})
        assert not list(tmp_path.iterdir())
        index.add(ALBUM)
        assert names(index.search("dog", top_k=1)) == ["a.jpg"]
    with Index.open(file, create=False) as again:
        assert len(again) == len(ALBUM)


def test_two_that_open_a_new_index_write_into_one_file(tmp_path):
    file = tmp_path / "index.db"
    with Index.open(file) as one, Index.open(file) as other:
        one.add(ALBUM[:2])
        other.add(ALBUM[2:])
        assert len(one) == len(other) == len(ALBUM)


def test_an_index_without_a_file_keeps_every_change(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Index.open(":memory:") as index:
        index.add(ALBUM[:2])
        index.add(ALBUM[2:])
        assert len(index) == len(ALBUM)
    assert not list(tmp_path.iterdir())


def test_an_index_that_cannot_be_made_is_refused_before_it_is_filled(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SearchIndexError, match="it cannot be made: nothing can be written in '.*file'"):
        Index.open(tmp_path / "file" / "index.db")


def test_words_are_found_by_meaning_and_as_text(index):
    assert names(index.search("dog"))[:2] == ["a.jpg", "d.jpg"]
    first = index.search("dog")[0]
    assert (first.reason, first.words) == ("both", ("dog",))
    assert first.cosine == pytest.approx(1.0, abs=1e-2)


def test_words_alone_need_no_encoder(tmp_path):
    with Index.open(tmp_path / "i.db") as opened:
        opened.add(ALBUM)
        assert names(opened.search("dogs running", by="words")) == ["a.jpg", "d.jpg"]
        with pytest.raises(SearchIndexError, match="how to load its encoder"):
            opened.search("dog")


def test_words_that_nearly_all_photographs_have_decide_nothing_and_hide_nothing(tmp_path):
    with Index.open(tmp_path / "i.db") as opened:
        texts = ["a photo of waves", "a photo of a dog", "a photo of a dog and waves", "a cat"]
        opened.add(result(f"/{number}.jpg", text) for number, text in enumerate(texts))
        assert names(opened.search("photo dog waves", by="words"))[0] == "2.jpg"
        assert names(opened.search("photo waves", by="words")) == ["0.jpg", "2.jpg", "1.jpg"]
        assert len(opened.search("photo", by="words")) == 3
        only = Filter(folder=str(tmp_path))
        assert opened.search("photo waves", by="words", filter=only) == []


def test_a_quoted_phrase_must_stand_there(index):
    assert names(index.search('"small dog"')) == ["a.jpg"]
    assert index.search('"dog small"') == []


def test_an_image_and_words_are_joined(index):
    assert names(index.search("beach", image=Image.new("RGB", (8, 8))))[0] == "d.jpg"


def test_more_like_one_leaves_itself_out(index):
    first = index.search("dog", top_k=1)[0]
    assert names(index.search(like=first.id))[0] == "d.jpg"
    assert first.id not in [hit.id for hit in index.search(like=first.id)]


def test_what_is_not_wanted_is_left_out_by_its_words(index):
    assert "b.jpg" not in names(index.search("dog", without="cat"))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Filter(tags=("DOG",)), ["a.jpg"]),
        (Filter(folder="2020"), ["c.jpg", "d.jpg"]),
        (Filter(folder="20"), []),
        (Filter(folder="/album/2019"), ["a.jpg", "b.jpg"]),
        (Filter(folder="/2019"), []),
        (Filter(tags=("dog",), folder="2020"), []),
    ],
)
def test_filters_are_exact(index, condition, expected):
    assert sorted(names(index.search(filter=condition))) == expected
    assert sorted(names(index.search("dog", filter=condition))) == expected


@pytest.mark.parametrize(
    "text",
    ["') OR 1=1 --", "caption:dog AND NOT", "NEAR(a b)", "*", '"', "a" * 10_000, "dog\0cat", "\ud800 dog"],
)
def test_nothing_that_is_typed_is_taken_for_syntax(index, text):
    if TextQuery.parse(text).plain:
        assert len(index.search(text)) == 4
    else:
        with pytest.raises(ConfigError, match="empty"):
            index.search(text)


@pytest.mark.parametrize(
    "wrong", [{"text": ""}, {"text": "  "}, {}, {"text": "dog", "top_k": 0}, {"text": "dog", "without": " "}]
)
def test_a_search_for_nothing_is_refused(index, wrong):
    with pytest.raises(ConfigError):
        index.search(**wrong)


def test_another_encoder_is_refused_for_queries_and_for_photographs(tmp_path, index):
    with Index.open(index.path, encoder=Words(id="words-2")) as other:
        with pytest.raises(SearchIndexError, match="'words-1'.*'words-2'.*--index FILE"):
            other.search("dog")
        with pytest.raises(SearchIndexError, match="cannot be compared"):
            other.add([result("/e.jpg", "x", looks="dog", encoder="words-2")])
        assert len(other) == 4


def test_a_photograph_that_is_put_in_twice_is_there_once(index):
    index.add([result("/album/2019/a.jpg", "a rocket", looks="rocket")])
    assert len(index) == 4
    assert index.search('"small dog"') == []
    assert names(index.search("rocket"))[0] == "a.jpg"


def test_what_is_removed_is_found_no_more(index):
    assert index.remove("/album/2019/a.jpg", "/not/there.jpg") == 1
    assert "a.jpg" not in names(index.search("dog"))
    assert index.search('"small dog"') == []
    assert index.execute("SELECT count(*) FROM words") == [(3,)]
    assert index.execute("SELECT count(*) FROM vector") == [(3,)]


def test_an_open_index_sees_what_another_program_wrote(index):
    assert len(index.search("dog")) == 4
    with Index.open(index.path) as other:
        other.add([result("/new.jpg", "new", looks="rocket")])
    assert names(index.search("rocket", by="vectors"))[0] == "new.jpg"


def test_an_id_that_sqlite_cannot_hold_is_of_no_photograph(index):
    for photo in (2**63, -1, 10**40):
        with pytest.raises(SearchIndexError, match=f"no photograph has the id {photo}"):
            index.search(like=photo)
    assert index.digests([10**40]) == {}
    assert index.remove(10**40, 1) == 1


def test_names_that_are_not_utf8_come_back_as_they_are(index):
    source = os.fsdecode(b"/album/\xff.jpg")
    index.add([result(source, "a rocket", looks="rocket")])
    assert index.search("rocket", top_k=1)[0].path == source


def test_a_file_of_another_kind_is_refused_and_left_as_it_is(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("my notes " * 1000)
    with pytest.raises(SearchIndexError, match="damaged or not an index"):
        Index.open(text)
    assert text.read_text() == "my notes " * 1000
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(SearchIndexError, match="another program"):
        Index.open(other)


def test_a_tag_in_another_language_is_found_by_its_concept_too(index):
    hund = Tag("Hund", 0.5, "s", concept="dog", language="de")
    index.add([Result("/album/2021/e.jpg", (40, 30), tags=(hund,))])
    for tag in ("hund", "DOG"):
        assert "e.jpg" in names(index.search(filter=Filter(tags=(tag,))))
    assert names(index.search("dog", by="words")).count("e.jpg") == 1
    katze = Tag("Katze", 0.5, "s", concept="cat", language="de")
    index.add([Result("/album/2021/e.jpg", (40, 30), tags=(katze,))])
    assert "e.jpg" not in names(index.search(filter=Filter(tags=("dog",))))


@pytest.mark.parametrize("is_old", [False, True])
def test_words_of_every_script_are_whole_and_phrases_end_with_a_tag(index, is_old):
    index.add(
        [
            result("/1.jpg", "Munchen, M\u00fcnchen", "white", "cat"),
            result("/2.jpg", "", "\u0939\u093e\u0925\u0940"),
        ]
    )
    if is_old:
        back_to_the_first_version(index.execute)
    with Index.open(index.path) as opened:
        found = {
            text: names(opened.search(text, by="words"))
            for text in (
                "Mu\u0308nchen",
                "\u0939\u0935\u093e\u0908",
                "\u0939\u093e\u0925\u0940",
                '"white cat"',
            )
        }
        assert list(found.values()) == [["1.jpg"], [], ["2.jpg"], []]
        assert len(opened.search(filter=Filter(), without="Mu\u0308nchen")) == len(ALBUM) + 1


def test_as_many_as_there_are_can_be_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(word_rankings, "_TOGETHER", 2)
    with Index.open(tmp_path / "i.db", encoder=ENCODER) as opened:
        opened.add(result(f"/{number}.jpg", "a dog", "dog", looks="dog") for number in range(3))
        opened._connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 11)
        for by in ("both", "words", "vectors"):
            assert len(opened.search("dog", top_k=10**30, by=by)) == 3
        assert len(opened.search(filter=Filter(tags=("dog",)), top_k=2**63)) == 3


def test_a_camera_is_found_whatever_the_case_of_its_letters(index):
    facts = PhotoFacts(1, 2, "d", shot=Shot(camera="\u00c4GFA X"))
    index.add([result("/e.jpg", "")], facts={"/e.jpg": facts})
    assert names(index.search(filter=Filter(camera="\u00e4gfa x"))) == ["e.jpg"]


def test_a_time_of_change_beyond_64_bits_is_no_hindrance(index, tmp_path, monkeypatch):
    path = tmp_path / "e.png"
    Image.new("RGB", (8, 8)).save(path)
    state = replace(FileState.of(path.stat()), mtime_ns=300_000_000_000 * 10**9)
    monkeypatch.setattr(photo_facts, "read_with_state", lambda path: (path.read_bytes(), state))
    facts = photo_facts.read_facts(path)
    index.add([result(path, "")], facts={str(path): facts})
    assert index.known([], [])[bytes(path)].mtime_ns == photo_facts.stored_time(state.mtime_ns) == 2**63 - 1


def back_to_the_first_version(execute):
    execute("ALTER TABLE photo DROP COLUMN sidecars")
    execute("DROP TABLE concept")
    execute("PRAGMA user_version = 1")


def test_an_index_of_the_first_version_is_brought_to_this_one(index):
    back_to_the_first_version(index.execute)
    with Index.open(index.path) as opened:
        assert opened.search(filter=Filter(tags=("dog",)))


def test_an_index_of_a_newer_version_is_refused(index):
    index.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(SearchIndexError, match="newer autotag"):
        Index.open(index.path)


def test_an_index_of_the_first_version_is_brought_up_to_date(tmp_path, sidecar):
    images = [str(tmp_path / name) for name in ("with.png", "without.png")]
    for image, colour in zip(images, ("red", "blue"), strict=True):
        Image.new("RGB", (8, 8), colour).save(image)
    with Index.open(tmp_path / "old.db") as index:
        index.add(result(image, "a photograph", looks="dog") for image in images)
    with closing(sqlite3.connect(tmp_path / "old.db")) as old:
        back_to_the_first_version(old.execute)
        old.commit()
    (tmp_path / "with.png.xmp").write_text(sidecar("Oma"))
    with Index.open(tmp_path / "old.db") as index:
        plan = make_plan(index, images, [tmp_path])
        assert (plan.unchanged, [image for _, image, _ in plan.touched], plan.due) == (1, images[:1], [])
        carry_out(index, plan)
        assert names(index.search(filter=Filter(tags=("oma",)))) == ["with.png"]
        assert make_plan(index, images, [tmp_path]).unchanged == 2


def test_a_closed_index_and_a_folder_are_not_called_damaged(tmp_path, index):
    index.close()
    with pytest.raises(SearchIndexError, match=r"it was closed; open it again\.$"):
        len(index)
    with pytest.raises(SearchIndexError, match=r"it is a folder, not the file of an index\.$"):
        Index.open(tmp_path)


def test_a_missing_index_is_not_made_by_a_search(tmp_path):
    with pytest.raises(SearchIndexError, match="autotag index FOLDER"):
        Index.open(tmp_path / "no.db", create=False)
    assert not list(tmp_path.iterdir())


class TestMappedVectors:
    @pytest.fixture
    def large(self, tmp_path):
        random = np.random.default_rng(0)
        self.vectors = random.normal(size=(300, DIMENSION)).astype(np.float32)
        self.vectors /= np.linalg.norm(self.vectors, axis=1, keepdims=True)
        with Index.open(tmp_path / "l.db") as opened:
            opened.add(self.numbered(number, vector) for number, vector in enumerate(self.vectors))
            yield opened

    def numbered(self, number, vector):
        return Result(f"/{number}.jpg", (1, 1), extras={"embedding": written_embedding("e", vector)})

    def rows(self, index):
        return load_rows(index._connection, index.files()[-1], in_memory=100)

    def best(self, index, query, allowed=None):
        return [photo for photo, _ in self.rows(index).top(query, 5, allowed)]

    def expected(self, index, query):
        ids = dict(index.execute("SELECT photo, value FROM vector"))
        scores = {photo: np.frombuffer(raw, "<f2").astype(np.float32) @ query for photo, raw in ids.items()}
        return sorted(scores, key=lambda photo: (-scores[photo], photo))[:5]

    def test_they_give_what_is_in_memory_gives(self, large):
        assert self.best(large, self.vectors[7]) == self.expected(large, self.vectors[7])
        assert self.rows(large).matrix.dtype == np.float16

    def test_rows_that_changed_since_are_merged_and_deleted_ones_do_not_come_back(self, large):
        self.rows(large)
        before = large.files()[-1].stat().st_mtime_ns
        large.remove("/7.jpg")
        large.add([self.numbered(1000, self.vectors[7]), self.numbered(8, -self.vectors[8])])
        assert self.best(large, self.vectors[7]) == self.expected(large, self.vectors[7])
        assert self.best(large, self.vectors[8]) == self.expected(large, self.vectors[8])
        assert large.files()[-1].stat().st_mtime_ns == before

    def test_a_filter_holds_for_both_parts(self, large):
        self.rows(large)
        large.add([self.numbered(1000, self.vectors[7])])
        assert self.best(large, self.vectors[7], np.asarray([3, 301])) == [301, 3]

    @pytest.mark.parametrize(
        "harm",
        [lambda raw: raw[:-9], lambda raw: b"", lambda raw: raw.replace(b'"index": "', b'"index": "z', 1)],
    )
    def test_a_torn_or_foreign_file_is_made_again(self, large, harm):
        self.rows(large)
        file = large.files()[-1]
        file.write_bytes(harm(file.read_bytes()))
        assert self.best(large, self.vectors[9]) == self.expected(large, self.vectors[9])

    def test_two_that_make_it_at_once_do_not_write_into_each_other(self, large, monkeypatch):
        chunks = vector_rows._chunks

        def meanwhile(*arguments):
            monkeypatch.setattr(vector_rows, "_chunks", chunks)
            with Index.open(large.path) as other:
                assert self.rows(other).stamp is not None
            return chunks(*arguments)

        monkeypatch.setattr(vector_rows, "_chunks", meanwhile)
        assert self.rows(large).stamp is not None
        assert self.best(large, self.vectors[7]) == self.expected(large, self.vectors[7])
        assert sorted(path.name for path in large.path.parent.glob(".*")) == []

    @pytest.mark.parametrize("lost", ["added", "replaced", "removed"])
    def test_a_file_of_what_a_restored_backup_does_not_know_is_made_again(self, large, tmp_path, lost):
        backup = tmp_path / "backup.db"
        large.execute("VACUUM INTO ?", (str(backup),))
        if lost == "removed":
            large.remove("/7.jpg")
        else:
            large.add([self.numbered(1000 if lost == "added" else 7, -self.vectors[7])])
        self.rows(large)
        large.files()[-1].rename(tmp_path / "backup.db-vectors")
        with Index.open(backup) as restored:
            restored.add(self.numbered(2000 + number, -self.vectors[number]) for number in range(3))
            for query in (-self.vectors[0], self.vectors[7], self.vectors[299]):
                assert self.best(restored, query) == self.expected(restored, query)

    def test_a_file_that_is_too_stale_is_made_again(self, large):
        self.rows(large)
        large.remove(*range(1, 100))
        assert self.best(large, self.vectors[150]) == self.expected(large, self.vectors[150])
        assert self.rows(large).alive is None


def test_exact_search_equals_numpy_in_both_precisions():
    random = np.random.default_rng(1)
    matrix = random.normal(size=(20_000, 8)).astype(np.float16)
    query = random.normal(size=8).astype(np.float32)
    scores = matrix.astype(np.float32) @ query
    best = np.argsort(-scores, kind="stable")[:10]
    for version in (matrix, matrix.astype(np.float32)):
        positions, found = top(version, query, 10)
        assert positions.tolist() == best.tolist()
        assert np.allclose(found, scores[best], atol=1e-5)
    some = np.arange(0, 20_000, 7)
    assert (
        top(matrix, query, 3, some)[0].tolist() == some[np.argsort(-scores[some], kind="stable")[:3]].tolist()
    )


@pytest.mark.parametrize("precision", [np.float16, np.float32])
@pytest.mark.parametrize(
    "parts",
    [
        [(100, 900)],
        [(0, 300), (301, 600), (900, 1000)],
        [(5, 6)],
        [(0, 64), (70, 71)],
        [(0, 40), (50, 90), (999, 1000)],
        [],
    ],
)
def test_exact_search_looks_at_runs_of_rows_as_at_single_ones(precision, parts):
    random = np.random.default_rng(2)
    matrix = random.normal(size=(1000, 8)).astype(precision)
    query = random.normal(size=8).astype(np.float32)
    some = np.array([row for start, end in parts for row in range(start, end)], dtype=np.int64)
    scores = matrix[some].astype(np.float32) @ query
    best = np.argsort(-scores, kind="stable")[:10]
    positions, found = top(matrix, query, 10, some)
    assert positions.tolist() == some[best].tolist()
    assert np.allclose(found, scores[best], atol=1e-5)


@pytest.mark.parametrize("date", ["2020-02-31", "2020-13", "0000"])
def test_a_date_that_is_not_in_the_calendar_is_refused(date):
    with pytest.raises(ConfigError, match=f"since='{date}' is not in the calendar"):
        Filter(since=date)


def test_reciprocal_ranks_reward_what_several_rankings_agree_on():
    assert list(reciprocal_ranks([[1, 2, 3], [3, 2]])) == [3, 2, 1]
    assert reciprocal_ranks([[5]]) == {5: pytest.approx(1 / 61)}
    assert list(reciprocal_ranks([[1], [2]], [0.2, 1])) == [2, 1]


def test_date_camera_and_place_are_read_and_filtered(tmp_path):
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Canon", "Canon EOS 5D"
    exif.get_ifd(0x8769)[0x9003] = "2020:05:17 14:03:59"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "W", 4: (13.0, 24.0, 18.0)})
    photo = tmp_path / "p.jpg"
    Image.new("RGB", (8, 8)).save(photo, exif=exif)
    shot = read_shot(photo.read_bytes())
    assert (shot.taken, shot.camera) == ("2020-05-17T14:03:59", "Canon EOS 5D")
    assert (shot.latitude, shot.longitude) == (pytest.approx(52.52), pytest.approx(-13.405))
    with Index.open(tmp_path / "i.db") as index:
        index.add([result(photo, "x"), *ALBUM])
        for condition in (
            Filter(since="2020-05-17", until="2020-05"),
            Filter(camera="eos"),
            Filter(near=(52.5, -13.4, 5)),
        ):
            assert names(index.search(filter=condition)) == ["p.jpg"]
        assert index.search(filter=Filter(since="2020-05-18")) == []
        assert index.search(filter=Filter(until="2020-04")) == []
        assert index.search(filter=Filter(near=(52.5, 13.4, 5))) == []


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"since": "May"}, "not a date"),
        ({"near": (91.0, 0.0, 1.0)}, "not a place"),
        ({"near": (0.0, 0.0, 0.0)}, "not a place"),
        ({"folder": "/"}, "folder is empty"),
        ({"camera": " "}, "camera is empty"),
        ({"tags": ("dog", "")}, "one is empty"),
        ({"tags": "dog"}, "tags is the text 'dog'; write a list"),
        ({"since": "2020-05-18", "until": "2020-05-17"}, "no day lies between"),
        ({"since": "2021", "until": "2020-12"}, "no day lies between"),
        ({"since": 2020}, "since=2020 is not a date; write '2020-05-17'"),
        ({"near": (1, 2)}, r"near is \(1, 2\); allowed: three numbers"),
        ({"near": "1,2,3"}, "near is '1,2,3'; allowed: three numbers"),
        ({"folder": 5}, "folder is 5; allowed: a text"),
        ({"camera": 5}, "camera is 5; allowed: a text"),
        ({"tags": None}, "tags is None; allowed: a list of texts"),
        ({"tags": ("a", 1)}, "a tag is 1; allowed: a text"),
    ],
)
def test_a_filter_that_cannot_be_is_refused(wrong, reason):
    with pytest.raises(ConfigError, match=reason):
        Filter(**wrong)


def test_a_filter_takes_a_path_and_a_date_and_a_list():
    given = Filter(folder=Path("/album"), since=date(2020, 1, 2), until=datetime(2021, 2, 3, 4), tags=["a"])
    assert given == Filter(folder="/album", since="2020-01-02", until="2021-02-03", tags=("a",))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"text": 123}, "the query is 123; allowed: a text"),
        ({"text": "dog", "without": 5}, "without is 5; allowed: a text"),
        ({"text": "dog", "top_k": "5"}, "top_k is '5'; allowed: a whole number"),
        ({"text": "dog", "top_k": 1.5}, "top_k is 1.5; allowed: a whole number"),
        ({"like": "1"}, "like is '1'; allowed: a whole number"),
        ({"like": True}, "like is True; allowed: a whole number"),
    ],
)
def test_an_argument_of_another_type_is_refused(index, wrong, reason):
    with pytest.raises(ConfigError, match=reason):
        index.search(**wrong)


def test_what_an_encoder_gets_can_be_encoded():
    assert TextQuery.parse("\ud800 dog").plain.encode() == "\ufffd dog".encode()


def test_ids_may_be_of_numpy_and_may_not_be_flags(index):
    first = index.search("dog", top_k=np.int64(1))[0].id
    assert len(index.search(like=np.int64(first))) == 3
    for wrong in (True, np.True_, None, 1.0):
        with pytest.raises(ConfigError, match="an id or path is"):
            index.remove(wrong)
    assert index.remove(np.int64(first), Path("/album/2019/b.jpg")) == 2


def test_an_approximate_search_of_another_kind_is_refused_at_once(index):
    with pytest.raises(ConfigError, match="kind is 'x'; allowed: 'sq8', 'rabitq'"):
        index.accelerate("x")


def test_an_index_stays_where_it_was_opened(tmp_path, monkeypatch):
    (tmp_path / "more").mkdir()
    monkeypatch.chdir(tmp_path)
    with Index.open("i.db") as opened:
        monkeypatch.chdir("more")
        opened.add(ALBUM)
    assert (tmp_path / "i.db").exists()


@pytest.mark.parametrize("name", ["n" * 300, "a\0b"])
def test_a_name_that_no_file_can_have_is_refused(tmp_path, name):
    with pytest.raises(SearchIndexError, match="it cannot be opened"):
        Index.open(tmp_path / name)


def test_a_filter_of_one_day_and_one_with_odd_texts_can_be(index):
    assert index.search(filter=Filter(since="9999-12-31", until="9999-12-31")) == []
    for odd in ("\udcff", "\ud800", "a\0b"):
        assert index.search(filter=Filter(camera=odd)) == index.search(filter=Filter(folder=odd)) == []


ADD = """
import sys
sys.path.insert(0, {here!r})
from test_index import *
with Index.open({path!r}) as index:
    for number in range(100_000):
        index.add([result(f"/{{number}}-{{k}}.jpg", "a dog", "dog", looks="dog") for k in range(3)])
        print(number, flush=True)
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_loses_nothing_that_was_committed_and_doubles_nothing(tmp_path):
    path = tmp_path / "killed.db"
    script = ADD.format(here=str(Path(__file__).parent), path=str(path))
    for attempt in range(4):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        line = ""
        for line in process.stdout:
            if int(line) >= 5 * (attempt + 1):
                break
        time.sleep(0.003 * attempt)
        process.kill()
        process.stdout.close()
        process.wait()
        with Index.open(path) as index:
            assert index.execute("PRAGMA integrity_check") == [("ok",)]
            assert index.execute("PRAGMA foreign_key_check") == []
            counts = [
                index.execute("SELECT count(*) FROM " + table)[0][0]  # noqa: S608
                for table in ("photo", "vector", "words", "tag")
            ]
            assert len(set(counts)) == 1
            assert counts[0] % 3 == 0
            assert counts[0] >= 3 * (int(line) + 1)


def test_an_album_run_removes_a_photograph_that_its_rules_leave_out(index):
    run = AlbumIndex(index, pipeline=None)
    run.left_out(Path("/album/2019/a.jpg"))
    run.left_out(Path("/album/unknown.jpg"))
    assert "a.jpg" not in names(index.search("dog"))
    assert len(index) == len(ALBUM) - 1


def test_an_image_in_memory_is_refused_before_anything_is_written(index):
    for source in ("<Image>", "<ndarray>"):
        with pytest.raises(ConfigError, match=r"has none; give each a name: pipeline\.read\("):
            index.add([result("/album/e.jpg", "a dog"), result(source, "a dog", "dog", looks="dog")])
    assert len(index) == len(ALBUM)
    index.add([result("<not an object>.jpg", "a dog")])
    assert len(index) == len(ALBUM) + 1


def test_a_folder_may_be_written_with_dots(index, monkeypatch):
    monkeypatch.setattr(os, "getcwd", lambda: "/album")
    for folder in ("album/2019/", "album/../album/2019", "./2019", "../album/2019", "/album/./2019"):
        assert sorted(names(index.search(filter=Filter(folder=folder)))) == ["a.jpg", "b.jpg"], folder
