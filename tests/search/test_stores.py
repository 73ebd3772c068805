"""What every store promises, asked of Postgres and of Qdrant, and of the SQLite index where it fits."""

from __future__ import annotations

import uuid
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import qdrant_edge
from PIL import Image
from qdrant_client import QdrantClient, models
from word_encoder import DIMENSION, ENCODER, Words

from autotag.errors import ConfigError, SearchIndexError
from autotag.records import Caption, Result, Tag
from autotag.relevance.embeddings import written_embedding
from autotag.search import (
    Conditions,
    Filter,
    Index,
    StoredPhoto,
    StoreEncoder,
    StoreIndex,
    VectorStore,
    open_store,
)
from autotag.search.photo_facts import PhotoFacts, read_facts
from autotag.search.stores import qdrant_filters, qdrant_points
from autotag.search.stores.qdrant import QdrantStore
from autotag.search.updating import carry_out, make_plan

TABLES = (pytest.param("postgres", marks=pytest.mark.slow), "qdrant")


OURS = StoreEncoder(ENCODER.id, DIMENSION, "words")


def vector(text):
    return ENCODER.embed_texts([text])[0]


ALBUM = [
    StoredPhoto(
        "/album/2019/a.jpg",
        size=(40, 30),
        caption="a small dog",
        tags=(Tag("dog", 0.5, "s"), Tag("Café", 0.25, "t")),
        keywords=("Oma",),
        taken="2019-12-31T23:59:59.25",
        camera="Canon EOS 5D",
        latitude=52.52,
        longitude=13.405,
        bytes=10,
        mtime_ns=2**62,
        digest="aa",
        sidecars="5a",
        vector=vector("dog"),
    ),
    StoredPhoto(
        "/album/2019/05/b.jpg",
        caption="two cats sit on a sofa",
        tags=(Tag("cat", 0.5, "s"),),
        taken="2020-02-29T12:00:00",
        camera="NIKON D90",
        latitude=48.137,
        longitude=11.575,
        vector=vector("cat"),
    ),
    StoredPhoto("/album/2020/c.jpg", caption="waves", tags=(Tag("sea", 0.5, "s"),), vector=vector("beach")),
    StoredPhoto("/album/2020/IMG_0017.jpg", caption="", error="not an image", offline=True),
]


FILTERS = [
    ({"tags": ("DOG",)}, "a"),
    ({"tags": ("oma", "cafe\u0301")}, "a"),
    ({"tags": ("dog", "cat")}, ""),
    ({"folder": "2019"}, "ab"),
    ({"folder": "2019/05"}, "b"),
    ({"folder": "/album/2019"}, "ab"),
    ({"folder": "/album/2019/"}, "ab"),
    ({"folder": "/2019"}, ""),
    ({"folder": "20"}, ""),
    ({"folder": "a.jpg"}, ""),
    ({"since": "2020"}, "b"),
    ({"since": "2019-12-31", "until": "2019-12-31"}, "a"),
    ({"until": "2019"}, "a"),
    ({"until": "2020-02"}, "ab"),
    ({"until": "2020-02-28"}, "a"),
    ({"until": "9999"}, "ab"),
    ({"camera": "eos"}, "a"),
    ({"camera": "nikon d"}, "b"),
    ({"camera": "%"}, ""),
    ({"near": (52.5, 13.4, 10)}, "a"),
    ({"near": (52.5, 13.4, 1)}, ""),
    ({"near": (50, 12, 1000)}, "ab"),
    ({"near": (52.5, 13.4, 1000), "until": "2019"}, "a"),
]
"""Options of a filter, and the letters of the photographs that meet it."""

WORDS = [
    (["dog"], "a"),
    (["oma"], "a"),
    (["cafe"], "a"),
    (["CATS"], "b"),
    (["cat"], "b"),
    (["sea"], "c"),
    (["dog", "waves"], "ac"),
    (["small dog"], "a"),
    (["dog cafe"], ""),
    (["dog oma"], ""),
    (["sofa cat"], ""),
    (["dog small"], ""),
    (["unicorn"], ""),
]
"""Words and phrases, and the letters of the photographs whose texts have any of them."""


