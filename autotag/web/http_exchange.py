"""One HTTP request with a deadline for the whole exchange and a limit on the response's size.

The standard library's timeout applies to each operation, so a slow server could take forever. Here every
operation gets the time left until one deadline. Proxies named in the environment are not used.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import queue
import re
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TypeVar, cast
from urllib.parse import SplitResult, quote, urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from _typeshed import WriteableBuffer

_Result = TypeVar("_Result")
_CHUNK = 65536
_ODD_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)", re.IGNORECASE)


class RefusedError(Exception):
    """A URL must not be fetched; the message says why."""


class FailedError(Exception):
    """A URL could not be fetched; the message says why."""


class Deadline:
    """Keep the time by which everything must be done."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds left, more than 0.

        Raises:
            TimeoutError: the deadline has passed.
        """
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("out of time")
        return seconds


@dataclass(frozen=True, slots=True)
class HttpUrl:
    """The parts of a well-formed URL. ``host`` is ASCII, without brackets and trailing dot."""

    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def of(cls, url: str) -> HttpUrl:
        """Parse a user's URL; the fragment is left out.

        Raises:
            RefusedError: the URL is malformed, not http(s), or contains a user name.
        """
        if any(ord(character) <= 32 or ord(character) == 127 for character in url) or "\\" in url:
            raise RefusedError("the URL contains spaces, control characters or backslashes")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise RefusedError(f"the URL is malformed ({error})") from error
        if parts.scheme not in {"http", "https"}:
            raise RefusedError(f"only http and https are fetched, not {parts.scheme or 'nothing'}")
        if "@" in parts.netloc:
            raise RefusedError("the URL contains a user name or password")
        if port == 0:
            raise RefusedError("0 is not a port number")
        default = 443 if parts.scheme == "https" else 80
        return cls(parts.scheme, checked_host(parts.hostname or ""), port or default, _target(parts))

    @property
    def host_header(self) -> str:
        """Return the ``Host`` header: the host, and the port unless it is the default of the scheme."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request to a server. ``headers`` are sent in addition to the standard ones."""

    url: HttpUrl
    headers: Mapping[str, str] = field(default_factory=dict)


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host by the system's resolver, in its order, without repeats.

    Raises:
        OSError: the host is unknown, or the resolver cannot be reached.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


def in_time(work: Callable[[], _Result], deadline: Deadline) -> _Result:
    """Return what ``work`` returns or raises, unless it takes too long: then it goes on in a daemon thread.

    The system's resolver knows no timeout, and timeouts of sockets are for one operation each.

    Raises:
        TimeoutError: the deadline passed.
    """
    done: queue.SimpleQueue[Callable[[], _Result]] = queue.SimpleQueue()

    def run() -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - passed on to whoever waits
            done.put(partial(_raise, error))
        else:
            done.put(lambda: result)

    threading.Thread(target=run, name="autotag-in-time", daemon=True).start()
    try:
        outcome = done.get(timeout=deadline.left())
    except queue.Empty:
        raise TimeoutError("not done in time") from None
    return outcome()


def _raise(error: Exception) -> NoReturn:
    raise error


