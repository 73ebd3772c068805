"""Images from URLs, so that a URL from a stranger cannot reach into the network this runs in.

``fetch`` asks http(s) servers only. A host is resolved once, all of its addresses have to be public, and
the connection goes to the address that was checked, with the host's name for TLS. Every redirect is
checked in the same way. Size and time are bounded whatever the server claims or how slowly it drips.
Proxies named in the environment are not used: they would resolve the host themselves.

The addresses refused are those of the IANA special-purpose registries (RFC 6890 and its updates).
"""

from __future__ import annotations

import binascii
import http.client
import io
import ipaddress
import queue
import re
import socket
import ssl
import threading
import time
from base64 import b64decode
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast
from urllib.parse import SplitResult, quote, unquote_to_bytes, urljoin, urlsplit

from autotag.errors import ImageReadError, UrlRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer

MAX_BYTES = 50_000_000

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_SPECIAL_V4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # shared by carriers
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # the host of a virtual machine at Azure
            "169.254.0.0/16",  # link-local, and metadata of cloud machines
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_SPECIAL_V6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # protocol assignments; Teredo, which hides a v4 address, is one of them
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4, which hides a v4 address
            "3fff::/20",  # documentation
        ),
    )
)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHUNK = 65536
_ODD_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)", re.IGNORECASE)


