"""Connections that send nothing of use, and too many of them."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn

from autotag.web.connections import few_complaints, most_connections
from autotag.web.listening import server_config, socket_at

REQUEST = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


async def answer(_scope, _receive, send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@contextmanager
def serving(seconds_for_head: float) -> Iterator[int]:
    """The port of a server that answers every request."""
    config = server_config(answer, keep_alive=60, seconds_for_head=seconds_for_head)
    config.lifespan = "off"
    server = uvicorn.Server(config)
    with socket_at("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield port
        finally:
            server.should_exit = True
            thread.join(20)
    assert not thread.is_alive()


def connected(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.settimeout(20)
    return connection


def ask(connection: socket.socket) -> None:
    connection.sendall(REQUEST)
    answered = b""
    while not answered.endswith(b"\r\n\r\nok"):
        part = connection.recv(1000)
        assert part
        answered += part


@pytest.mark.parametrize("sent", [b"", REQUEST[:-2]])
def test_a_connection_without_a_whole_head_is_closed(sent: bytes) -> None:
    with serving(seconds_for_head=0.1) as port, connected(port) as connection:
        connection.sendall(sent)
        assert connection.recv(100) == b""


def test_the_second_request_of_a_connection_has_the_same_time_and_no_head_ends_an_answer() -> None:
    with serving(seconds_for_head=0.3) as port, connected(port) as connection:
        for _ in range(2):
            ask(connection)
        connection.sendall(REQUEST[:20])
        assert connection.recv(100) == b""


@pytest.mark.parametrize("count", [1, 2])
def test_a_head_that_begins_in_the_packet_of_another_request_has_the_same_time(count: int) -> None:
    with serving(seconds_for_head=0.3) as port, connected(port) as connection:
        connection.sendall(REQUEST * count + REQUEST[:20])
        answered = b""
        while part := connection.recv(1000):
            answered += part
        assert answered.count(b"\r\n\r\nok") == count


def test_connections_beyond_the_bound_are_closed_and_the_first_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert 16 <= most_connections() < 2**40
    monkeypatch.setattr("autotag.web.connections.most_connections", lambda: 1)
    with serving(seconds_for_head=60) as port, connected(port) as first:
        ask(first)
        with connected(port) as second:
            assert second.recv(100) == b""
        ask(first)


def test_asyncio_says_once_that_it_cannot_accept(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("asyncio")
    with few_complaints():
        for _ in range(3):
            logger.error("socket.accept() out of system resource\nsocket: 5")
            logger.error("something else")
    assert sum("accept" in record.message for record in caplog.records) == 1
    assert sum("else" in record.message for record in caplog.records) == 3
