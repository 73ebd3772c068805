"""Where a server listens."""

from __future__ import annotations

import socket

import pytest

from autotag.errors import ConfigError
from autotag.web.listening import socket_at


def test_a_port_that_is_taken_is_refused_in_one_clear_line() -> None:
    with socket_at("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        wanted = rf"^cannot listen at 127\.0\.0\.1, port {port} \([A-Z][a-z ]+\); choose another --port\.$"
        with pytest.raises(ConfigError, match=wanted):
            socket_at("127.0.0.1", port)


def test_answers_are_not_held_back_to_fill_a_packet() -> None:
    """asyncio sets TCP_NODELAY only on sockets that name their protocol, and those of a listener do not."""
    with (
        socket_at("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
