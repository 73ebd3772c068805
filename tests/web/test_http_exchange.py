"""URLs taken apart and answers read; ``test_fetching`` and ``test_remote_captioner`` try the whole."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from contextlib import closing

import pytest

from autotag.web.http_exchange import (
    Deadline,
    FailedError,
    HttpRequest,
    HttpUrl,
    RefusedError,
    answered,
    in_time,
    read_body,
)


def test_a_url_is_taken_apart_without_its_fragment() -> None:
    url = HttpUrl.of("https://Example.org:8443/a b%20c/ü?q=1#secret".replace(" ", "+"))

    assert (url.scheme, url.host, url.port) == ("https", "example.org", 8443)
    assert url.target == "/a+b%20c/%C3%BC?q=1"
    assert url.host_header == "example.org:8443"


@pytest.mark.parametrize(
    ("url", "header"),
    [("http://host/", "host"), ("https://host:443", "host"), ("http://[::1]:8000/", "[::1]:8000")],
)
def test_the_host_is_sent_with_its_port_where_that_is_not_the_usual(url: str, header: str) -> None:
    assert HttpUrl.of(url).host_header == header


@pytest.mark.parametrize("url", ["", "host", "ftp://host/", "http://", "http://a@host/", "http://host:0/"])
def test_what_is_no_http_url_is_refused(url: str) -> None:
    with pytest.raises(RefusedError):
        HttpUrl.of(url)


def test_a_deadline_passes() -> None:
    deadline = Deadline(0.01)
    assert 0 < deadline.left() <= 0.01
    time.sleep(0.02)

    with pytest.raises(TimeoutError):
        deadline.left()


def test_work_that_takes_too_long_is_left() -> None:
    never = threading.Event()

    with pytest.raises(TimeoutError, match="not done"):
        in_time(lambda: never.wait(600) or [], Deadline(0.05))
    never.set()


def _response(answer: bytes) -> http.client.HTTPResponse:
    ours, theirs = socket.socketpair()
    with closing(theirs):
        theirs.sendall(answer)
    with closing(ours):
        response = http.client.HTTPResponse(ours)
        response.begin()
    return response


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"Content-Length: 9\r\n\r\nshort", "4 bytes too early"),
        (b"Content-Length: 11\r\n\r\nfar too big", "11 bytes, more than 10"),
        (b"\r\nfar too big", "more than 10 bytes"),
        (b"Content-Encoding: gzip\r\n\r\nzip", "compressed"),
    ],
)
def test_an_answer_that_is_not_whole_small_and_plain_fails(answer: bytes, reason: str) -> None:
    with (
        closing(_response(b"HTTP/1.1 200 OK\r\n" + answer)) as response,
        pytest.raises(FailedError, match=reason),
    ):
        read_body(response, 10)


def test_a_request_goes_to_the_address_with_its_headers() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        url = HttpUrl.of(f"http://127.0.0.1:{listening.getsockname()[1]}/caption?x=1")
        request = HttpRequest(url, {"X-Key": "secret"})

        def exchange() -> list[str]:
            with answered(request, ["127.0.0.1"], Deadline(5), ssl.create_default_context) as response:
                return [read_body(response, 100).decode()]

        got: list[str] = []
        asking = threading.Thread(target=lambda: got.extend(exchange()))
        asking.start()
        client, _ = listening.accept()
        with closing(client):
            received = b""
            while not received.endswith(b"\r\n\r\n"):
                received += client.recv(1000)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            asking.join()

    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "GET /caption?x=1 HTTP/1.1"
    assert {"X-Key: secret", f"Host: 127.0.0.1:{url.port}"} <= set(lines)
    assert (body, got) == (b"", ["ok"])