def is_public_address(address: Address) -> bool:
    """Whether an address belongs to the public internet, also by the v4 address that it may hide."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    if address.ipv4_mapped is not None:
        return is_public_address(address.ipv4_mapped)
    if address in _NAT64:
        return is_public_address(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return address in _GLOBAL_V6 and not any(address in network for network in _SPECIAL_V6)


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host by the system's resolver, in its order, without repeats.

    Raises:
        OSError: it is not known, or the resolver cannot be reached.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches images by URL within limits.

    Attributes:
        max_bytes: larger answers are refused while they arrive.
        timeout: seconds for everything: resolving, all redirects, connecting, reading.
        max_redirects: more are refused.
        is_allowed_address: which addresses may be connected to.
        resolve: the addresses of a host and port.
        tls: makes the TLS settings of a connection.
    """

    max_bytes: int = MAX_BYTES
    timeout: float = 10.0
    max_redirects: int = 3
    is_allowed_address: Callable[[Address], bool] = is_public_address
    resolve: Callable[[str, int], list[str]] = resolve
    tls: Callable[[], ssl.SSLContext] = ssl.create_default_context

    def fetch(self, url: str) -> bytes:
        """What the URL leads to.

        Raises:
            UrlRefusedError: the URL, or one that it redirects to, must not be fetched.
            ImageReadError: it could not be fetched.
        """
        deadline = _Deadline(self.timeout)
        target = url
        try:
            for _ in range(self.max_redirects + 1):
                answer = self._ask(_Request.of(target), deadline)
                if isinstance(answer, bytes):
                    return answer
                target = urljoin(target, answer.location)
        except _RefusedError as refusal:
            where = "" if target == url else f"it redirects to {shown_url(target)}: "
            raise UrlRefusedError(shown_url(url), f"{where}{refusal}") from refusal
        except _FailedError as failure:
            raise ImageReadError(shown_url(url), str(failure)) from failure
        except TimeoutError as error:
            raise ImageReadError(shown_url(url), f"no complete answer within {self.timeout:g} s") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ImageReadError(
                shown_url(url), f"it cannot be fetched ({error or type(error).__name__})"
            ) from error
        raise UrlRefusedError(shown_url(url), f"more than {self.max_redirects} redirects")

    def _ask(self, request: _Request, deadline: _Deadline) -> bytes | _Redirect:
        addresses = self._checked_addresses(request, deadline)
        connected = self._connect(request, addresses, deadline)
        connection = http.client.HTTPConnection(request.host, request.port)
        connection.sock = cast("socket.socket", connected)
        try:
            connection.putrequest("GET", request.target, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", request.host_header)
            connection.putheader("Accept", "image/*,*/*;q=0.1")
            connection.putheader("Accept-Encoding", "identity")
            connection.putheader("User-Agent", "autotag")
            connection.putheader("Connection", "close")
            connection.endheaders()
            return self._answer(connection.getresponse())
        finally:
            connected.disconnect()

    def _checked_addresses(self, request: _Request, deadline: _Deadline) -> list[str]:
        """Every address of the host, all of them allowed."""
        addresses = _in_time(lambda: self.resolve(request.host, request.port), deadline)
        for address in addresses:
            if not self.is_allowed_address(ipaddress.ip_address(address)):
                raise _RefusedError(f"{request.host} is at {address}, which is not a public address")
        if not addresses:
            raise _FailedError(f"{request.host} has no address")
        return addresses

    def _connect(self, request: _Request, addresses: list[str], deadline: _Deadline) -> _DeadlineSocket:
        """A connection to the first address that answers: to the address itself, never to the name again."""
        problem: OSError | None = None
        for address in addresses:
            try:
                plain = socket.create_connection((address, request.port), timeout=deadline.left())
            except TimeoutError:
                raise
            except OSError as error:
                problem = error
                continue
            if request.scheme == "http":
                return _DeadlineSocket(plain, deadline)
            return _DeadlineSocket(self._encrypted(plain, request.host, deadline), deadline)
        raise problem or OSError("no address answered")

    def _encrypted(self, plain: socket.socket, host: str, deadline: _Deadline) -> ssl.SSLSocket:
        try:
            plain.settimeout(deadline.left())
            return self.tls().wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise

    def _answer(self, response: http.client.HTTPResponse) -> bytes | _Redirect:
        location = response.getheader("Location")
        if response.status in _REDIRECTS and location:
            return _Redirect(location)
        if response.status != http.client.OK:
            raise _FailedError(f"the server answered {response.status} {response.reason}".rstrip())
        if response.getheader("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
            raise _FailedError("the server sent it compressed although asked not to")
        if (response.length or 0) > self.max_bytes:
            raise _FailedError(f"it has {response.length} bytes, more than {self.max_bytes}")
        return self._body(response)

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        body = bytearray()
        while chunk := response.read(_CHUNK):
            body += chunk
            if len(body) > self.max_bytes:
                raise _FailedError(f"it has more than {self.max_bytes} bytes")
        if response.length:  # what the server promised and did not send
            raise _FailedError(f"the connection ended {response.length} bytes too early")
        return bytes(body)


def fetch(url: str, *, max_bytes: int = MAX_BYTES, timeout: float = 10.0, max_redirects: int = 3) -> bytes:
    """What an http(s) URL leads to; see ``Fetcher`` for the limits.

    Raises:
        UrlRefusedError: it must not be fetched: not http(s), credentials in it, a host whose address is not
            public, too many redirects.
        ImageReadError: it could not be fetched: no answer in time, an HTTP error, too large.
    """
    return Fetcher(max_bytes=max_bytes, timeout=timeout, max_redirects=max_redirects).fetch(url)


def decode_data_uri(uri: str, *, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes in a data URI (RFC 2397), whatever media type it claims.

    Raises:
        ImageReadError: it is malformed, or holds more than ``max_bytes``.
    """
    header, comma, payload = uri.partition(",")
    if not comma:
        raise ImageReadError(shown_url(uri), "the data URI has no comma")
    is_base64 = header.lower().endswith(";base64")
    if len(payload) > max_bytes * 4:  # base64 takes 4/3, percent signs at most 3, line breaks a little
        raise ImageReadError(shown_url(uri), f"it holds more than {max_bytes} bytes")
    content = unquote_to_bytes(payload)
    if is_base64:
        try:
            content = b64decode(b"".join(content.split()), validate=True)
        except binascii.Error as error:
            raise ImageReadError(shown_url(uri), f"its base64 is damaged ({error})") from error
    if len(content) > max_bytes:
        raise ImageReadError(shown_url(uri), f"it holds more than {max_bytes} bytes")
    return content


def shown_url(url: str) -> str:
    """A URL fit for messages and results: without user name and password, a data URI without its data."""
    if url[:5].lower() == "data:":
        return f"{url.partition(',')[0][:80]},..."
    scheme, separator, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{separator}{place.rpartition('@')[2]}{slash}{path}"


class _RefusedError(Exception):
    """A URL must not be fetched; says why."""


class _FailedError(Exception):
    """A URL could not be fetched; says why."""


@dataclass(frozen=True, slots=True)
class _Redirect:
    location: str


@dataclass(frozen=True, slots=True)
class _Request:
    """A URL taken apart and found well-formed. ``host`` is ASCII, without brackets and trailing dot."""

    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def of(cls, url: str) -> _Request:
        if any(ord(character) <= 32 or ord(character) == 127 for character in url) or "\\" in url:
            raise _RefusedError("there are spaces, control characters or backslashes in the URL")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise _RefusedError(f"the URL is malformed ({error})") from error
        if parts.scheme not in {"http", "https"}:
            raise _RefusedError(f"only http and https are fetched, not {parts.scheme or 'nothing'}")
        if "@" in parts.netloc:
            raise _RefusedError("there is a user name or password in the URL")
        if port == 0:
            raise _RefusedError("port 0 is no port")
        default = 443 if parts.scheme == "https" else 80
        return cls(parts.scheme, _checked_host(parts.hostname or ""), port or default, _target(parts))

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"


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
        raise _RefusedError(f"the host {host!r} is malformed") from error
    name = name.removesuffix(".")
    if not re.fullmatch(r"[0-9a-z._:-]+", name) or len(name) > 253:
        raise _RefusedError(f"the host {host!r} is malformed")
    try:
        return str(ipaddress.ip_address(name))
    except ValueError as error:
        if ":" in name or _ODD_NUMBER.fullmatch(name.rpartition(".")[2]):
            raise _RefusedError(f"the host {host!r} is an odd spelling of an address") from error
    return name


class _Deadline:
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


class _DeadlineSocket:
    """As much of a socket as ``http.client`` uses, each operation within what is left of the time."""

    def __init__(self, connected: socket.socket, deadline: _Deadline) -> None:
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

    def __init__(self, connected: socket.socket, deadline: _Deadline) -> None:
        self._socket = connected
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._socket.settimeout(self._deadline.left())
        return self._socket.recv_into(buffer)


def _in_time(work: Callable[[], list[str]], deadline: _Deadline) -> list[str]:
    """What ``work`` returns or raises, unless it takes too long: the system's resolver knows no timeout."""
    done: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put(work())
        except (OSError, ValueError) as error:
            done.put(error)

    threading.Thread(target=run, name="autotag-resolve", daemon=True).start()
    try:
        outcome = done.get(timeout=deadline.left())
    except queue.Empty:
        raise TimeoutError("the host was not resolved in time") from None
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
