"""Fetch images from URLs safely: a stranger's URL cannot reach the private network (no SSRF).

``fetch`` accepts http(s) only. A host is resolved once, all its addresses must be public, and the connection
goes to a checked address, with the host's name for TLS. Every redirect is checked in the same way. Size and
time are limited whatever the server announces and however slowly it sends. Proxies named in the environment
are not used, because they would resolve the host themselves.

Refused addresses are those of the IANA special-purpose registries (RFC 6890 and its updates).
"""

from __future__ import annotations

import binascii
import http.client
import ipaddress
import ssl
from base64 import b64decode
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import unquote_to_bytes, urljoin

from autotag.errors import ConfigError, ImageReadError, UrlRefusedError
from autotag.web.http_exchange import (
    Deadline,
    FailedError,
    HttpRequest,
    HttpUrl,
    RefusedError,
    answered,
    checked_host,
    in_time,
    read_body,
    resolve,
)

if TYPE_CHECKING:
    from collections.abc import Callable

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


def is_public_address(address: Address) -> bool:
    """Return True for an address of the public internet; also check a v4 address inside a v6 address."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    if address.ipv4_mapped is not None:
        return is_public_address(address.ipv4_mapped)
    if address in _NAT64:
        return is_public_address(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return address in _GLOBAL_V6 and not any(address in network for network in _SPECIAL_V6)


def public_host(name: str) -> str:
    """Return a host as ``HttpUrl.host`` has it, so that the hosts of URLs can be compared with it.

    Raises:
        ConfigError: it is not the name of a host, or an address that is never fetched from.
    """
    try:
        host = checked_host(name.removeprefix("[").removesuffix("]"))
    except RefusedError as error:
        raise ConfigError(
            f"{name!r} is not the name of a host; write it as in images.example, without scheme, port and *."
        ) from error
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if not is_public_address(address):
        raise ConfigError(f"{name!r} is not a public address, and URLs of others are never fetched.")
    return host


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetch images by URL within limits.

    Attributes:
        max_bytes: refuse larger responses, while they arrive.
        timeout: seconds for everything: resolving, all redirects, connecting, reading.
        max_redirects: refuse more redirects.
        is_allowed_address: returns True for addresses that may be connected to.
        resolve: returns the addresses of a host and port.
        tls: makes the TLS settings of a connection.
    """

    max_bytes: int = MAX_BYTES
    timeout: float = 10.0
    max_redirects: int = 3
    is_allowed_address: Callable[[Address], bool] = is_public_address
    resolve: Callable[[str, int], list[str]] = resolve
    tls: Callable[[], ssl.SSLContext] = ssl.create_default_context

    def fetch(self, url: str) -> bytes:
        """Return the bytes at a URL.

        Raises:
            UrlRefusedError: the URL, or one that it redirects to, must not be fetched.
            ImageReadError: the URL could not be fetched.
        """
        deadline = Deadline(self.timeout)
        target = url
        try:
            for _ in range(self.max_redirects + 1):
                answer = self._ask(HttpUrl.of(target), deadline)
                if isinstance(answer, bytes):
                    return answer
                target = urljoin(target, answer.location)
        except RefusedError as refusal:
            where = "" if target == url else f"it redirects to {shown_url(target)}: "
            raise UrlRefusedError(shown_url(url), f"{where}{refusal}") from refusal
        except FailedError as failure:
            raise ImageReadError(shown_url(url), str(failure)) from failure
        except TimeoutError as error:
            raise ImageReadError(shown_url(url), f"no complete answer within {self.timeout:g} s") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ImageReadError(
                shown_url(url), f"it cannot be fetched ({error or type(error).__name__})"
            ) from error
        raise UrlRefusedError(shown_url(url), f"more than {self.max_redirects} redirects")

    def _ask(self, url: HttpUrl, deadline: Deadline) -> bytes | _Redirect:
        addresses = self._checked_addresses(url, deadline)
        request = HttpRequest(url, headers={"Accept": "image/*,*/*;q=0.1"})
        with answered(request, addresses, deadline, self.tls) as response:
            return self._answer(response)

    def _checked_addresses(self, url: HttpUrl, deadline: Deadline) -> list[str]:
        """Return every address of the host; refuse the host unless all are allowed."""
        addresses = in_time(lambda: self.resolve(url.host, url.port), deadline)
        for address in addresses:
            if not self.is_allowed_address(ipaddress.ip_address(address)):
                raise RefusedError(f"{url.host} is at {address}, which is not a public address")
        if not addresses:
            raise FailedError(f"{url.host} has no address")
        return addresses

    def _answer(self, response: http.client.HTTPResponse) -> bytes | _Redirect:
        location = response.getheader("Location")
        if response.status in _REDIRECTS and location:
            return _Redirect(location)
        if response.status != http.client.OK:
            raise FailedError(f"the server answered {response.status} {response.reason}".rstrip())
        return read_body(response, self.max_bytes)


def fetch(url: str, *, max_bytes: int = MAX_BYTES, timeout: float = 10.0, max_redirects: int = 3) -> bytes:
    """Return the bytes at an http(s) URL; see ``Fetcher`` for the limits.

    Raises:
        UrlRefusedError: the URL must not be fetched: not http(s), contains credentials, the host's address is
            not public, or too many redirects.
        ImageReadError: the URL could not be fetched: no response in time, an HTTP error, or too large.
    """
    return Fetcher(max_bytes=max_bytes, timeout=timeout, max_redirects=max_redirects).fetch(url)


def decode_data_uri(uri: str, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the bytes in a data URI (RFC 2397), ignoring its media type.

    Raises:
        ImageReadError: the URI is malformed, or contains more than ``max_bytes``.
    """
    header, comma, payload = uri.partition(",")
    if not comma:
        raise ImageReadError(shown_url(uri), "the data URI has no comma")
    is_base64 = header.lower().endswith(";base64")
    if len(payload) > max_bytes * 4:  # base64 takes 4/3, percent signs at most 3, line breaks a little
        raise ImageReadError(shown_url(uri), f"it has more than {max_bytes} bytes")
    content = unquote_to_bytes(payload)
    if is_base64:
        try:
            content = b64decode(b"".join(content.split()), validate=True)
        except binascii.Error as error:
            raise ImageReadError(shown_url(uri), f"its base64 is damaged ({error})") from error
    if len(content) > max_bytes:
        raise ImageReadError(shown_url(uri), f"it has more than {max_bytes} bytes")
    return content


def shown_url(url: str) -> str:
    """Return a URL for messages and results: without user name, password and the data of a data URI."""
    if url[:5].lower() == "data:":
        return f"{url.partition(',')[0][:80]},..."
    scheme, separator, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{separator}{place.rpartition('@')[2]}{slash}{path}"


@dataclass(frozen=True, slots=True)
class _Redirect:
    location: str
