"""What the tab Search asks of an index, without Gradio."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest
from PIL import Image

from autotag import Pipeline
from autotag.demo.searched_index import Question, SearchedIndex, StorePlace, enlarged
from autotag.errors import AutotagError, ConfigError, ImageReadError, SearchIndexError
from autotag.records import Caption, Result
from autotag.relevance.embeddings import written_embedding
from autotag.search import Filter, Hit, Index, StoreIndex
from autotag.stages import EmbedImages

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
PHOTOGRAPHS = sorted(EXAMPLES.glob("c*.jpg"))
VECTOR = np.array([1, 0], dtype=np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("index") / "index.db"
    with Pipeline([EmbedImages()], encoder="clip-mini") as pipeline, Index.open(path) as index:
        index.add(pipeline.stream(PHOTOGRAPHS), encoder_name="clip-mini")
    return path


@pytest.fixture(scope="module")
def asked(made: Path) -> Iterator[SearchedIndex]:
    index = SearchedIndex(made)
    yield index
    index.close()


def test_it_finds_what_the_index_finds(made: Path, asked: SearchedIndex) -> None:
    image = (EXAMPLES / "cat.jpg").read_bytes()
    with Index.open(made) as index:
        for question, wanted in (
            (Question(words=" a cat "), index.search("a cat")),
            (Question(image=image, top=2), index.search(image=image, top_k=2)),
            (Question(words="coffee", image=image), index.search("coffee", image=image)),
            (Question(like=1, without="cup"), index.search(like=1, without="cup")),
            (Question(words="cat", by="words"), index.search("cat", by="words")),
            (Question(folder=EXAMPLES.name), index.search(filter=Filter(folder=EXAMPLES.name))),
            (Question(without="cat"), index.search(without="cat", filter=Filter())),
        ):
            hits, pictures = asked.search(question)
            assert hits == wanted
            assert len(hits) > 0
            assert all(isinstance(one, bytes) for one in pictures)
    assert asked.count() == len(PHOTOGRAPHS)


@pytest.mark.slow
def test_a_store_is_searched_and_survives_a_lost_connection(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked = SearchedIndex(StorePlace(postgres, "demo"))
    with pytest.raises(SearchIndexError, match="there is no such table"):
        asked.count()
    with (
        Pipeline([EmbedImages()], encoder="clip-mini") as pipeline,
        StoreIndex.open(postgres, table="demo") as index,
    ):
        index.add(pipeline.stream(PHOTOGRAPHS), encoder_name="clip-mini")
        hits, pictures = asked.search(Question(words="a cat", top=3))
        assert [hit.id for hit in hits] == [hit.id for hit in index.search("a cat", top_k=3)]
        assert all(isinstance(one, bytes) for one in pictures)
        assert list(tmp_path.rglob("store-pictures"))
        like = asked.search(Question(like=hits[0].id, top=3))[0]
        assert hits[0].id not in [hit.id for hit in like]
        with psycopg.connect(postgres, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'autotag' AND pid <> %s",
                (index.store.connection.info.backend_pid,),
            )
        assert asked.search(Question(words="a cat", top=3))[0] == hits
        assert asked.count() == len(PHOTOGRAPHS)
    asked.close()


def test_a_store_of_no_known_kind_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="postgresql://"):
        StorePlace("photos.db")


def test_filters_are_written_as_on_the_command_line() -> None:
    question = Question(
        tags="Dog, sea ,,", folder=" 2019 ", since="2019-05", camera="canon", near="52.5, 13.4, 10"
    )
    assert question.filter == Filter(
        tags=("Dog", "sea"), folder="2019", since="2019-05", camera="canon", near=(52.5, 13.4, 10.0)
    )
    assert Question(words="a cat", without="dog").filter is None
    for bad, reason in (
        (Question(since="May"), "2020-05-17"), (Question(near="Berlin"), "latitude,longitude,kilometres"),
        (Question(near="99,0,1"), "latitude"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=reason):
            _ = bad.filter


def test_what_cannot_be_answered_says_why(asked: SearchedIndex) -> None:
    for question, reason in (
        (Question(), "nothing to search for"), (Question(words='""'), "empty"),
        (Question(like=999), "id 999"), (Question(image=b"no image"), "cannot read image"),
        (Question(words="cat", top=0), "at least 1"),
    ):  # fmt: skip
        with pytest.raises(AutotagError, match=reason):
            asked.search(question)


def test_an_index_that_cannot_be_searched_says_why_and_is_read_once_it_can(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    asked = SearchedIndex(path)
    with pytest.raises(SearchIndexError, match="there is no such index; `autotag index FOLDER` makes one"):
        asked.search(Question(words="cat"))
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(SearchIndexError, match="damaged or not an index"):
        asked.count()
    path.unlink()
    with Index.open(path) as index, index.writing():
        pass
    assert asked.count() == 0
    with pytest.raises(SearchIndexError, match="no vectors"):
        asked.search(Question(words="cat"))

    other = tmp_path / "other.db"
    with Index.open(other) as index:
        extras = {"embedding": written_embedding("of somebody", VECTOR)}
        index.add([Result("/gone/a.jpg", (4, 4), captions=(Caption("a cat", "c"),), extras=extras)])
    other.replace(path)
    assert asked.count() == 1
    with pytest.raises(SearchIndexError, match="it does not say how to load its encoder 'of somebody'"):
        asked.search(Question(words="cat"))
    hits, pictures = asked.search(Question(words="cat", by="words"))
    assert [hit.path for hit in hits] == ["/gone/a.jpg"]
    assert pictures == ["no such file"]
    path.unlink()
    with pytest.raises(SearchIndexError, match="there is no such index"):
        asked.count()
    asked.close()


def test_a_vector_of_another_encoder_is_never_compared(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    with Index.open(path) as index:
        extras = {"embedding": written_embedding("of somebody", VECTOR)}
        index.add([Result("/gone/a.jpg", (4, 4), extras=extras)], encoder_name="clip-mini")
    asked = SearchedIndex(path)
    with pytest.raises(SearchIndexError, match="cannot be compared"):
        asked.search(Question(words="cat"))
    asked.close()


def hit(path: Path | str) -> Hit:
    return Hit(id=1, path=str(path), score=1.0, caption="", tags=(), size=(0, 0))


def test_a_photograph_is_shown_upright_and_small(tmp_path: Path) -> None:
    wide = Image.new("RGB", (3000, 1000))
    exif = wide.getexif()
    exif[0x0112] = 6
    wide.save(tmp_path / "a.jpg", exif=exif)
    assert enlarged(hit(tmp_path / "a.jpg")).size == (341, 1024)
    Image.new("RGB", (30, 10)).save(tmp_path / "b.png")
    assert enlarged(hit(tmp_path / "b.png")).size == (30, 10)
    for path in (tmp_path / "none.jpg", "https://example.com/a.jpg"):
        with pytest.raises(ImageReadError):
            enlarged(hit(path))