@pytest.fixture
def store(request, kind):
    with opened(kind, request) as made:
        made.upsert(ALBUM, encoder=OURS)
        yield made


def opened(kind, request):
    if kind == "postgres":
        url = request.getfixturevalue("postgres")
        return closing(open_store(url, table=f"photo_{uuid.uuid4().hex}"))
    return closing(QdrantStore(QdrantClient(":memory:")))


def names(store, found):
    ids = [one[0] if isinstance(one, tuple) else one for one in found]
    photos = store.photos(ids)
    return [Path(photos[photo].path).name for photo in ids]


def only(**conditions):
    return Conditions(Filter(**conditions))


pytestmark = [
    pytest.mark.parametrize("kind", TABLES),
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact"),
]


def test_a_store_has_what_the_protocol_names(store):
    assert isinstance(store, VectorStore)


def test_a_photograph_comes_back_as_it_was_put_in(store):
    ids = store.ids([photo.path for photo in ALBUM])
    assert set(ids) == {photo.path for photo in ALBUM}
    kept = store.photos(list(ids.values()))
    for photo in ALBUM:
        found = kept[ids[photo.path]]
        assert replace(found, vector=None) == replace(photo, vector=None)
        if photo.vector is None:
            assert found.vector is None
        else:
            np.testing.assert_allclose(found.vector, photo.vector, atol=1e-3)
    assert store.photos([2**100, 12345678]) == {}


def test_the_nearest_come_first_with_their_cosines(store):
    found = store.search(vector("dog beach"), 3)
    assert names(store, found)[2] == "b.jpg"
    assert found[0][1] == pytest.approx(0.5**0.5, abs=1e-2)
    assert found[2][1] < 0.1
    assert names(store, store.search(vector("dog"), 1)) == ["a.jpg"]
    assert len(store.search(vector("dog"), 10)) == 3
    assert dict(store.search(vector("dog beach"), 3, effort=100)) == pytest.approx(dict(found))


@pytest.mark.parametrize(("condition", "expected"), FILTERS)
def test_filters_are_exact(store, condition, expected):
    wanted = [f"{letter}.jpg" for letter in expected]
    assert sorted(names(store, store.newest(9, only(**condition)))) == wanted
    assert sorted(names(store, store.search(vector("dog"), 9, only(**condition)))) == wanted
    assert sorted(names(store, store.search(vector("dog"), 9, only(**condition), effort=100))) == wanted


def test_the_newest_come_first_and_those_without_a_time_last(store):
    assert names(store, store.newest(2)) == ["b.jpg", "a.jpg"]
    assert names(store, store.newest(3))[:2] == ["b.jpg", "a.jpg"]
    assert len(store.newest(3)) == 3
    assert sorted(names(store, store.newest(9))[2:]) == ["IMG_0017.jpg", "c.jpg"]


def test_words_stand_in_caption_tags_keywords_and_name(store):
    for words, expected in WORDS:
        assert sorted(names(store, store.search_words(words, 9))) == [f"{letter}.jpg" for letter in expected]
    assert names(store, store.search_words(["0017"], 9)) == ["IMG_0017.jpg"]
    assert names(store, store.search_words(["dog", "oma"], 9, every=True)) == ["a.jpg"]
    assert store.search_words(["dog", "waves"], 9, every=True) == []


def test_phrases_must_stand_there_and_unwanted_words_must_not(store):
    assert names(store, store.search(vector("cat"), 9, Conditions(phrases=("small dog",)))) == ["a.jpg"]
    found = store.search(vector("cat"), 9, Conditions(unwanted=("sofa", "sea")))
    assert names(store, found) == ["a.jpg"]
    first = store.search(vector("cat"), 1)[0][0]
    assert first not in dict(store.search(vector("cat"), 9, Conditions(other_than=(first,))))


def test_matched_words_are_told(store):
    ids = store.ids([photo.path for photo in ALBUM])
    first, second = ids[ALBUM[0].path], ids[ALBUM[1].path]
    assert store.matched_words(["dog", "sofa"], [first, second]) == {first: ("dog",), second: ("sofa",)}


