"""What Qdrant's store says about servers that are not there, too old, or refuse."""

from __future__ import annotations

import json
import threading
import uuid
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from qdrant_client import QdrantClient, models

from autotag.errors import ConfigError, SearchIndexError
from autotag.records import Caption, Result
from autotag.relevance.embeddings import written_embedding
from autotag.search import Filter, Index, StoredPhoto, StoreEncoder, StoreIndex, open_store
from autotag.search.photo_facts import read_facts
from autotag.search.stores.qdrant import QdrantStore
from autotag.search.updating import carry_out, make_plan

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact"),
    pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection"),
]


@contextmanager
def server(status, body):
    """A server that answers everything alike, and keeps what was asked and with which key."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("api-key")))
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *given):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"qdrant://127.0.0.1:{running.server_port}", asked
        running.shutdown()


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(
        SearchIndexError, match=r"qdrant://127.0.0.1:1, collection photo: the server cannot be"
    ):
        open_store("qdrant://127.0.0.1:1")


def test_a_server_that_wants_a_key_gets_it_from_the_environment(monkeypatch):
    monkeypatch.setenv("QDRANT_API_KEY", "k3y")
    with server(401, {"status": "no"}) as (url, asked):
        with pytest.raises(SearchIndexError, match="set QDRANT_API_KEY") as caught:
            open_store(url)
        assert asked == [("/", "k3y")]
    assert "k3y" not in str(caught.value)


def test_an_old_server_is_refused():
    with (
        server(200, {"title": "qdrant", "version": "1.12.4"}) as (url, _),
        pytest.raises(SearchIndexError, match="Qdrant 1.12.4; update it to 1.20"),
    ):
        open_store(url)


def test_what_the_server_says_is_told():
    with (
        server(500, {"status": {"error": "disk full"}}) as (url, _),
        pytest.raises(SearchIndexError, match="disk full"),
    ):
        open_store(url)


@pytest.mark.parametrize(
    "url", ["qdrant://", "qdrant://:k3y@host", "qdrant://host/path", "qdrant://host?api_key=k3y"]
)
def test_a_url_with_other_parts_is_refused_and_not_told(url):
    with pytest.raises(ConfigError, match="QDRANT_API_KEY") as caught:
        open_store(url)
    assert "k3y" not in str(caught.value)


def test_a_collection_of_another_program_is_refused_and_left_alone():
    with closing(QdrantClient(":memory:")) as client:
        client.create_collection("photo", models.VectorParams(size=4, distance=models.Distance.DOT))
        with pytest.raises(SearchIndexError, match="another program made this collection"):
            QdrantStore(client)
        with pytest.raises(SearchIndexError, match="there is no such collection"):
            QdrantStore(client, "other", create=False)
        assert not client.collection_exists("other")
        with pytest.raises(ConfigError, match="table is empty"):
            QdrantStore(client, "")


def test_two_collections_keep_apart_and_the_client_stays_open():
    vector = np.eye(4, dtype=np.float32)[0]
    with closing(QdrantClient(":memory:")) as client:
        for name in ("one", "two"):
            store = QdrantStore(client, name)
            store.upsert([StoredPhoto(f"/{name}.jpg", vector=vector)], encoder=StoreEncoder(name, 4))
            store.close()
        again = QdrantStore(client, "one", create=False)
        assert (again.count(), again.about()["encoder"]) == (1, "one")


class KilledError(BaseException):
    """The program ended here."""


WRITING = (
    "create_collection", "create_payload_index", "update_collection", "create_vector_name",
    "delete_vector_name", "upsert", "delete",
)  # fmt: skip


@dataclass
class Mortal:
    """A client whose program is killed before or after one of its requests that write."""

    client: QdrantClient
    lives: int
    is_done: bool  # whether the server still carries the last request out
    asked: tuple[str, ...] = ()

    def __getattr__(self, name):
        wanted = getattr(self.client, name)
        if name not in WRITING:
            return wanted

        def counted(*args, **options):
            self.asked += (name,)
            if len(self.asked) <= self.lives:
                return wanted(*args, **options)
            if self.is_done:
                wanted(*args, **options)
            raise KilledError

        return counted


def indexed(index, album: Path) -> None:
    """What ``autotag index`` does, with a vector of each photograph's colour."""
    images = sorted(map(str, album.rglob("*.png")))
    plan = make_plan(index, images, [album])
    carry_out(index, plan)
    results = []
    for image in plan.due:
        colour = np.asarray(Image.open(image).getpixel((0, 0)), dtype=np.float32)
        vector = np.append(colour, np.float32(9)) / np.linalg.norm(np.append(colour, np.float32(9)))
        caption = Caption(f"number {int(colour.sum())}", "c")
        extras = {"embedding": written_embedding("colours", vector)}
        results.append(Result(image, (8, 8), captions=(caption,), extras=extras))
    facts = {image: read_facts(Path(image)) for image in plan.due}
    index.add(results, facts=facts, encoder_name="colours")


