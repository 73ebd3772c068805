"""A captioner behind a URL, for models that cannot run in this environment. Does not import torch.

``caption_options`` describes the protocol.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar
from urllib.parse import parse_qsl

from autotag.config.checks import check_count, check_number
from autotag.errors import ConfigError, ModelError, ModelUnavailableError, UnknownNameError
from autotag.models.captioners.caption_options import captions_in, reason_in, request_body
from autotag.protocols import CaptionOptions
from autotag.web.http_exchange import Deadline, FailedError, HttpUrl, RefusedError, in_time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import httpx2
    from PIL import Image

    from autotag.protocols import ModelRequest
    from autotag.records import Caption

MAX_BYTES = 1_000_000
"""Size limit of an answer, in bytes; a larger one is refused while it arrives."""

_Result = TypeVar("_Result")
_logger = logging.getLogger("autotag.models")

_FIRST_WAIT = 0.5  # seconds before the first retry; doubled for each one after it
_LONGEST_WAIT = 30.0
_BUSY = {429, 502, 503, 504}
_OK, _PROXY_WANTS_NAME = 200, 407
_NOT_THERE = {401, 403, 404, 405, _PROXY_WANTS_NAME, 410}
_HINTS = {
    "ofa": " docs/guides/remote-captioners.md says how to start an OFA server; "
    "'florence-2-base', its successor, needs none."
}


@dataclass(frozen=True, slots=True)
class RemoteCaptioner:
    """Caption images through a server that follows the protocol of ``caption_options``.

    The URL is the user's own configuration, so unlike an image's URL it may lead to a private address, such
    as another process on this machine. Proxies and certificates are those of the system and of the
    environment: ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY``, ``SSL_CERT_FILE``,
    ``SSL_CERT_DIR``. Redirects are not followed, so images and the token go to this server only.

    A request is retried when the connection fails or ends too early, and on the statuses 429, 502, 503 and
    504, after 0.5, 1, 2, ... seconds or the time in ``Retry-After``; each wait is logged. A request that
    timed out is not retried, which would only load a slow server more, and neither is one that the server
    refused.

    Every option is sent; a server refuses options that it does not support.

    Args:
        url: http(s), without a user name; a fragment is not allowed.
        name: the name in errors, and the source of captions if the server does not name its model.
        timeout: seconds for one request with its answer, above 0.
        retries: tries after the first, at least 0.
        concurrency: simultaneous requests, at least 1.
        max_side: longest side of the images that are sent, in pixels; larger images are reduced.
        token_env: the environment variable that holds a token, which is not stored or shown; None for none.
        header: the header for the token: ``Bearer <token>`` in ``Authorization``, the bare token in others.

    Raises:
        ConfigError: the URL or an option is not valid.
    """

    url: str
    name: str = "remote"
    timeout: float = 60.0
    retries: int = 3
    concurrency: int = 4
    max_side: int = 1024
    token_env: str | None = None
    header: str = "Authorization"

    extra_options: ClassVar[frozenset[str]] = frozenset(row.name for row in fields(CaptionOptions))

    def __post_init__(self) -> None:
        try:
            HttpUrl.of(self.url)
        except RefusedError as refusal:
            raise ConfigError(f"remote captioner {self.shown_url}: {refusal}") from refusal
        if "#" in self.url:
            raise ConfigError(f"remote captioner {self.shown_url}: the URL must not contain '#'")
        check_number("remote captioner: timeout", self.timeout, least=0, most=86_400, above=True)
        check_count("remote captioner: retries", self.retries, least=0, most=1_000)
        check_count("remote captioner: concurrency", self.concurrency, most=1_000)
        check_count("remote captioner: max_side", self.max_side, most=65_535)
        if not self.header.replace("-", "").isalnum() or not self.header.isascii():
            raise ConfigError(f"remote captioner: header is {self.header!r}, which is not a header name")

    @classmethod
    def at(cls, location: str, *, name: str = "remote") -> RemoteCaptioner:
        """Return the captioner for ``"<url>#<option>=<value>&..."``, without sending a request.

        Raises:
            ConfigError: the URL or an option is not valid.
            UnknownNameError: an option is unknown.
        """
        url, _, settings = location.partition("#")
        try:
            given = parse_qsl(settings, strict_parsing=True) if settings else []
        except ValueError as error:
            raise ConfigError(f"remote captioner {_shown(url)}: {error} in {settings!r}") from error
        return cls(url, name=name, **{option: _option(option, text) for option, text in given})

    @classmethod
    def load(cls, request: ModelRequest) -> RemoteCaptioner:
        """Return the captioner at ``request.location``, after checking that it is reachable.

        Raises:
            ConfigError: the URL, an option or the token is not valid.
            ModelUnavailableError: the server cannot be reached.
        """
        captioner = cls.at(request.location, name=request.name.partition("#")[0].partition("?")[0])
        captioner.check_reachable()
        return captioner

    @property
    def image_size(self) -> int:
        """Return the longest side of the images that are sent, in pixels."""
        return self.max_side

    @property
    def shown_url(self) -> str:
        """Return the URL for messages, without user name and query, which may hold secrets."""
        return _shown(self.url)

    def check_reachable(self) -> None:
        """Send a HEAD request, with retries; any status counts, except those of busy servers and proxies.

        Raises:
            ConfigError: the environment variable of the token is not set, or does not hold a token.
            ModelUnavailableError: the server cannot be reached, or a proxy refuses.
        """
        headers = self._headers()
        self._tried(lambda: self._in_time("HEAD", headers), threading.Event())

    def caption(self, images: Sequence[Image.Image], /, options: CaptionOptions) -> list[list[Caption]]:
        """Return ``options.num_captions`` captions for each image (upright RGB), in the server's order.

        Raises:
            ConfigError: the environment variable of the token is not set, or does not hold a token.
            ModelUnavailableError: the server cannot be reached, or is too slow or busy.
            ModelError: it refuses an image, or its answer does not follow the protocol.
        """
        if not images:
            return []
        headers = self._headers()
        stopped = threading.Event()
        with ThreadPoolExecutor(min(self.concurrency, len(images)), "autotag-remote") as threads:
            asked = [threads.submit(self._one, image, options, headers, stopped) for image in images]
            try:
                return [captions.result() for captions in asked]
            except BaseException:
                stopped.set()
                threads.shutdown(cancel_futures=True)
                raise

    def _one(
        self, image: Image.Image, options: CaptionOptions, headers: dict[str, str], stopped: threading.Event
    ) -> list[Caption]:
        body = request_body(image, options, self.max_side)
        answer = self._tried(lambda: self._in_time("POST", headers, body), stopped)
        try:
            return captions_in(answer, options.num_captions, self.name)
        except ValueError as error:
            self._fail(ModelError, str(error), error)

    def _tried(self, work: Callable[[], _Result], stopped: threading.Event) -> _Result:
        """Return the result of ``work``; retry while the server is busy, until ``stopped`` is set."""
        for attempt in range(self.retries + 1):
            try:
                return work()
            except _BusyError as busy:
                again = attempt < self.retries and not stopped.is_set()
                if not again:
                    tries = f" (tried {attempt + 1} times)" if attempt else ""
                    self._fail(ModelUnavailableError, f"{busy}{tries}", busy)
                seconds = max(busy.wait, min(_FIRST_WAIT * 2**attempt, _LONGEST_WAIT))
                _logger.warning(
                    "remote captioner %s: %s; try %d of %d follows in %g s",
                    self.shown_url, busy, attempt + 2, self.retries + 1, seconds,
                )  # fmt: skip
                stopped.wait(seconds)
            except TimeoutError as error:
                self._fail(ModelUnavailableError, f"no complete answer within {self.timeout:g} s", error)
            except ssl.SSLCertVerificationError as error:
                self._fail(ModelUnavailableError, f"its certificate is not trusted ({error})", error)
            except (FailedError, ValueError) as error:
                self._fail(ModelError, f"its answer cannot be read: {error or type(error).__name__}", error)
        raise AssertionError("the last try returns or raises")

    def _in_time(self, method: str, headers: dict[str, str], body: bytes = b"") -> bytes:
        """Return the body of the answer to one request, within ``timeout`` (httpx limits single steps only).

        Raises:
            _BusyError: a retry may help.
            ModelError, TimeoutError, ssl.SSLCertVerificationError, FailedError, ValueError: a retry would not
                help.
        """
        import httpx2

        always = {"Accept-Encoding": "identity", "User-Agent": "autotag", "Connection": "close"}
        trusted = _trusted(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
        client = httpx2.Client(headers={**headers, **always}, timeout=self.timeout, verify=trusted)
        try:
            return in_time(lambda: self._asked(client, method, body), Deadline(self.timeout))
        except httpx2.TimeoutException as error:
            raise TimeoutError(str(error)) from error
        except httpx2.ProxyError as error:
            self._fail(ModelUnavailableError, f"the proxy refuses ({error})", error)
        except httpx2.TransportError as error:
            untrusted = _certificate_error(error)
            if untrusted is not None:
                raise untrusted from error
            what = (
                "it cannot be reached" if isinstance(error, httpx2.ConnectError) else "the connection fails"
            )
            raise _BusyError(f"{what} ({error})") from error
        except httpx2.InvalidURL as error:
            raise ValueError(str(error)) from error
        finally:
            client.close()  # this also ends an answer that still arrives

    def _asked(self, client: httpx2.Client, method: str, body: bytes) -> bytes:
        with client.stream(method, self.url, content=body or None) as response:
            if method == "HEAD" and response.status_code not in {*_BUSY, _PROXY_WANTS_NAME}:
                return b""
            if method == "HEAD" or response.status_code != _OK:
                self._refused(response)
            return _body(response)

    def _refused(self, response: httpx2.Response) -> NoReturn:
        """Raise the error for a status other than 200."""
        status, location = response.status_code, response.headers.get("Location")
        if 300 <= status < 400 and location:
            self._fail(
                ModelUnavailableError, f"it redirects to {_shown(location)}; redirects are not followed", None
            )
        words = f"it answers {status} {response.reason_phrase}".rstrip()
        reason = reason_in(_rest(response))
        words = f"{words}: {reason}" if reason else words
        if status in _BUSY:
            raise _BusyError(words, _seconds(response.headers.get("Retry-After")))
        self._fail(ModelUnavailableError if status in _NOT_THERE else ModelError, words, None)

    def _fail(self, kind: type[ModelError], reason: str, cause: BaseException | None) -> NoReturn:
        hint = _HINTS.get(self.name, "") if issubclass(kind, ModelUnavailableError) else ""
        name = f" {self.name!r}" if self.name in _HINTS else ""
        raise kind(self.name, f"remote captioner{name} {self.shown_url}: {reason}.{hint}") from cause

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.token_env is None:
            return headers
        token = os.environ.get(self.token_env, "").strip()
        if not token or not token.isascii() or not token.isprintable():
            state = "holds no token" if token else "is not set"
            raise ConfigError(
                f"remote captioner {self.shown_url}: environment variable {self.token_env} {state}"
            )
        return {**headers, self.header: f"Bearer {token}" if self.header == "Authorization" else token}


class _BusyError(Exception):
    """Report a failure that a retry may fix; ``wait`` is the time that the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def _option(option: str, text: str) -> Any:
    """Return the value of an option written in an address."""
    kinds = {row.name: str(row.type) for row in fields(RemoteCaptioner) if row.name not in {"url", "name"}}
    if option not in kinds:
        raise UnknownNameError("option of a remote captioner", option, kinds)
    kind = {"int": int, "float": float}.get(kinds[option], str)
    try:
        return kind(text)
    except ValueError as error:
        raise ConfigError(f"remote captioner: {option} is {text!r}, which is not a number") from error