@contextmanager
def answered(
    request: HttpRequest, addresses: Sequence[str], deadline: Deadline, tls: Callable[[], ssl.SSLContext]
) -> Iterator[http.client.HTTPResponse]:
    """Send a request and give the server's response, to be read inside the block.

    Args:
        request: the request.
        addresses: of its host; the first that accepts a connection is used. The name is not resolved again.
        deadline: for connecting, sending and reading together.
        tls: makes the TLS settings of an https connection, which checks the host's name.

    Raises:
        OSError, http.client.HTTPException, ValueError: the request failed.
        TimeoutError: the deadline passed.
    """
    line = _connected(request.url, addresses, deadline, tls)
    connection = http.client.HTTPConnection(request.url.host, request.url.port)
    connection.sock = cast("socket.socket", line)
    always = {"Accept-Encoding": "identity", "User-Agent": "autotag", "Connection": "close"}
    try:
        connection.putrequest("GET", request.url.target, skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": request.url.host_header, **request.headers, **always}.items():
            connection.putheader(name, value)
        connection.endheaders()
        yield connection.getresponse()
    finally:
        line.disconnect()


def read_body(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    """Return the whole body of a response.

    Raises:
        FailedError: the body is compressed, larger than ``max_bytes``, or shorter than announced.
    """
    if response.getheader("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
        raise FailedError("the server sent it compressed, although the request forbids that")
    if (response.length or 0) > max_bytes:
        raise FailedError(f"it has {response.length} bytes, more than {max_bytes}")
    body = bytearray()
    while chunk := response.read(_CHUNK):
        body += chunk
        if len(body) > max_bytes:
            raise FailedError(f"it has more than {max_bytes} bytes")
    if response.length:  # what the server promised and did not send
        raise FailedError(f"the connection ended {response.length} bytes too early")
    return bytes(body)


def _connected(
    url: HttpUrl, addresses: Sequence[str], deadline: Deadline, tls: Callable[[], ssl.SSLContext]
) -> DeadlineSocket:
    """Connect to the first address that accepts; see ``answered``.

    Raises:
        OSError: no address accepts a connection.
        TimeoutError: the deadline passed.
    """
    problem: OSError | None = None
    for address in addresses:
        try:
            plain = socket.create_connection((address, url.port), timeout=deadline.left())
        except TimeoutError:
            raise
        except OSError as error:
            problem = error
            continue
        if url.scheme == "http":
            return DeadlineSocket(plain, deadline)
        return DeadlineSocket(_encrypted(plain, url.host, deadline, tls), deadline)
    raise problem or OSError("no address answered")


def _encrypted(
    plain: socket.socket, host: str, deadline: Deadline, tls: Callable[[], ssl.SSLContext]
) -> ssl.SSLSocket:
    try:
        plain.settimeout(deadline.left())
        return tls().wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


def _target(parts: SplitResult) -> str:
    """Return path and query, with characters beyond ASCII percent-encoded."""
    kept = "/?%:=&~+!$,;'@()*"
    path = quote(parts.path or "/", safe=kept)
    return f"{path}?{quote(parts.query, safe=kept)}" if parts.query else path


def checked_host(host: str) -> str:
    """Return the host in ASCII, without a trailing dot.

    Numbers that some resolvers read as an address (decimal, octal, hexadecimal, short) are refused.
    """
    try:
        name = host if ":" in host else host.encode("idna").decode("ascii").lower()
    except UnicodeError as error:
        raise RefusedError(f"the host {host!r} is malformed") from error
    name = name.removesuffix(".")
    if not re.fullmatch(r"[0-9a-z._:-]+", name) or len(name) > 253:
        raise RefusedError(f"the host {host!r} is malformed")
    try:
        return str(ipaddress.ip_address(name))
    except ValueError as error:
        if ":" in name or _ODD_NUMBER.fullmatch(name.rpartition(".")[2]):
            raise RefusedError(f"the host {host!r} is an unusual spelling of an address") from error
    return name


class DeadlineSocket:
    """Provide the part of a socket that ``http.client`` uses, with each operation limited by a deadline."""

    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self._socket = connected
        self._deadline = deadline

    def sendall(self, content: bytes) -> None:
        """Send all bytes before the deadline.

        Raises:
            OSError: the connection failed, or the time is over.
        """
        self._socket.settimeout(self._deadline.left())
        self._socket.sendall(content)

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return a file to read from the connection; ``mode`` must be ``"rb"``."""
        if mode != "rb":
            raise ValueError(f"only for reading bytes, not {mode!r}")
        return io.BufferedReader(_Arriving(self._socket, self._deadline))

    def close(self) -> None:
        """Do nothing, because ``http.client`` closes a connection while its response is still being read."""

    def disconnect(self) -> None:
        """Close the connection."""
        self._socket.close()


class _Arriving(io.RawIOBase):
    """Read the bytes of a connection until the deadline."""

    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self._socket = connected
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._socket.settimeout(self._deadline.left())
        return self._socket.recv_into(buffer)
