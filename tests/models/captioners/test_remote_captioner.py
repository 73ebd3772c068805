"""A captioner behind a URL gives captions in order, or says what is wrong with which server."""

from __future__ import annotations

import ast
import io
import json
import pickle
import socket
import ssl
import threading
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from PIL import Image

from autotag.errors import ConfigError, ModelError, ModelUnavailableError, StageBrokenError, UnknownNameError
from autotag.models.captioners import remote_captioner
from autotag.models.captioners.remote_captioner import RemoteCaptioner
from autotag.models.pool import ModelPool
from autotag.pipeline import presets
from autotag.pipeline.pipeline import Pipeline
from autotag.protocols import Captioner, CaptionOptions
from autotag.records import Caption
from autotag.stages import CaptionImages
from autotag.testing import check_captioner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXAMPLES = Path(__file__).resolve().parents[3] / "docs" / "examples"
TOKEN = "a-secret-token"  # noqa: S105 - of a server that the tests start


def stand_in(content: bytes, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Says the size and the first pixel of an image, once for each caption asked for."""
    image = Image.open(io.BytesIO(content))
    if options["prompt"] == "refuse":
        raise ValueError("this server takes no prompt")
    if options["prompt"] == "fail":
        raise RuntimeError("out of memory")
    words = f"{image.format} {image.width}x{image.height} {image.getpixel((0, 0))}"
    return [{"text": f"{words}  {n}", "score": -float(n)} for n in range(options["num_captions"])]


@pytest.fixture
def serve(import_file: Callable[[Path], ModuleType]) -> Iterator[Callable[..., str]]:
    """``serve(token=...)`` starts a server of docs/examples/caption_server.py and answers its URL."""
    module = import_file(EXAMPLES / "caption_server.py")
    running: list[tuple[Any, threading.Thread]] = []

    def start(caption: Any = stand_in, token: str | None = None) -> str:
        server = module.make_server(caption, model="stand-in", port=0, token=token)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}{module.PATH}"

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def rude() -> Iterator[Callable[..., str]]:
    """``rude(answer, ...)``: each connection gets the next answer, the last ever again; None hangs up."""
    listening = socket.create_server(("127.0.0.1", 0))
    answers: list[Any] = []
    over = threading.Event()
    connections: list[socket.socket] = []

    def run() -> None:
        while True:
            client, _ = listening.accept()
            connections.append(client)
            if over.is_set():
                return
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            threading.Thread(target=reply, args=(client, answer), daemon=True).start()

    def reply(client: socket.socket, answer: Any) -> None:
        try:
            _read_request(client)
            if callable(answer):
                answer(client)
            elif answer is not None:
                client.sendall(answer)
            client.close()
        except OSError:
            pass  # the captioner hung up, as it should

    thread = threading.Thread(target=run)
    thread.start()

    def start(*given: Any) -> str:
        answers.extend(given)
        return f"http://127.0.0.1:{listening.getsockname()[1]}/caption"

    start.connections = connections  # type: ignore[attr-defined]
    yield start
    over.set()
    with closing(socket.create_connection(listening.getsockname())):
        thread.join()
    for client in connections:
        client.close()
    listening.close()


def _read_request(client: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        request += _some(client)
    head, _, body = request.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    length = int(lines[0].split(b":")[1]) if lines else 0  # none with HEAD
    while len(body) < length:
        body += _some(client)
    return head


def _some(client: socket.socket) -> bytes:
    chunk = client.recv(65536)
    if not chunk:
        raise OSError("hung up")
    return chunk


def told(answer: object, status: str = "200 OK", *headers: str) -> bytes:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


CAPTION = told({"captions": [{"text": "a cat"}]})


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_captioner, "_FIRST_WAIT", 0.01)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def _pictures(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (10 + n, 20), (n, 2 * n, 0)) for n in range(count)]


def _failure(url: str, kind: type[ModelError] = ModelError, **settings: Any) -> str:
    with pytest.raises(ModelError) as caught:
        RemoteCaptioner(url, **{"retries": 0, **settings}).caption(_pictures(1), CaptionOptions())
    assert type(caught.value) is kind
    assert url in str(caught.value)
    return str(caught.value)


def test_it_keeps_the_contract_of_captioners(serve: Callable[..., str]) -> None:
    captioner = RemoteCaptioner(serve())

    assert isinstance(captioner, Captioner)
    check_captioner(captioner)


@pytest.mark.parametrize("concurrency", [1, 3, 50])
def test_captions_come_in_the_order_of_their_images(serve: Callable[..., str], concurrency: int) -> None:
    pictures = _pictures(12)

    rows = RemoteCaptioner(serve(), concurrency=concurrency).caption(
        pictures, CaptionOptions(num_beams=2, num_captions=2)
    )

    assert rows == [
        [Caption(f"PNG {10 + n}x20 ({n}, {2 * n}, 0) {rank}", "stand-in", -float(rank)) for rank in range(2)]
        for n in range(12)
    ]


def test_no_more_requests_at_a_time_than_allowed(rude: Any) -> None:
    at_once, most, lock = 0, 0, threading.Lock()

    def slowly(client: socket.socket) -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.05)
        with lock:
            at_once -= 1
        client.sendall(CAPTION)

    RemoteCaptioner(rude(slowly), concurrency=2).caption(_pictures(6), CaptionOptions())

    assert most == 2


def test_every_option_is_sent(serve: Callable[..., str]) -> None:
    sent = []

    def caption(content: bytes, options: dict[str, Any]) -> list[dict[str, Any]]:
        sent.append(options)
        return [{"text": "a cat"}] * options["num_captions"]

    options = CaptionOptions("a photo of", 12, num_captions=2, do_sample=True, top_p=0.9, seed=7)
    captioner = RemoteCaptioner(serve(caption))
    captioner.caption(_pictures(1), options)

    assert sent == [asdict(options)]
    assert set(sent[0]) == captioner.extra_options


def test_a_large_image_is_sent_smaller_in_its_own_shape(serve: Callable[..., str]) -> None:
    image = Image.new("RGB", (400, 100))

    [[caption]] = RemoteCaptioner(serve(), max_side=100).caption([image], CaptionOptions())

    assert caption.text.startswith("PNG 100x25")
    assert image.size == (400, 100)


def test_the_source_of_a_caption_is_the_model_or_else_the_name(serve: Callable[..., str], rude: Any) -> None:
    sources = [
        RemoteCaptioner(url, "mine").caption(_pictures(1), CaptionOptions())[0][0].source
        for url in (serve(), rude(CAPTION))
    ]

    assert sources == ["stand-in", "mine"]


def test_a_pipeline_captions_by_the_name_of_a_url_and_comes_back_from_its_config(
    serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPTION_TOKEN", TOKEN)
    name = f"remote:{serve(token=TOKEN)}#token_env=CAPTION_TOKEN&timeout=5"
    with Pipeline([CaptionImages(name)], encoder=None) as pipeline:
        result = pipeline(_pictures(1)[0])
        written = presets.to_config(pipeline)

    assert result.caption == "PNG 10x20 (0, 0, 0) 0"
    assert TOKEN not in json.dumps(written)
    with presets.from_config(written) as again:
        assert again(_pictures(1)[0]).captions == result.captions


def test_it_is_pickled_without_its_token(monkeypatch: pytest.MonkeyPatch, serve: Callable[..., str]) -> None:
    monkeypatch.setenv("CAPTION_TOKEN", TOKEN)
    captioner = RemoteCaptioner(serve(token=TOKEN), token_env="CAPTION_TOKEN")
    captioner.caption(_pictures(1), CaptionOptions())

    pickled = pickle.dumps(captioner)

    assert TOKEN.encode() not in pickled
    assert TOKEN not in repr(captioner)
    assert pickle.loads(pickled) == captioner


@pytest.mark.parametrize("brought", [None, "another-token"])
def test_a_wrong_token_is_told_and_not_shown(
    serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch, brought: str | None
) -> None:
    monkeypatch.setenv("CAPTION_TOKEN", brought or "")
    message = _failure(
        serve(token=TOKEN), ModelUnavailableError, token_env="CAPTION_TOKEN" if brought else None
    )

    assert "401 Unauthorized: the token is missing or wrong" in message
    assert "another-token" not in message


def test_a_token_may_go_in_another_header(rude: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", TOKEN)
    captioner = RemoteCaptioner("http://localhost/caption", token_env="KEY", header="X-Api-Key")

    assert captioner._headers()["X-Api-Key"] == TOKEN
    assert "Authorization" not in captioner._headers()


@pytest.mark.parametrize(("value", "state"), [(None, "is not set"), ("", "is not set"), ("a\nb", "no token")])
def test_a_token_that_is_none_is_told_when_the_model_loads(
    monkeypatch: pytest.MonkeyPatch, serve: Callable[..., str], value: str | None, state: str
) -> None:
    monkeypatch.delenv("CAPTION_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("CAPTION_TOKEN", value)

    with pytest.raises(ConfigError, match=f"CAPTION_TOKEN.*{state}"):
        ModelPool(device="cpu").captioner(f"remote:{serve()}#token_env=CAPTION_TOKEN")


def _closed_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        port: int = closed.getsockname()[1]
    return port


def test_a_server_that_is_down_is_told_when_the_model_loads() -> None:
    url = f"http://127.0.0.1:{_closed_port()}/caption"

    with pytest.raises(ModelUnavailableError, match="cannot be reached.*tried 2 times") as caught:
        ModelPool(device="cpu").captioner(f"remote:{url}#retries=1")
    assert url in str(caught.value)


def test_a_host_that_nobody_knows_is_told() -> None:
    assert "cannot be reached" in _failure("http://no-such-host.invalid/caption", ModelUnavailableError)


def test_a_server_that_is_down_while_captioning_is_tried_again(rude: Any) -> None:
    url = rude(None, None, CAPTION)

    [[caption]] = RemoteCaptioner(url, retries=2).caption(_pictures(1), CaptionOptions())

    assert caption.text == "a cat"
    assert len(rude.connections) == 3


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_tried_again(rude: Any, status: int) -> None:
    url = rude(told({"error": "busy"}, f"{status} Busy"), CAPTION)

    assert RemoteCaptioner(url).caption(_pictures(1), CaptionOptions())[0][0].text == "a cat"


def test_the_tries_come_to_an_end(rude: Any) -> None:
    message = _failure(rude(told({"error": "all full"}, "503 Busy")), ModelUnavailableError, retries=2)

    assert "answers 503 Busy: all full (tried 3 times)" in message
    assert len(rude.connections) == 3


def test_each_wait_is_logged_without_the_query(rude: Any, caplog: pytest.LogCaptureFixture) -> None:
    url = rude(told({"error": "all full"}, "503 Busy"), None, CAPTION)

    RemoteCaptioner(f"{url}?key=secret", retries=2).caption(_pictures(1), CaptionOptions())

    first, second = (record.getMessage() for record in caplog.records)
    assert first == (f"remote captioner {url}: it answers 503 Busy: all full; try 2 of 3 follows in 0.01 s")
    assert "try 3 of 3 follows in 0.02 s" in second


def test_a_server_says_when_to_come_back(rude: Any) -> None:
    url = rude(told({}, "503 Busy", "Retry-After: 1"), CAPTION)

    started = time.monotonic()
    RemoteCaptioner(url).caption(_pictures(1), CaptionOptions())

    assert time.monotonic() - started >= 1


@pytest.mark.parametrize("header", [None, "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "-3"])
def test_another_word_on_when_to_come_back_counts_as_none(header: str | None) -> None:
    assert remote_captioner._seconds(header) == 0.0
    assert remote_captioner._seconds("99999") == remote_captioner._LONGEST_WAIT


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 Bad Request", ModelError),
        ("500 Internal Server Error", ModelError),
        ("404 Not Found", ModelUnavailableError),
        ("405 Method Not Allowed", ModelUnavailableError),
    ],
)
def test_what_a_server_refuses_is_not_asked_again(rude: Any, status: str, kind: type[ModelError]) -> None:
    message = _failure(rude(told({"error": "because\nof this"}, status)), kind, retries=5)

    assert f"answers {status}: because of this" in message
    assert len(rude.connections) == 1


def test_the_reason_of_a_server_of_another_protocol_reaches_the_user(rude: Any) -> None:
    refusal = {"error": {"message": "messages: field required", "type": "invalid_request_error"}}
    assert "answers 400 Bad Request: messages: field required" in _failure(
        rude(told(refusal, "400 Bad Request"))
    )


@pytest.mark.parametrize(
    "body", [b"", b"<html>oops</html>", b"[]", b'{"error": 3}', b'{"error": {"code": 3}}', b"\xff"]
)
def test_a_refusal_without_a_reason_is_told_by_its_status(rude: Any, body: bytes) -> None:
    assert _failure(rude(told(body, "500 Oops"))).endswith("it answers 500 Oops.")


def test_the_reason_of_the_stand_in_reaches_the_user(serve: Callable[..., str]) -> None:
    for prompt, reason in (("refuse", "422.*takes no prompt"), ("fail", "500.*RuntimeError: out of memory")):
        with pytest.raises(ModelError, match=reason):
            RemoteCaptioner(serve()).caption(_pictures(1), CaptionOptions(prompt=prompt))


@pytest.mark.slow
def test_a_slow_server_is_left_and_not_asked_again(rude: Any) -> None:
    started = time.monotonic()
    message = _failure(rude(lambda client: time.sleep(10)), ModelUnavailableError, timeout=2, retries=5)

    assert "no complete answer within 2 s" in message
    assert time.monotonic() - started < 10
    assert len(rude.connections) == 1


def test_a_server_that_drips_is_left_in_time(rude: Any) -> None:
    def drip(client: socket.socket) -> None:
        for byte in CAPTION:
            client.sendall(bytes([byte]))
            time.sleep(0.05)

    assert "within 0.3 s" in _failure(rude(drip), ModelUnavailableError, timeout=0.3)


ANSWERS = {
    "no JSON": (b"a cat", "not JSON"),
    "JSON cut short": (b'{"captions": [', "not JSON"),
    "nested without end": (b"[" * 100_000, "not JSON"),
    "no object": (["a cat"], "no list of objects called 'captions'"),
    "no captions": ({"caption": "a cat"}, "no list of objects called 'captions'"),
    "captions that are no objects": ({"captions": ["a cat"]}, "no list of objects called 'captions'"),
    "no text": ({"captions": [{"score": 1}]}, "a caption without text"),
    "empty text": ({"captions": [{"text": " \n"}]}, "an empty caption"),
    "no captions at all": ({"captions": []}, "num_captions=1, and it gives 0"),
    "too many captions": ({"captions": [{"text": "a"}, {"text": "b"}]}, "num_captions=1, and it gives 2"),
    "a score in words": ({"captions": [{"text": "a", "score": "high"}]}, "score is 'high'"),
    "a score that is not a number": (b'{"captions": [{"text": "a", "score": NaN}]}', "score is nan"),
    "empty": (b"", "not JSON"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_that_is_none_is_told(rude: Any, case: str) -> None:
    answer, reason = ANSWERS[case]

    assert reason in _failure(rude(told(answer)), retries=5)
    assert len(rude.connections) == 1


@pytest.mark.parametrize(
    "answer",
    [
        told(b"x" * 2_000_000),
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2_000_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 900000000000\r\n\r\n",
    ],
    ids=["told", "untold", "claimed"],
)
def test_a_huge_answer_is_not_read(rude: Any, answer: bytes) -> None:
    assert "more than 1000000" in _failure(rude(answer))


def test_an_answer_cut_short_is_asked_for_again(rude: Any) -> None:
    url = rude(CAPTION[:-3], CAPTION)

    assert RemoteCaptioner(url).caption(_pictures(1), CaptionOptions())[0][0].text == "a cat"


def test_what_is_no_http_is_told(rude: Any) -> None:
    assert "illegal status line" in _failure(
        rude(b"220 smtp.example.org ESMTP\r\n\r\n"), ModelUnavailableError
    )


def test_a_redirect_is_told_and_not_followed(rude: Any) -> None:
    answer = told({}, "307 Elsewhere", "Location: https://user:pw@example.org/caption?key=1")

    message = _failure(rude(answer), ModelUnavailableError)

    assert "redirects to https://example.org/caption;" in message


def test_the_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[bytes] = []

    def answer(listening: socket.socket) -> None:
        for reply in (told({}, "405 Method Not Allowed"), CAPTION):
            client, _ = listening.accept()
            with closing(client):
                heads.append(_read_request(client))
                client.sendall(reply)

    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        monkeypatch.setenv("HTTP_PROXY", f"http://me:pw@127.0.0.1:{listening.getsockname()[1]}")
        thread = threading.Thread(target=answer, args=(listening,))
        thread.start()
        captioner = RemoteCaptioner("http://captions.invalid/caption")
        captioner.check_reachable()
        [[caption]] = captioner.caption(_pictures(1), CaptionOptions())
        thread.join()

    assert caption.text == "a cat"
    assert heads[0].startswith(b"HEAD http://captions.invalid/caption HTTP/1.1")
    assert heads[1].startswith(b"POST http://captions.invalid/caption HTTP/1.1")
    assert b"proxy-authorization: basic bwu6chc=" in heads[1].lower()


def test_no_proxy_is_asked_for_hosts_that_are_excepted(
    serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{_closed_port()}")
    url = serve()
    assert "cannot be reached" in _failure(url, ModelUnavailableError)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert RemoteCaptioner(url).caption(_pictures(1), CaptionOptions())


def test_a_proxy_that_refuses_is_told(rude: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place = rude(told({}, "407 Proxy Authentication Required")).removesuffix("/caption")
    monkeypatch.setenv("HTTP_PROXY", place)
    monkeypatch.setenv("HTTPS_PROXY", place)
    for url in ("http://captions.invalid/caption", "https://captions.invalid/caption"):
        with pytest.raises(ModelUnavailableError, match="407 Proxy Authentication Required"):
            RemoteCaptioner(url).check_reachable()


def test_a_certificate_of_the_companys_own_authority_is_trusted_when_the_environment_names_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")

    def answer(listening: socket.socket) -> None:
        for _ in range(2):
            client, _ = listening.accept()
            try:
                with closing(context.wrap_socket(client, server_side=True)) as line:
                    _read_request(line)
                    line.sendall(CAPTION)
            except OSError:
                client.close()  # the captioner does not trust it

    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        thread = threading.Thread(target=answer, args=(listening,))
        thread.start()
        url = f"https://localhost:{listening.getsockname()[1]}/caption"
        assert "its certificate is not trusted" in _failure(url, ModelUnavailableError)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        [[caption]] = RemoteCaptioner(url).caption(_pictures(1), CaptionOptions())
        thread.join()

    assert caption.text == "a cat"


def test_the_query_of_a_url_is_sent_and_not_shown(rude: Any) -> None:
    with pytest.raises(ModelError) as caught:
        RemoteCaptioner(f"{rude(told({}))}?key={TOKEN}").caption(_pictures(1), CaptionOptions())

    assert TOKEN not in str(caught.value)


def test_one_bad_image_costs_one_error(serve: Callable[..., str]) -> None:
    def caption(content: bytes, options: dict[str, Any]) -> list[dict[str, Any]]:
        image = Image.open(io.BytesIO(content))
        if image.getpixel((0, 0)) == (3, 6, 0):
            raise ValueError("I do not like this one")
        return [{"text": f"{image.width} wide"}]

    with Pipeline([CaptionImages(f"remote:{serve(caption)}")], encoder=None, batch_size=4) as pipeline:
        results = list(pipeline.stream(_pictures(6), on_error="record"))

    assert [result.caption for result in results] == [f"{10 + n} wide" if n != 3 else "" for n in range(6)]
    assert "I do not like this one" in (results[3].error or "")


def test_a_server_that_dies_breaks_the_stage(rude: Any) -> None:
    name = f"remote:{rude(CAPTION, None)}#retries=0"

    with Pipeline([CaptionImages(name)], encoder=None, batch_size=4) as pipeline:
        pipeline.load()
        with pytest.raises(StageBrokenError, match="connection fails"):
            list(pipeline.stream(_pictures(20), on_error="record"))


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("ftp://host/caption", "only http and https"),
        ("localhost:8000/caption", "only http and https"),
        ("http://user:pw@host/caption", "user name"),
        ("http://ho st/caption", "spaces"),
        ("http://host:99999/caption", "malformed"),
        ("http://host/caption#timeout=soon", "timeout is 'soon'"),
        ("http://host/caption#timeout=0", "timeout is 0"),
        ("http://host/caption#retries=-1", "retries is -1"),
        ("http://host/caption#concurrency=0", "concurrency is 0"),
        ("http://host/caption#max_side=0", "max_side is 0"),
        ("http://host/caption#header=a b", "not a header name"),
        ("http://host/caption#timeout", "'timeout'"),
    ],
)
def test_a_wrong_address_is_refused_before_anything_is_loaded(location: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        CaptionImages(f"remote:{location}")
    assert "pw" not in str(caught.value)


def test_a_mistyped_option_gets_the_near_miss() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'timeout'"):
        CaptionImages("remote:http://host/caption#time_out=3")


def test_ofa_is_a_name_whose_absence_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    captioner = RemoteCaptioner(f"http://127.0.0.1:{_closed_port()}/caption", "ofa", retries=0)

    with pytest.raises(ModelUnavailableError, match=r"'ofa'.*remote-captioners\.md.*'florence-2-base'"):
        captioner.check_reachable()


def test_the_options_of_a_request_are_those_of_ofa(
    import_file: Callable[[Path], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    ofa = import_file(EXAMPLES / "ofa_server.py")

    assert ofa.generation(asdict(CaptionOptions(num_beams=3, num_captions=2, max_new_tokens=12))) == {
        "num_beams": 3,
        "num_return_sequences": 2,
        "max_length": 13,
        "repetition_penalty": 1.0,
        "no_repeat_ngram_size": 3,
    }
    for options, reason in (
        (CaptionOptions(num_captions=2), "num_captions=2"),
        (CaptionOptions(do_sample=True), "do_sample"),
        (CaptionOptions(min_new_tokens=3), "min_new_tokens"),
        (CaptionOptions(num_beams=2, beam_scores="logits"), "beam_scores"),
    ):
        with pytest.raises(ValueError, match=reason):
            ofa.generation(asdict(options))
    assert [ofa.resolution_of(name) for name in ("./OFA-tiny", "OFA-huge", "mine")] == [256, 480, 384]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"image": 3}', b'{"image": "??"}'])
def test_the_example_server_refuses_what_is_no_request(serve: Callable[..., str], body: bytes) -> None:
    status, answer = _ask(serve(), body)

    assert status == 400
    assert "not a request of the protocol" in answer["error"]


def test_the_example_server_serves_one_path(serve: Callable[..., str]) -> None:
    assert _ask(f"{serve()}/else", b"{}") == (404, {"error": "only /caption is served"})


def _ask(url: str, body: bytes) -> tuple[int, Any]:
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    with pytest.raises(HTTPError) as caught:
        urlopen(Request(url, data=body, method="POST"))
    with caught.value as answer:
        return answer.code, json.loads(answer.read())


@pytest.mark.parametrize("name", ["caption_server", "ofa_server"])
def test_the_example_servers_are_written_for_an_old_python(name: str) -> None:
    source = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")

    ast.parse(source, feature_version=(3, 7))
    with pytest.raises(SyntaxError):
        ast.parse("if (n := 1):\n    pass", feature_version=(3, 7))