@pytest.mark.parametrize(
    "text", ["'); DROP TABLE photo --", "a & b | !c:*", "{x}", "%s", "", "\0", "\ud800", "the", "a" * 10_000]
)
def test_nothing_that_is_typed_is_taken_for_syntax(store, text):
    assert isinstance(store.search_words([text], 9), list)
    assert isinstance(store.matched_words([text], list(store.ids([ALBUM[0].path]).values())), dict)
    store.search(vector("dog"), 9, Conditions(phrases=(text,), unwanted=(text,)))
    if text:
        store.newest(1, only(tags=(text,), camera=text, folder=f"x{text}"))
    assert store.count() == 4


def test_a_photograph_under_the_same_path_is_replaced(store):
    generation = store.generation()
    store.upsert([StoredPhoto(ALBUM[0].path, caption="a rocket", vector=vector("rocket"))], encoder=OURS)
    assert store.count() == 4
    assert store.generation() > generation
    assert names(store, store.search(vector("rocket"), 1)) == ["a.jpg"]
    assert store.search_words(["dog"], 9) == []
    store.upsert([StoredPhoto(ALBUM[0].path, caption="without a vector")])
    assert "a.jpg" not in names(store, store.search(vector("rocket"), 9))
    assert (store.count(), store.count(vectors=True)) == (4, 2)


def test_what_is_deleted_is_not_found(store):
    generation = store.generation()
    [photo] = store.ids([ALBUM[0].path]).values()
    assert store.delete([photo]) == 1
    assert store.delete([photo]) == 0
    assert store.count() == 3
    assert store.generation() > generation
    assert photo not in dict(store.search(vector("dog"), 9))
    assert store.search_words(["dog"], 9) == []


def test_a_renamed_photograph_keeps_everything_and_replaces_what_was_there(store):
    ids = store.ids([ALBUM[0].path, ALBUM[2].path])
    store.rename(ids[ALBUM[0].path], ALBUM[2].path)
    assert store.count() == 3
    [(path, photo)] = store.ids([ALBUM[0].path, ALBUM[2].path]).items()
    assert path == ALBUM[2].path
    assert store.photos([photo])[photo].caption == "a small dog"
    assert store.search(vector("dog"), 1)[0][0] == photo
    with pytest.raises(SearchIndexError, match="no photograph"):
        store.rename(12345678, "/x.jpg")


def test_names_that_are_not_utf_8_and_odd_texts_come_back(store):
    paths = [b"/odd/\xff\xfe.jpg", "/odd/ü\uef80.jpg".encode(), b"/odd/%s {x} '\n.jpg"]
    odd = [StoredPhoto(p.decode("utf-8", "surrogateescape"), caption="x\0y\ud800") for p in paths]
    store.upsert(odd)
    found = store.ids([photo.path for photo in odd])
    assert set(found) == {photo.path for photo in odd}
    assert {path for path, _ in store.known([], ["/odd"])} == set(found)
    assert len(store.newest(9, only(folder="odd"))) == 3


def test_what_is_known_is_below_a_folder_or_named(store):
    known = dict(store.known(["/album/2020/c.jpg", "/nowhere.jpg"], ["/album/2019"]))
    assert {Path(path).name for path in known} == {"a.jpg", "b.jpg", "c.jpg"}
    facts = known["/album/2019/a.jpg"]
    assert (facts.bytes, facts.mtime_ns, facts.digest, facts.has_vector) == (10, 2**62, "aa", True)
    assert facts.sidecars == "5a"
    assert (facts.error, facts.offline) == (None, False)
    [(_, broken)] = store.known(["/album/2020/IMG_0017.jpg"], [])
    assert (broken.has_vector, broken.error, broken.offline) == (False, "not an image", True)
    assert dict(store.known([], ["/album/20"])) == {}
    assert len(dict(store.known([], ["/"]))) == 4


