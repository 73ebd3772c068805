"""What Qdrant's store says about servers that are not there, too old, or refuse."""

from __future__ import annotations

import json
import threading
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from autotag.errors import ConfigError, SearchIndexError
from autotag.search import StoredPhoto, StoreEncoder, open_store
from autotag.search.stores.qdrant import QdrantStore

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
        threading.Thread(target=running.serve_forever, daemon=True).start()
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