def _shown(url: str) -> str:
    scheme, separator, rest = url.partition("#")[0].partition("?")[0].partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{separator}{place.rpartition('@')[2]}{slash}{path}"


@lru_cache(maxsize=4)
def _trusted(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    """Return the certificates that the system or the environment trusts; cached, as reading takes 50 ms."""
    import httpx2

    return httpx2.create_ssl_context()


def _body(response: httpx2.Response) -> bytes:
    """Return the whole body of an answer.

    Raises:
        FailedError: it is compressed, or larger than ``MAX_BYTES``.
    """
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
        raise FailedError("the server sent it compressed although the request forbids that")
    claimed = response.headers.get("Content-Length", "")
    if claimed.isdecimal() and int(claimed) > MAX_BYTES:
        raise FailedError(f"it has {claimed} bytes, more than {MAX_BYTES}")
    body = bytearray()
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > MAX_BYTES:
            raise FailedError(f"it has more than {MAX_BYTES} bytes")
    return bytes(body)


def _rest(response: httpx2.Response) -> bytes:
    """Return the rest of an answer, or nothing if it is too large."""
    try:
        return _body(response)
    except FailedError:
        return b""


def _certificate_error(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Return the certificate error that caused an error, or None."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


def _seconds(header: str | None) -> float:
    """Return the seconds in ``Retry-After``, at most ``_LONGEST_WAIT``; 0 without one, or for a date."""
    return min(float(header), _LONGEST_WAIT) if header and header.isascii() and header.isdigit() else 0.0