def test_vectors_of_another_encoder_are_refused_and_nothing_of_their_group_is_kept(store):
    new = [StoredPhoto("/x.jpg"), StoredPhoto("/y.jpg", vector=vector("dog"))]
    for other in (StoreEncoder("words-2", DIMENSION), StoreEncoder(ENCODER.id, 8)):
        with pytest.raises(SearchIndexError, match="cannot be compared"):
            store.upsert(new, encoder=other)
    with pytest.raises(ConfigError, match="name its encoder"):
        store.upsert(new)
    assert store.count() == 4
    about = store.about()
    assert (about["encoder"], about["encoder_name"], about["dimension"]) == (ENCODER.id, "words", "16")


def test_facts_are_remembered(store):
    store.remember({"effort": "100", "mine": "x"})
    store.remember({"mine": "y"})
    assert (store.about()["effort"], store.about()["mine"]) == ("100", "y")
    assert store.about()["encoder"] == ENCODER.id


def test_photographs_without_vectors_come_first_and_vectors_later(request, kind):
    with opened(kind, request) as store:
        assert (store.count(), store.generation(), store.search(vector("dog"), 3)) == (0, 0, [])
        assert (store.newest(3), store.search_words(["x"], 3), store.sample(3)) == ([], [], [])
        store.upsert([ALBUM[3]])
        assert (store.count(), store.count(vectors=True)) == (1, 0)
        assert store.search(vector("dog"), 3) == []
        store.upsert(ALBUM[:1], encoder=OURS)
        assert names(store, store.search(vector("dog"), 3)) == ["a.jpg"]


def test_a_sample_has_vectors(store):
    assert set(store.sample(9)) == set(store.ids([photo.path for photo in ALBUM[:3]]).values())


# ---- what the index makes of it


def results():
    texts = [("2019/a.jpg", "a small dog"), ("2019/b.jpg", "a cat"), ("2020/c.jpg", "dog beach")]
    return [
        Result(
            f"/album/{name}",
            (40, 30),
            captions=(Caption(text, "c"),),
            tags=(Tag(text.split()[-1], 0.5, "s"),),
            extras={"embedding": written_embedding(ENCODER.id, vector(text))},
        )
        for name, text in texts
    ]


@pytest.fixture(params=["store", "sqlite"])
def index(request, kind, tmp_path):
    if request.param == "sqlite":
        if kind != "qdrant":
            pytest.skip("one run over SQLite is enough")
        with Index.open(tmp_path / "i.db", encoder=ENCODER) as sqlite:
            yield sqlite
        return
    with opened(kind, request) as store, StoreIndex(store, encoder=ENCODER) as made:
        yield made


def found(hits):
    return [Path(hit.path).name for hit in hits]


def test_an_index_finds_by_words_image_likeness_and_filter(index):
    assert index.add(results(), encoder_name="words") == 3
    assert len(index) == 3
    assert found(index.search("dog"))[0] == "a.jpg"
    first = index.search("dog")[0]
    assert (first.reason, first.words, first.tags[0].text) == ("both", ("dog",), "dog")
    assert found(index.search(like=first.id))[0] == "c.jpg"
    assert found(index.search('"small dog"')) == ["a.jpg"]
    assert "b.jpg" not in found(index.search("dog", without="cat"))
    assert found(index.search("dog", filter=Filter(folder="2020"))) == ["c.jpg"]
    assert sorted(found(index.search(filter=Filter(folder="2019")))) == ["a.jpg", "b.jpg"]
    assert found(index.search("dog", by="words"))[0] in {"a.jpg", "c.jpg"}
    assert index.search("dog", by="vectors")[0].words == ()
    assert index.remove(first.id, "/album/2019/b.jpg", "/nowhere.jpg") == 2
    assert found(index.search("dog")) == ["c.jpg"]
    with pytest.raises(SearchIndexError, match="has the id"):
        index.search(like=first.id)
    with pytest.raises(ConfigError, match="nothing to search"):
        index.search()


def test_more_than_there_are_can_be_asked_for(index):
    index.add(results(), encoder_name="words")
    assert len(index.search("dog", top_k=10**30)) == 3
    assert len(index.search(filter=Filter(tags=("dog",)), top_k=2**63)) == 1


