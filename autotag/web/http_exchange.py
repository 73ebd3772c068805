"""One HTTP exchange within bounds, whoever is asked: time for all of it, bytes of the answer.

The standard library's timeout is for one operation, so a server that drips may take forever. Here every
operation has what is left of a deadline. Proxies named in the
environment are not used: they would resolve hosts themselves.
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
    """A URL must not be fetched; says why."""


class FailedError(Exception):
    """A URL could not be fetched; says why."""


class Deadline:
    """A moment by which everything has to be done."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds left, more than 0.

        Raises:
            TimeoutError: none are.
        """
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("out of time")
        return seconds


@dataclass(frozen=True, slots=True)
class HttpUrl:
    """A URL taken apart and found well-formed. ``host`` is ASCII, without brackets and trailing dot."""

    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def of(cls, url: str) -> HttpUrl:
        """The parts of a URL as a user wrote it; a fragment is left out.

        Raises:
            RefusedError: it is malformed, not http(s), or holds a user name.
        """
        if any(ord(character) <= 32 or ord(character) == 127 for character in url) or "\\" in url:
            raise RefusedError("there are spaces, control characters or backslashes in the URL")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise RefusedError(f"the URL is malformed ({error})") from error
        if parts.scheme not in {"http", "https"}:
            raise RefusedError(f"only http and https are fetched, not {parts.scheme or 'nothing'}")
        if "@" in parts.netloc:
            raise RefusedError("there is a user name or password in the URL")
        if port == 0:
            raise RefusedError("port 0 is no port")
        default = 443 if parts.scheme == "https" else 80
        return cls(parts.scheme, _checked_host(parts.hostname or ""), port or default, _target(parts))

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What is got from a server. ``headers`` beyond those that every exchange has."""

    url: HttpUrl
    headers: Mapping[str, str] = field(default_factory=dict)


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host by the system's resolver, in its order, without repeats.

    Raises:
        OSError: it is not known, or the resolver cannot be reached.
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
    """What a server answers, to be read inside.

    Args:
        request: what is asked.
        addresses: of its host; the first that answers is asked, by its address and never by name again.
        deadline: for connecting, asking and reading together.
        tls: makes the settings of an https connection, which is made in the name of the host.

    Raises:
        OSError, http.client.HTTPException, ValueError: it did not come about.
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
    """The whole body of an answer.

    Raises:
        FailedError: it is compressed, larger than ``max_bytes``, or shorter than promised.
    """
    if response.getheader("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
        raise FailedError("the server sent it compressed although asked not to")
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
    """A connection to the first address that answers; see ``answered``.

    Raises:
        OSError: none does.
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
    """Path and query, anything beyond ASCII percent-encoded."""
    kept = "/?%:=&~+!$,;'@()*"
    path = quote(parts.path or "/", safe=kept)
    return f"{path}?{quote(parts.query, safe=kept)}" if parts.query else path


def _checked_host(host: str) -> str:
    """The host in ASCII, without a trailing dot.

    Numbers that some resolvers take for an address (decimal, octal, hexadecimal, short) are refused.
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
            raise RefusedError(f"the host {host!r} is an odd spelling of an address") from error
    return name


class DeadlineSocket:
    """As much of a socket as ``http.client`` uses, each operation within what is left of the time."""

    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self._socket = connected
        self._deadline = deadline

    def sendall(self, content: bytes) -> None:
        self._socket.settimeout(self._deadline.left())
        self._socket.sendall(content)

    def makefile(self, mode: str) -> io.BufferedReader:
        """What arrives, to be read; ``mode`` is always ``"rb"``."""
        if mode != "rb":
            raise ValueError(f"only for reading bytes, not {mode!r}")
        return io.BufferedReader(_Arriving(self._socket, self._deadline))

    def close(self) -> None:
        """Does nothing: ``http.client`` closes a connection while its answer is still being read."""

    def disconnect(self) -> None:
        self._socket.close()


class _Arriving(io.RawIOBase):
    """The bytes that arrive on a connection, until the time is over."""

    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self._socket = connected
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._socket.settimeout(self._deadline.left())
        return self._socket.recv_into(buffer)