def told(index, album):
    """Everything that an index says about the photographs of an album, without ids."""
    return sorted(
        (hit.path, hit.caption, tuple(tag.text for tag in hit.tags), hit.size, hit.offline)
        for hit in index.search(filter=Filter(folder=str(album)), top_k=100)
    ) + sorted(
        (path, *(value for name, value in asdict(known).items() if name != "id"))
        for path, known in index.known([], [album]).items()
    )


@pytest.mark.slow
@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_a_run_that_is_killed_at_any_request_is_completed_by_the_next(tmp_path, sidecar, is_done):
    requests = 0
    for kills in range(100):
        album = tmp_path / f"{kills}" / "album"
        (album / "more").mkdir(parents=True)
        for number, name in enumerate(("a", "b", "c", "more/d", "more/e")):
            Image.new("RGB", (8, 8), (50 * number, 10, 20)).save(album / f"{name}.png")
        (album / "a.png.xmp").write_text(sidecar("Oma"))
        with closing(QdrantClient(":memory:")) as client:

            def run(lives, client=client, album=album):
                mortal = Mortal(client, lives, is_done)
                try:
                    with StoreIndex(QdrantStore(mortal)) as index:
                        indexed(index, album)
                except KilledError:
                    assert len(mortal.asked) == lives + 1
                return len(mortal.asked)

            requests = run(kills)
            run(10**6)
            (album / "a.png").rename(album / "z.png")
            (album / "b.png").unlink()
            (album / "more" / "d.png.xmp").write_text(sidecar("Oma"))
            (album / "more" / "e.png").rename(album / "more" / "y.png")
            Image.new("RGB", (8, 8), (1, 2, 3)).save(album / "c.png")
            requests = max(requests, run(kills))
            run(10**6)
            with Index.open(tmp_path / f"{kills}" / "index.db") as plain:
                indexed(plain, album)
                wanted = told(plain, album)
                assert len(wanted) == 8
                assert told(StoreIndex(QdrantStore(client)), album) == wanted, kills
        if kills > requests:
            break
    assert 10 < kills < 99


def test_the_indexes_of_a_collection_are_made_again_after_a_kill_and_only_then():
    with closing(QdrantClient(":memory:")) as client:
        whole = Mortal(client, 10**6, False)
        QdrantStore(whole)
        with closing(QdrantClient(":memory:")) as other:
            killed = Mortal(other, 3, False)
            with pytest.raises(KilledError):
                QdrantStore(killed)
            again = Mortal(other, 10**6, False)
            QdrantStore(again)
            made = whole.asked.count("create_payload_index")
            assert (made, again.asked.count("create_payload_index")) == (7, 7)
            third = Mortal(other, 10**6, False)
            QdrantStore(third)
            assert third.asked == ()


def test_a_vector_that_a_killed_run_made_for_another_encoder_is_replaced():
    with closing(QdrantClient(":memory:")) as client:
        QdrantStore(client)
        killed = QdrantStore(Mortal(client, 1, False))
        photo = StoredPhoto("/a.jpg", vector=np.eye(4, dtype=np.float32)[0])
        with pytest.raises(KilledError):
            killed.upsert([photo], encoder=StoreEncoder("small", 4))
        store = QdrantStore(client)
        store.upsert(
            [StoredPhoto("/b.jpg", vector=np.eye(8, dtype=np.float32)[0])], encoder=StoreEncoder("large", 8)
        )
        assert (store.about()["encoder"], store.count(vectors=True)) == ("large", 1)


def test_a_collection_of_the_first_version_has_no_sidecars():
    with closing(QdrantClient(":memory:")) as client:
        store = QdrantStore(client)
        store.upsert([StoredPhoto("/a.jpg", sidecars="5a")])
        [photo] = store.ids(["/a.jpg"]).values()
        client.delete_payload(store.table, ["sidecars"], [str(uuid.UUID(int=photo))])
        [(_, known)] = store.known([], ["/"])
        assert (known.sidecars, store.photos([photo])[photo].sidecars) == ("", "")