def test_photographs_without_vectors_are_found_by_words(index):
    index.add([replace(one, extras={}) for one in results()])
    assert found(index.search('"small dog"')) == ["a.jpg"]
    with pytest.raises(SearchIndexError, match="it holds no vectors.*--by words"):
        index.search("dog", by="vectors")
    with pytest.raises(SearchIndexError, match="it holds no vectors"):
        index.search("dog", image=Image.new("RGB", (8, 8)))


def test_a_tag_in_another_language_is_found_by_its_concept_too(index):
    hund = Tag("Hund", 0.5, "s", concept="Dog", language="de")
    index.add([Result("/album/e.jpg", (40, 30), tags=(hund,))])
    [photo] = index.known(["/album/e.jpg"], []).values()
    index.change(gone=[], offline=[photo.id], back=[], facts=[])
    facts = PhotoFacts(10, 20, "5f", ("Anna",))
    index.change(gone=[], offline=[], back=[], facts=[(photo.id, "/album/e.jpg", facts)])
    for tag in ("hund", "DOG", "anna"):
        assert "e.jpg" in found(index.search(filter=Filter(tags=(tag,))))
    [hit] = [hit for hit in index.search("dog", by="words") if hit.path == "/album/e.jpg"]
    assert [tag.text for tag in hit.tags] == ["Hund", "Anna"]
    katze = Tag("Katze", 0.5, "s", concept="cat", language="de")
    index.add([Result("/album/e.jpg", (40, 30), tags=(katze,))])
    assert "e.jpg" not in found(index.search(filter=Filter(tags=("dog",))))


def test_another_encoder_is_refused_for_results_and_queries(index):
    index.add(results(), encoder_name="words")
    other = replace(results()[0], extras={"embedding": written_embedding("other", vector("dog"))})
    with pytest.raises(SearchIndexError, match="cannot be compared"):
        index.add([other])
    query = Index.open if isinstance(index, Index) else None
    asked = (
        query(index.path, encoder=Words("words-2"))
        if query
        else StoreIndex(index.store, encoder=Words("words-2"))
    )
    with pytest.raises(SearchIndexError, match="'words-1', and these are of 'words-2'"):
        asked.search("dog")
    if query:
        asked.close()


def test_vectors_of_another_length_name_both_lengths(index):
    index.add(results(), encoder_name="words")
    short = written_embedding(ENCODER.id, vector("dog")[:-1])
    with pytest.raises(
        SearchIndexError, match=f"have {DIMENSION} dimensions, and these have {DIMENSION - 1}"
    ):
        index.add([replace(results()[0], extras={"embedding": short})])


def test_a_group_of_results_by_two_encoders_is_refused(index):
    other = replace(results()[0], extras={"embedding": written_embedding("other", vector("dog"))})
    with pytest.raises(SearchIndexError, match="cannot be compared"):
        index.add([other, *results()[1:]])
    assert len(index) == 0


def test_a_second_run_follows_what_is_moved_gone_or_offline(index, tmp_path):
    root = tmp_path / "photos"
    (root / "more").mkdir(parents=True)
    for name, colour in (("a.png", "red"), ("b.png", "blue"), ("more/c.png", "green")):
        Image.new("RGB", (8, 8), colour).save(root / name)
    images = [str(root / name) for name in ("a.png", "b.png", "more/c.png")]
    index.add(
        (replace(result, source=image) for result, image in zip(results(), images, strict=True)),
        facts={image: read_facts(Path(image)) for image in images},
        encoder_name="words",
    )
    plan = make_plan(index, images, [root])
    assert (plan.unchanged, plan.due, plan.gone) == (3, [], [])

    (root / "a.png").rename(root / "z.png")
    (root / "b.png").unlink()
    (root / "more" / "c.png").rename(root / "more-c.png")
    (root / "more").rmdir()
    plan = make_plan(index, [str(root / "z.png")], [root])
    assert (len(plan.moved), len(plan.gone), len(plan.offline)) == (1, 1, 1)
    carry_out(index, plan)
    assert {Path(hit.path).name: hit.offline for hit in index.search("dog")} == {
        "z.png": False,
        "c.png": True,
    }
    assert found(index.search('"small dog"')) == ["z.png"]

    (root / "more").mkdir()
    (root / "more-c.png").rename(root / "more" / "c.png")
    plan = make_plan(index, [str(root / "z.png"), images[2]], [root])
    assert (plan.unchanged, len(plan.back)) == (2, 1)
    carry_out(index, plan)
    assert not any(hit.offline for hit in index.search("dog"))


