"""Every tab of the page through ``gradio_client``, on loopback."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import autotag

sys.path.insert(0, str(Path(__file__).parent))  # for the module beside this one; tests are no package

gradio_client = pytest.importorskip(
    "gradio_client",
    reason="needs gradio, which wants an environment of its own: pip install 'autotag-images[ui,test]'",
)
pytest.importorskip("gradio")
pytestmark = [pytest.mark.ui, pytest.mark.filterwarnings("ignore")]

from demo_server import Demo  # noqa: E402

from autotag.demo.searched_index import Question, SearchedIndex, StorePlace  # noqa: E402
from autotag.metadata import read_packet  # noqa: E402
from autotag.search import Hit, Index, StoreIndex  # noqa: E402
from autotag.stages import EmbedImages  # noqa: E402

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
CAT = EXAMPLES / "cat.jpg"
TOKEN = "a-token-of-enough-characters"  # noqa: S105 - of these tests


OUTSIDE: list[str] = []


def _watch(event: str, args: tuple[object, ...]) -> None:
    if event == "socket.connect" and isinstance(args[1], tuple):
        host = str(args[1][0])
        if not host.startswith("127.") and host not in ("::1", "localhost"):
            OUTSIDE.append(host)


@pytest.fixture(scope="module")
def pipeline() -> Iterator[autotag.Pipeline]:
    sys.addaudithook(_watch)
    with autotag.load("mini") as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("index") / "index.db"
    with autotag.Pipeline([EmbedImages()], encoder="clip-mini") as embedding, Index.open(path) as made:
        made.add(embedding.stream(sorted(EXAMPLES.glob("*.jpg"))), encoder_name="clip-mini")
    return path


@pytest.fixture(scope="module")
def demo(pipeline: autotag.Pipeline, index: Path) -> Iterator[Demo]:
    with Demo(pipeline, index=SearchedIndex(index)) as demo:
        yield demo


@pytest.fixture(scope="module")
def client(demo: Demo):
    return gradio_client.Client(demo.url, verbose=False)


def file(path: Path):
    return gradio_client.handle_file(str(path))


def test_the_tab_tag_shows_what_the_command_line_prints_and_the_cut_moves(client, pipeline) -> None:
    caption, table, _, slider, most, record, *_ = client.predict(file(CAT), "mini", api_name="/tag")
    result = pipeline(CAT)
    assert caption == result.caption
    assert [row[0] for row in table["data"]] == [tag.text for tag in result.tags]
    assert [row[1] for row in table["data"]] == [tag.score for tag in result.tags]
    shown = [row[1] for row in table["metadata"]["display_value"]]
    assert shown == [f"{tag.score:.3f}" for tag in result.tags]
    assert re.search("in the caption '.*cat'", table["data"][0][2])
    assert "filter_tags" in table["data"][0][3]
    assert most == 7
    assert len(record["tags"]) > len(result.tags)
    assert slider["minimum"] < slider["value"] < slider["maximum"]
    wider, _ = client.predict(slider["minimum"], 100, api_name="/cut")
    assert len(wider["data"]) == len(record["tags"])
    none, _ = client.predict(slider["maximum"], 100, api_name="/cut")
    assert none["data"] == []


def test_the_tab_analyze_shows_five_labels_of_each_vocabulary(client) -> None:
    *tables, record = client.predict(file(CAT), "mini", api_name="/analyze")
    assert [table["headers"] for table in tables] == [["label", "cosine"]] * 5
    assert {len(table["data"]) for table in tables} == {5}
    assert tables[4]["data"][0][0] == "tabby cat" == record["rankings"]["flavors"][0]["text"]


@pytest.mark.parametrize("mode", ["best", "fast", "classic", "negative"])
def test_the_tab_prompt_writes_what_the_command_line_writes(client, mode: str) -> None:
    prompt, _ = client.predict(file(CAT), mode, "mini", api_name="/prompt")
    with autotag.load("mini", assemble_prompt={"mode": mode}) as pipeline:
        assert prompt == pipeline(CAT).prompt


def test_a_batch_gives_csv_json_lines_and_sidecars_and_bad_files_stop_nothing(client, tmp_path: Path) -> None:
    upload = tmp_path / "photos.zip"
    with zipfile.ZipFile(upload, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(CAT, "2024/cat.jpg")
        archive.writestr("../evil.jpg", CAT.read_bytes())
        archive.writestr("cut.jpg", CAT.read_bytes()[:4000])
        archive.writestr("bomb.png", bytes(60_000_000))
    files = [file(upload), file(EXAMPLES / "coffee.jpg")]
    status, table, downloads = client.predict(files, "mini", api_name="/batch")
    assert "5 of 5 done, 3 failed. Finished." in status
    assert [(row[0], bool(row[3])) for row in table["data"]] == [
        ("2024/cat.jpg", False), ("photos.zip/../evil.jpg", True), ("cut.jpg", True),
        ("photos.zip/bomb.png", True), ("coffee.jpg", False),
    ]  # fmt: skip
    csv, jsonl, sidecars = map(Path, downloads)
    assert csv.read_text(encoding="utf-8").startswith("image,caption,tags")
    rows = [json.loads(line) for line in jsonl.read_text(encoding="utf-8").splitlines()]
    assert rows[0]["source"] == "2024/cat.jpg"
    with zipfile.ZipFile(sidecars) as archive:
        assert archive.namelist() == ["2024/cat.jpg.xmp", "coffee.jpg.xmp"]
        packet = read_packet(archive.read("2024/cat.jpg.xmp"))
    assert [tag.text for tag in packet.machine_tags] == [tag["text"] for tag in rows[0]["tags"]]


def test_a_page_whose_name_points_at_this_machine_sees_nothing(demo) -> None:
    data = {"data": ["a cat", None, "", "", "", "", "", "", "", "", "both", 20]}
    for headers, status in (({"host": "evil.example:8120"}, 421), ({"origin": "http://evil.example"}, 403)):
        page = httpx.get(demo.url, headers=headers)
        search = httpx.post(f"{demo.url}gradio_api/call/search", json=data, headers=headers)
        assert (page.status_code, search.status_code) == (status, status)
        assert "event_id" not in search.text
    assert httpx.get(demo.url).status_code == 200


def searched(client, *, words="", image=None, like="", since="", by="both", top=20):
    return client.predict(words, image, like, "", "", "", since, "", "", "", by, top, api_name="/search")


def test_the_tab_search_finds_what_the_command_line_finds(client, index: Path) -> None:
    gallery, status, record = searched(client, words="a cat", image=file(CAT), top=4)
    with Index.open(index) as opened:
        hits = opened.search("a cat", image=CAT, top_k=4)
    assert [one["file"] for one in record] == [hit.path for hit in hits]
    assert Path(record[0]["file"]) == CAT
    assert [one["caption"] for one in gallery["value"]] == [Path(hit.path).name for hit in hits]
    assert "4 found" in status
    like = searched(client, like=f"#{record[0]['id']}")[2]
    assert record[0]["id"] not in [one["id"] for one in like]
    assert searched(client, since="2999")[1:] == ('<p role="status">nothing found</p>', [])
    for asked, reason in (
        ({}, "nothing to search for"), ({"like": "cat"}, "not the number of a photograph"),
        ({"like": "9" * 40}, "not the number of a photograph"), ({"like": "9" * 30}, "id 9999"),
        ({"words": "a cat", "since": "May"}, "2020-05-17"), ({"words": "a cat", "by": "luck"}, "luck"),
    ):  # fmt: skip
        with pytest.raises(gradio_client.exceptions.AppError, match=reason):
            searched(client, **asked)


@pytest.mark.slow
def test_a_store_is_searched_as_a_file_is(pipeline, postgres: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with (
        autotag.Pipeline([EmbedImages()], encoder="clip-mini") as embedding,
        StoreIndex.open(postgres, table="page") as store,
    ):
        store.add(embedding.stream([CAT, EXAMPLES / "coffee.jpg"]), encoder_name="clip-mini")
    with Demo(pipeline, index=SearchedIndex(StorePlace(postgres, "page"))) as demo:
        client = gradio_client.Client(demo.url, verbose=False)
        gallery, status, record = searched(client, words="a cat")
        assert [Path(one["file"]) for one in record] == [CAT, EXAMPLES / "coffee.jpg"]
        assert (len(gallery["value"]), "2 found" in status) == (2, True)
        like = searched(client, like=f"#{record[0]['id']}")[2]
        assert [Path(one["file"]) for one in like] == [EXAMPLES / "coffee.jpg"]


class LargeIds:
    """An index with the ids of Qdrant, which have 128 bits."""

    def __init__(self) -> None:
        self.asked: list[int | None] = []

    def count(self) -> int:
        return 1

    def search(self, question: Question) -> tuple[list[Hit], list[str]]:
        self.asked.append(question.like)
        return [Hit(id=2**128 - 1, path="/a.jpg", score=1.0, caption="", tags=(), size=(1, 1))], ["gone"]


def test_ids_of_128_bits_reach_the_page_and_come_back(pipeline) -> None:
    index = LargeIds()
    with Demo(pipeline, index=index) as demo:
        client = gradio_client.Client(demo.url, verbose=False)
        record = searched(client, words="a cat")[2]
        assert record[0]["id"] == str(2**128 - 1)
        searched(client, like=record[0]["id"])
    assert index.asked == [None, 2**128 - 1]


def test_an_index_that_is_not_there_is_told_in_the_page(pipeline, tmp_path: Path) -> None:
    with Demo(pipeline, index=SearchedIndex(tmp_path / "none.db")) as demo:
        client = gradio_client.Client(demo.url, verbose=False)
        with pytest.raises(gradio_client.exceptions.AppError, match="there is no such index"):
            searched(client, words="a cat")
        assert not (tmp_path / "none.db").exists()


def test_photographs_are_only_served_as_pictures_of_what_was_found(demo: Demo, client, index: Path) -> None:
    record = searched(client, words="a cat")[2]
    with httpx.Client(base_url=demo.url, timeout=30, trust_env=False) as asking:
        for path in (record[0]["file"], index, f"{index}-pictures", "/etc/passwd"):
            assert asking.get(f"gradio_api/file={path}").status_code == 403


def test_what_cannot_be_answered_says_why(client, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    for args, name, reason in (
        ((file(tmp_path / "text.jpg"), "mini"), "/tag", "cannot be read"),
        ((None, "mini"), "/tag", "Choose an image"),
        ((file(CAT), "huge"), "/tag", "no preset"),
        ((file(CAT), "silly", "mini"), "/prompt", "mode"),
        (([], "mini"), "/batch", "Choose images"),
    ):
        with pytest.raises(gradio_client.exceptions.AppError, match=reason):
            client.predict(*args, api_name=name)


def test_urls_and_paths_of_the_server_are_not_read(demo: Demo) -> None:
    with httpx.Client(base_url=demo.url, timeout=30, trust_env=False) as client:
        for path, status in (("http://example.com/a.png", 403), ("/etc/passwd", 200)):
            body = {
                "data": [{"path": path, "meta": {"_type": "gradio.FileData"}}, "mini"],
                "session_hash": "x",
            }
            assert client.post("gradio_api/call/tag", json=body).status_code == status
        event = client.post("gradio_api/call/tag", json=body).json()["event_id"]
        assert "event: error" in client.get(f"gradio_api/call/tag/{event}").text
        assert client.get("gradio_api/file=http://example.com/a.png").status_code == 403
        assert client.get("gradio_api/file=/etc/passwd").status_code == 403
        assert client.post("gradio_api/call/tag", content=b"x" * 2_000_000).status_code == 413
        too_large = client.post("gradio_api/upload", files={"files": ("a.png", bytes(4 * 2**20 + 1))})
        assert too_large.status_code == 413


def test_with_tokens_a_visitor_signs_in_and_the_api_still_wants_its_token(pipeline) -> None:
    with Demo(pipeline, tokens=(TOKEN,)) as demo:
        with httpx.Client(base_url=demo.url, timeout=30, trust_env=False) as client:
            assert client.get("config").status_code == 401
            assert client.post("gradio_api/call/tag", json={"data": [None, "mini"]}).status_code == 401
            assert client.post("gradio_api/upload", files={"files": ("a.png", b"x")}).status_code == 401
            assert client.post("login", data={"username": "me", "password": "wrong"}).status_code == 400
            assert client.get(demo.url.replace("/demo/", "/v1/models")).status_code == 401
        signed_in = gradio_client.Client(demo.url, auth=("me", TOKEN), verbose=False)
        assert signed_in.predict(file(CAT), "mini", api_name="/tag")[0] == "a close up of a tabby"


def test_the_page_names_nothing_elsewhere_and_the_server_calls_nobody(demo: Demo) -> None:
    with httpx.Client(base_url=demo.url, timeout=30, trust_env=False) as client:
        answer = client.get("")
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "fonts.googleapis" not in answer.text
        assert client.get("config").json()["analytics_enabled"] is False
    assert OUTSIDE == []
