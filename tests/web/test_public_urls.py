"""A URL from a stranger gets an image from the public internet, or nothing."""

from __future__ import annotations

import base64
import ipaddress
import socket
import ssl
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import trustme

from autotag.errors import ConfigError, ImageReadError, UrlRefusedError
from autotag.web import public_urls
from autotag.web.http_exchange import HttpUrl
from autotag.web.public_urls import (
    Fetcher,
    decode_data_uri,
    fetch,
    is_public_address,
    public_host,
    shown_url,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BODY = b"\x89PNG pretend"
OK = b"HTTP/1.1 200 OK\r\n"


class HostileServer:
    """Answers each path with the bytes or the behaviour that a test gave it; remembers what was asked."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, bytes | Callable[[socket.socket], None]] = {}
        self.requests: list[str] = []
        self.connections = 0
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.closing = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def url(self, path: str, host: str = "images.test") -> str:
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    def close(self) -> None:
        self.closing.set()
        with closing(socket.create_connection(("127.0.0.1", self.port))):
            self._threads[0].join()
        self._listening.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            client, _ = self._listening.accept()
            if self.closing.is_set():
                client.close()
                return
            self.connections += 1
            self._threads.append(threading.Thread(target=self._serve, args=(client,)))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with self._tls.wrap_socket(client, server_side=True) if self._tls else client as connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(65536) or b"\r\n\r\n"
                self.requests.append(request.decode("latin-1"))
                answer = self.answers[self.requests[-1].split()[1]]
                if isinstance(answer, bytes):
                    connection.sendall(answer)
                else:
                    answer(connection)
        except OSError:
            client.close()  # the fetcher hung up, as it should


def ok(body: bytes, *headers: str) -> bytes:
    return OK + "".join(f"{header}\r\n" for header in headers).encode() + b"\r\n" + body


def redirect(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\n\r\n".encode()


@pytest.fixture
def server() -> Iterator[HostileServer]:
    running = HostileServer()
    yield running
    running.close()


def local(**options: object) -> Fetcher:
    """A fetcher for which images.test is the local server and public, and nothing else is."""

    def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"] if host == "images.test" else public_urls.resolve(host, port)

    settings: dict[str, object] = {
        "timeout": 5.0,
        "resolve": resolve,
        "is_allowed_address": lambda address: str(address) == "127.0.0.1",
        **options,
    }
    return Fetcher(**settings)  # type: ignore[arg-type]


def failure(fetcher: Fetcher, url: str) -> str:
    with pytest.raises(ImageReadError) as caught:
        fetcher.fetch(url)
    assert not isinstance(caught.value, UrlRefusedError)
    assert caught.value.source == shown_url(url)
    return caught.value.reason


def refusal(fetcher: Fetcher, url: str) -> str:
    with pytest.raises(UrlRefusedError) as caught:
        fetcher.fetch(url)
    assert caught.value.source == shown_url(url)
    return caught.value.reason


# --- what works


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer",
    [
        ok(BODY, f"Content-Length: {len(BODY)}"),
        ok(BODY),
        ok(b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY), "Transfer-Encoding: chunked"),
        ok(BODY, "Content-Type: text/html", "Content-Encoding: identity"),
        ok(BODY + b"more than was said", f"Content-Length: {len(BODY)}"),
    ],
    ids=["with a length", "without a length", "chunked", "as html", "longer than it says"],
)
def test_an_answer_is_fetched(server: HostileServer, answer: bytes) -> None:
    server.answers["/a.png"] = answer
    assert local().fetch(server.url("/a.png")) == BODY


def test_the_request_names_the_host_and_asks_for_no_compression(server: HostileServer) -> None:
    server.answers["/a%20b/%C3%A9?q=%E6%9D%B1&x=%2F"] = ok(BODY)
    assert local().fetch(server.url("/a%20b/é?q=東&x=%2F#part")) == BODY
    assert f"Host: images.test:{server.port}\r\n" in server.requests[0]
    assert "Accept-Encoding: identity\r\n" in server.requests[0]
    assert "Cookie" not in server.requests[0]
    assert "Authorization" not in server.requests[0]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_also_relative_ones(server: HostileServer, status: int) -> None:
    server.answers = {
        "/1": redirect(server.url("/folder/2"), status),
        "/folder/2": redirect("3", status),
        "/folder/3": redirect("/4", status),
        "/4": ok(BODY),
    }
    assert local().fetch(server.url("/1")) == BODY


# --- addresses


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104 - nothing is bound
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "100::1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::8.8.8.8",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a00:1::",
        "3fff::1",
        "5f00::1",
        "4000::1",
    ],
)
def test_special_addresses_are_not_public(address: str) -> None:
    assert not is_public_address(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "1.1.1.1",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.0.1",
        "172.32.0.1",
        "192.0.1.1",
        "198.20.0.1",
        "223.255.255.255",
        "2606:4700::1111",
        "2001:4860:4860::8888",
        "2a00:1450::1",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
    ],
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public_address(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "0.0.0.0",  # noqa: S104 - nothing is bound
        "[::]",
        "127.1.2.3",
        "169.254.169.254",
        "10.1.2.3",
        "[fd00::1]",
        "127.0.0.1.",
        "LOCALHOST",
        "１２７.0.0.1",
        "127。0。0。1",
    ],
)
def test_hosts_that_are_private_are_refused_without_a_connection(server: HostileServer, host: str) -> None:
    with pytest.raises(UrlRefusedError, match="not a public address"):
        fetch(f"http://{host}:{server.port}/a.png")
    assert server.connections == 0


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "017700000001",
        "127.0.0.0x1",
        "1.2.3.4.5",
        "08.8.8.8",
        "0x",
    ],
)
def test_odd_spellings_of_addresses_are_refused(host: str) -> None:
    with pytest.raises(UrlRefusedError, match="unusual spelling"):
        fetch(f"http://{host}/a.png")


@pytest.mark.parametrize(
    "addresses", [["10.0.0.7"], ["8.8.8.8", "10.0.0.7"], ["10.0.0.7", "8.8.8.8"], ["8.8.8.8", "::1"]]
)
def test_a_name_is_refused_if_any_of_its_addresses_is_private(addresses: list[str]) -> None:
    assert "not a public" in refusal(
        Fetcher(resolve=lambda host, port: addresses), "http://rebind.test/a.png"
    )


def test_a_name_is_resolved_once_and_the_checked_address_is_connected_to(server: HostileServer) -> None:
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.7"]

    server.answers["/a.png"] = ok(BODY)
    assert local(resolve=rebinding).fetch(server.url("/a.png", "rebind.test")) == BODY
    assert asked == ["rebind.test"]


def test_the_next_address_is_tried_if_one_does_not_answer(server: HostileServer) -> None:
    server.answers["/a.png"] = ok(BODY)
    fetcher = local(resolve=lambda host, port: ["127.0.0.2", "127.0.0.1"], is_allowed_address=lambda _: True)
    assert fetcher.fetch(server.url("/a.png")) == BODY


# --- URLs


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:///etc/passwd", "only http and https"),
        ("ftp://example.org/a.png", "only http and https"),
        ("gopher://example.org/a.png", "only http and https"),
        ("example.org/a.png", "only http and https"),
        ("http:///a.png", "malformed"),
        ("http://", "malformed"),
        ("http://user@example.org/a.png", "user name"),
        ("http://user:secret@example.org/a.png", "user name"),
        ("http://example.org@127.0.0.1/a.png", "user name"),
        ("http://example.org\\@127.0.0.1/a.png", "backslashes"),
        ("http://example.org/a.png\r\nX-Evil: 1", "control characters"),
        ("http://exa\tmple.org/a.png", "control characters"),
        ("http://example.org/a b.png", "spaces"),
        ("http://example.org:0/a.png", "not a port number"),
        ("http://example.org:99999/a.png", "malformed"),
        ("http://example.org:http/a.png", "malformed"),
        ("http://[::1/a.png", "malformed"),
        ("http://[fe80::1%25eth0]/a.png", "malformed"),
        ("http://exa%6dple.org/a.png", "malformed"),
        ("http://" + "a" * 64 + ".org/a.png", "malformed"),
        ("http://" + "a." * 130 + "org/a.png", "malformed"),
        ("http://a..org/a.png", "malformed"),
    ],
)
def test_urls_that_are_not_plain_are_refused(url: str, words: str) -> None:
    def resolve(host: str, port: int) -> list[str]:
        raise AssertionError(f"{host} was resolved")

    assert words in refusal(Fetcher(resolve=resolve), url)


def test_passwords_are_not_repeated_in_messages() -> None:
    with pytest.raises(UrlRefusedError) as caught:
        fetch("http://user:hunter2@example.org/a.png")
    assert "hunter2" not in str(caught.value)


# --- hostile servers


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://127.0.0.2:80/admin", "not a public address"),
        ("http://169.254.169.254/latest/meta-data", "not a public address"),
        ("//10.0.0.1/a.png", "not a public address"),
        ("http://[::ffff:10.0.0.1]/a.png", "not a public address"),
        ("http://2130706433/a.png", "unusual spelling"),
        ("file:///etc/passwd", "only http and https"),
        ("http://user:pw@images.test/a.png", "user name"),
        ("data:image/png;base64,AAAA", "only http and https"),
    ],
)
def test_every_redirect_is_checked_again(server: HostileServer, location: str, words: str) -> None:
    server.answers["/a.png"] = redirect(location)
    said = refusal(local(), server.url("/a.png"))
    assert words in said
    assert "it redirects to" in said


def test_a_redirect_loop_ends_after_three(server: HostileServer) -> None:
    server.answers["/loop"] = redirect("/loop")
    assert "more than 3 redirects" in refusal(local(), server.url("/loop"))
    assert server.connections == 4


def test_an_endless_body_is_cut_off(server: HostileServer) -> None:
    def endless(client: socket.socket) -> None:
        client.sendall(OK + b"\r\n")
        while not server.closing.is_set():
            client.sendall(bytes(65536))

    server.answers["/endless"] = endless
    assert "more than 1000000 bytes" in failure(local(max_bytes=1_000_000), server.url("/endless"))


def test_an_endless_chunked_body_is_cut_off(server: HostileServer) -> None:
    def endless(client: socket.socket) -> None:
        client.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        while not server.closing.is_set():
            client.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")

    server.answers["/endless"] = endless
    assert "more than 1000000 bytes" in failure(local(max_bytes=1_000_000), server.url("/endless"))


def test_a_length_over_the_limit_is_refused_before_the_body(server: HostileServer) -> None:
    def wait(client: socket.socket) -> None:
        client.sendall(OK + b"Content-Length: 99999999999\r\n\r\n")
        server.closing.wait()

    server.answers["/large"] = wait
    assert "99999999999 bytes" in failure(local(), server.url("/large"))


def test_exactly_the_limit_is_allowed(server: HostileServer) -> None:
    server.answers["/a.png"] = ok(bytes(1000))
    assert len(local(max_bytes=1000).fetch(server.url("/a.png"))) == 1000
    assert "more than 999 bytes" in failure(local(max_bytes=999), server.url("/a.png"))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (ok(BODY, f"Content-Length: {len(BODY) + 7}"), "7 bytes too early"),
        (ok(b"ff\r\nshort", "Transfer-Encoding: chunked"), "cannot be fetched"),
        (ok(b"no number\r\n", "Transfer-Encoding: chunked"), "cannot be fetched"),
        (ok(BODY, "Content-Encoding: gzip"), "compressed"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "404 Not Found"),
        (b"HTTP/1.1 500\r\n\r\n", "500"),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", "304"),
        (b"HTTP/1.1 302 Found\r\n\r\n", "302"),
        (b"", "cannot be fetched"),
        (b"SSH-2.0-OpenSSH_9\r\n", "cannot be fetched"),
        (OK + b"A: b\r\n" * 200 + b"\r\n", "cannot be fetched"),
        (OK + b"A: " + b"b" * 100_000 + b"\r\n\r\n", "cannot be fetched"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_broken_answers_are_failures(server: HostileServer, answer: bytes, words: str) -> None:
    server.answers["/a.png"] = answer
    assert words in failure(local(), server.url("/a.png"))


def dripping(server: HostileServer, start: bytes, drip: bytes) -> Callable[[socket.socket], None]:
    def drips(client: socket.socket) -> None:
        client.sendall(start)
        while not server.closing.wait(0.05):
            client.sendall(drip)

    return drips


@pytest.mark.parametrize(
    ("start", "drip"),
    [
        (b"", b"H"),
        (OK, b"A"),
        (OK + b"\r\n", b"x"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (OK + b"\r\n", b""),
    ],
    ids=["status", "headers", "body", "chunk sizes", "continue", "silence"],
)
def test_a_server_that_drips_is_left_at_the_deadline(
    server: HostileServer, start: bytes, drip: bytes
) -> None:
    server.answers["/slow"] = dripping(server, start, drip)
    began = time.monotonic()
    assert "within 0.4 s" in failure(local(timeout=0.4), server.url("/slow"))
    assert time.monotonic() - began < 300


def test_the_deadline_covers_all_redirects_together(server: HostileServer) -> None:
    def late(client: socket.socket) -> None:
        time.sleep(0.2)
        client.sendall(redirect("/late"))

    server.answers["/late"] = late
    assert "within 0.5 s" in failure(local(timeout=0.5, max_redirects=50), server.url("/late"))


def test_a_resolver_that_hangs_is_left_at_the_deadline() -> None:
    released = threading.Event()

    def hanging(host: str, port: int) -> list[str]:
        released.wait(10)
        return []

    began = time.monotonic()
    try:
        assert "within 0.2 s" in failure(Fetcher(resolve=hanging, timeout=0.2), "http://slow.test/a.png")
        assert time.monotonic() - began < 300
    finally:
        released.set()


def test_hosts_that_are_unknown_or_closed_are_failures(server: HostileServer) -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    assert "not known" in failure(Fetcher(resolve=unknown), "http://nowhere.test/a.png")
    assert "no address" in failure(Fetcher(resolve=lambda host, port: []), "http://nowhere.test/a.png")
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert "cannot be fetched" in failure(local(), f"http://images.test:{port}/a.png")


# --- TLS


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def tls_server(authority: trustme.CA, host: str) -> HostileServer:
    settings = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(settings)
    return HostileServer(settings)


def trusting(authority: trustme.CA) -> Callable[[], ssl.SSLContext]:
    def settings() -> ssl.SSLContext:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        return context

    return settings


def test_https_is_verified_by_the_hosts_name_and_not_by_its_address(authority: trustme.CA) -> None:
    with closing(tls_server(authority, "images.test")) as server:
        server.answers["/a.png"] = ok(BODY)
        assert local(tls=trusting(authority)).fetch(server.url("/a.png")) == BODY


def test_a_certificate_for_another_host_is_a_failure(authority: trustme.CA) -> None:
    with closing(tls_server(authority, "other.test")) as server:
        server.answers["/a.png"] = ok(BODY)
        assert "certificate" in failure(local(tls=trusting(authority)), server.url("/a.png")).lower()


def test_a_certificate_that_nobody_vouches_for_is_a_failure(authority: trustme.CA) -> None:
    with closing(tls_server(authority, "images.test")) as server:
        server.answers["/a.png"] = ok(BODY)
        assert "certificate" in failure(local(), server.url("/a.png")).lower()


# --- data URIs


@pytest.mark.parametrize(
    "uri",
    [
        "data:image/png;base64," + base64.b64encode(BODY).decode(),
        "DATA:image/png;charset=x;BASE64," + base64.b64encode(BODY).decode(),
        "data:;base64,\n" + base64.encodebytes(BODY).decode(),
        "data:;base64," + base64.b64encode(BODY).decode().replace("=", "%3D").replace("/", "%2F"),
        "data:,%89PNG%20pretend",
    ],
)
def test_data_uris_are_decoded(uri: str) -> None:
    assert decode_data_uri(uri) == BODY


@pytest.mark.parametrize(
    "uri", ["data:image/png", "data:;base64,A", "data:;base64,!!!!", "data:;base64,AAA=AAA="]
)
def test_malformed_data_uris_are_failures(uri: str) -> None:
    with pytest.raises(ImageReadError) as caught:
        decode_data_uri(uri)
    assert not isinstance(caught.value, UrlRefusedError)


@pytest.mark.parametrize("uri", ["data:," + "x" * 1001, "data:;base64," + "A" * 1340, "data:," + "x" * 9000])
def test_data_uris_over_the_limit_are_failures_that_do_not_repeat_the_data(uri: str) -> None:
    with pytest.raises(ImageReadError, match="1000 bytes") as caught:
        decode_data_uri(uri, max_bytes=1000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("Images.Example", "images.example"),
        ("bücher.example.", "xn--bcher-kva.example"),
        ("8.8.8.8", "8.8.8.8"),
        ("[2606:4700::1111]", "2606:4700::1111"),
    ],
)
def test_a_host_is_named_as_urls_have_it(name: str, host: str) -> None:
    assert public_host(name) == host == HttpUrl.of(f"https://{name}/a.png").host


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("https://images.example", "without scheme"),
        ("images.example:8080", "without scheme"),
        ("*.example", "without scheme"),
        ("images.example/a", "without scheme"),
        ("", "without scheme"),
        ("0x7f000001", "without scheme"),
        ("192.168.1.4", "not a public address"),
        ("[::1]", "not a public address"),
    ],
)
def test_a_host_that_no_url_can_have_is_refused(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        public_host(name)