def put_in(index, *images):
    index.add(
        (replace(results()[0], source=str(image)) for image in images),
        facts={str(image): read_facts(Path(image)) for image in images},
        encoder_name="words",
    )


def plan_of(index, root):
    plan = make_plan(index, sorted(map(str, root.rglob("*.png"))), [root])
    carry_out(index, plan)
    return len(plan.moved), len(plan.gone), len(plan.offline), len(plan.due)


def test_both_copies_in_a_folder_that_is_renamed_are_followed(index, tmp_path):
    (tmp_path / "old").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / "old" / name)
    put_in(index, *(tmp_path / "old").iterdir())
    (tmp_path / "old").rename(tmp_path / "new")
    assert plan_of(index, tmp_path) == (2, 0, 0, 0)
    assert plan_of(index, tmp_path) == (0, 0, 0, 0)
    assert len(index) == 2


def test_a_folder_that_was_indexed_under_its_new_name_first_leaves_no_ghost(index, tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8), "red").save(tmp_path / name / "a.png")
        put_in(index, tmp_path / name / "a.png")
    (tmp_path / "old" / "a.png").unlink()
    assert plan_of(index, tmp_path) == (0, 0, 1, 0)  # an empty folder may be a disk that is not mounted
    (tmp_path / "old").rmdir()
    assert plan_of(index, tmp_path) == (0, 1, 0, 0)


def test_a_path_with_dots_is_the_path_without_them(index, tmp_path, monkeypatch):
    for folder in ("photos", "other/deep"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (8, 8), "red").save(tmp_path / "photos" / "a.png")
    (tmp_path / "link").symlink_to(tmp_path / "other" / "deep")
    put_in(index, tmp_path / "photos" / "a.png")
    monkeypatch.chdir(tmp_path / "other")
    for root in ("../photos", "../other/../photos/", f"{tmp_path}/link/../../photos"):
        plan = make_plan(index, [f"{root}/a.png"], [Path(root)])
        assert (plan.unchanged, plan.due, plan.gone) == (1, [], [])
    assert index.remove("../photos/../photos/a.png") == 1


def test_a_sidecar_that_changes_alone_is_read_again_and_nothing_else_is_done(index, tmp_path, sidecar):
    images = [str(tmp_path / name) for name in ("a.png", "b.png", "c.png")]
    for image, colour in zip(images, ("red", "blue", "green"), strict=True):
        Image.new("RGB", (8, 8), colour).save(image)
    index.add(
        [replace(result, source=image) for result, image in zip(results(), images, strict=True)],
        encoder_name="words",
    )

    def updated():
        """The photographs of which a run reads the metadata; a second run reads none."""
        plan = make_plan(index, images, [tmp_path])
        carry_out(index, plan)
        again = make_plan(index, images, [tmp_path])
        assert (plan.due, plan.moved, plan.gone, again.touched, again.unchanged) == ([], [], [], [], 3)
        return [Path(image).name for _, image, _ in plan.touched]

    def tagged(word):
        return found(index.search(filter=Filter(tags=(word,))))

    assert updated() == []
    (tmp_path / "a.png.xmp").write_text(sidecar("Oma"))
    (tmp_path / "b.xmp").write_text(sidecar("Opa"))
    assert updated() == ["a.png", "b.png"]
    assert (tagged("oma"), tagged("opa")) == (["a.png"], ["b.png"])
    assert found(index.search("dog", by="vectors"))[0] == "a.png"
    assert found(index.search('"small dog"', filter=Filter(tags=("oma", "dog")))) == ["a.png"]

    (tmp_path / "a.png.xmp").write_text(sidecar("Anna"))
    assert updated() == ["a.png"]
    assert (tagged("oma"), tagged("anna"), tagged("opa")) == ([], ["a.png"], ["b.png"])
    (tmp_path / "b.CR2").write_bytes(b"raw")  # which b.xmp belongs to from now on
    assert updated() == ["b.png"]
    assert tagged("opa") == []
    (tmp_path / "b.CR2").unlink()
    (tmp_path / "a.png.xmp").unlink()
    (tmp_path / "c.png.xmp").write_bytes(b"<damaged")
    assert updated() == ["a.png", "b.png", "c.png"]
    assert (tagged("anna"), tagged("opa"), len(index)) == ([], ["b.png"], 3)


# ---- Qdrant's own engine, which the client's ":memory:" only imitates


def converted(condition):
    """A condition of qdrant-client as one of qdrant_edge, whose classes have the same names."""
    name = type(condition).__name__
    if name == "DatetimeRange":
        times = {"gte": condition.gte, "lt": condition.lt}
        return qdrant_edge.RangeDateTime(**{key: f"{at.isoformat()}Z" for key, at in times.items() if at})
    if isinstance(condition, list):
        return list(map(converted, condition))
    if not hasattr(type(condition), "model_fields"):
        return condition
    values = {key: converted(value) for key, value in condition if value is not None}
    kind = getattr(qdrant_edge, name)
    return kind(*values.values()) if name.startswith("Match") else kind(**values)


@pytest.fixture(params=["with indexes", "without"])
def engine(request, kind, tmp_path):
    if kind != "qdrant":
        pytest.skip("the engine of Qdrant")
    size = qdrant_edge.EdgeVectorParams(size=DIMENSION, distance=qdrant_edge.Distance.Cosine)
    shard = qdrant_edge.EdgeShard.create(str(tmp_path), qdrant_edge.EdgeConfig(vectors={"vector": size}))
    prefixes, types = qdrant_edge.KeywordIndexParams(prefix=True), qdrant_edge.PayloadSchemaType
    schemas = {"words": qdrant_edge.TextIndexParams(phrase_matching=True, scoring=True)}
    if request.param == "with indexes":
        schemas |= {"path": prefixes, "camera_folded": prefixes, "labels": types.Keyword}
        schemas |= {"taken": types.Datetime, "place": types.Geo}
    for name, schema in schemas.items():
        shard.update(qdrant_edge.UpdateOperation.create_field_index(name, schema))
    points = [
        qdrant_edge.Point(
            str(qdrant_points.id_of(photo.path)),
            {} if photo.vector is None else {"vector": photo.vector.tolist()},
            qdrant_points.payload_of(photo),
        )
        for photo in ALBUM
    ]
    shard.update(qdrant_edge.UpdateOperation.upsert_points(points))

    def found(query, wanted):
        request = qdrant_edge.QueryRequest(limit=9, query=query, filter=converted(wanted), with_payload=True)
        return sorted(Path(point.payload["path"]).name for point in shard.query(request))

    return found


def test_the_engine_of_qdrant_finds_the_same(engine):
    nearest = qdrant_edge.Query.Nearest(vector("dog").tolist(), using="vector")
    for condition, expected in FILTERS:
        wanted = [f"{letter}.jpg" for letter in expected]
        assert engine(nearest, qdrant_filters.filter_of(only(**condition))) == wanted, condition
    for words, expected in WORDS:
        terms = list(map(qdrant_points.lemmas_of, words))
        any_of = models.Filter(should=list(map(qdrant_filters.has_phrase, terms)))
        wanted = [f"{letter}.jpg" for letter in expected]
        assert engine(qdrant_edge.TextQuery("words", " ".join(terms)), any_of) == wanted, words
    assert engine(nearest, qdrant_filters.filter_of(Conditions(phrases=("small dog",)))) == ["a.jpg"]
    assert engine(nearest, qdrant_filters.filter_of(Conditions(unwanted=("sofa", "sea")))) == ["a.jpg"]
    start = models.FieldCondition(key="path", match=models.MatchPrefix(prefix="/album/2019/"))
    assert engine(nearest, models.Filter(must=[start])) == ["a.jpg", "b.jpg"]
