"""Immich's REST API, as far as tagging needs it.

The endpoints, permissions and shapes are those of Immich 2 and 3 (``server/src/controllers`` and ``services``
of immich-app/immich): ``tag``, ``search``, ``album``, ``asset``, ``asset-media``, ``user``, ``server``. Every
answer is checked before it is used.
"""

from __future__ import annotations

import json
import re
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from autotag.errors import ConfigError, PhotoServerError
from autotag.web.http_exchange import HttpUrl, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path


OLDEST = 2
"""The oldest major version of Immich whose API is known to be the one used here."""

PERMISSIONS = (
    "user.read", "album.read", "asset.read", "asset.view", "asset.update",
    "tag.read", "tag.create", "tag.asset",
)  # fmt: skip
"""What an API key needs."""

_ID = re.compile(r"[0-9A-Za-z-]{1,64}")  # a UUID; nothing that would mean something in a path
_MOST_BYTES = 64 * 2**20
_PAGE = 500
_AT_ONCE = 500
_TRIES = 8
_LONGEST_WAIT = 120.0
_CONNECTING = 10.0
_TOO_MANY = 429


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph of the server.

    Attributes:
        id: of its asset.
        name: of its original file.
    """

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ServerTag:
    """A tag of the user.

    Attributes:
        id: of the tag.
        value: the whole path, such as ``"auto/dog"``.
    """

    id: str
    value: str


def read_key(path: Path) -> str:
    """Return the API key in a file: its only line.

    Raises:
        ConfigError: it cannot be read, or does not hold one line of plain ASCII.
    """
    try:
        lines = path.read_text(encoding="ascii").split()
    except OSError as error:
        raise ConfigError(f"cannot read the API key file {str(path)!r}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the API key file {str(path)!r} holds more than plain ASCII.") from error
    if len(lines) != 1 or not lines[0].isprintable():
        raise ConfigError(f"the API key file {str(path)!r} must hold one key on one line.")
    return lines[0]


class ImmichClient:
    """Ask an Immich server. Thread-safe; a context manager.

    Connections that fail, and the answers 429 and 5xx, are retried with growing waits, about two minutes in
    all, or longer where ``Retry-After`` says so; but a server that has never answered and takes no connection
    is not waited for. Redirects are not followed, so that the key goes to this server only.

    Args:
        server: its URL, with or without ``/api``.
        key: an API key of the user whose photographs are tagged.
        timeout: seconds between two pieces of an answer; connecting may take 10 of them.
        wait: waits for some seconds.
        told: told before each wait why it waits, and how long.

    Raises:
        ConfigError: it is not the URL of a server.
    """

    def __init__(
        self,
        server: str,
        key: str,
        *,
        timeout: float = 60.0,
        wait: Callable[[float], None] = time.sleep,
        told: Callable[[str], None] = lambda _message: None,
    ) -> None:
        import httpx2

        self.url = _base(server)
        self._wait = wait
        self._told = told
        self._has_answered = False
        headers = {"x-api-key": key, "User-Agent": "autotag", "Accept-Encoding": "identity"}
        limits = httpx2.Timeout(timeout, connect=min(timeout, _CONNECTING))
        self._http = httpx2.Client(headers=headers, timeout=limits)

    def __enter__(self) -> ImmichClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def check(self) -> str:
        """Return the id of the key's user, after checking server, version and key.

        Raises:
            PhotoServerError: it is not Immich, too old, does not answer, or does not accept the key.
        """
        if self._get("/server/ping", absent="it is not an Immich server").get("res") != "pong":
            self._fail("it is not an Immich server: GET /api/server/ping is not answered with pong")
        found = self._get("/server/version", absent=_TOO_OLD)
        version = [found.get(part) for part in ("major", "minor", "patch")]
        if not all(isinstance(part, int) for part in version):
            self._odd("GET /server/version")
        if version[0] < OLDEST:  # type: ignore[operator]
            self._fail(
                f"it is Immich {'.'.join(map(str, version))}; {OLDEST}.0.0 is the oldest that is supported"
            )
        return self._id(self._get("/users/me"), "GET /users/me")

    def album(self, name: str) -> str:
        """Return the id of the album of this name, or with this id.

        Raises:
            PhotoServerError: there is none, or more than one.
        """
        rows = self._json("GET", "/albums") + self._json("GET", "/albums?shared=true")
        where = "GET /albums"
        albums = {self._id(row, where): self._text(row, "albumName", where) for row in rows}
        found = [one for one, title in albums.items() if name in (title, one)]
        if not found:
            known = ", ".join(sorted(set(albums.values()))[:20])
            self._fail(f"it has no album {name!r} for this user; it has: {known or 'none'}")
        if len(found) > 1:
            self._fail(f"it has {len(found)} albums {name!r}; name one by its id: {', '.join(found)}")
        return found[0]

    def photos(
        self, user: str, *, album: str | None = None, since: datetime | None = None
    ) -> Iterator[Photo]:
        """Yield the user's photographs in the timeline, oldest first.

        Args:
            user: whose.
            album: only those in the album with this id.
            since: only those taken at or after this time, which names its zone.
        """
        wanted: dict[str, Any] = {"type": "IMAGE", "order": "asc", "size": _PAGE}
        if album is not None:
            wanted["albumIds"] = [album]
        if since is not None:
            wanted["takenAfter"] = since.isoformat()
        where, page = "POST /search/metadata", 1
        while page:
            answer = self._json("POST", "/search/metadata", {**wanted, "page": page}, kind=dict)
            assets = answer.get("assets")
            if not isinstance(assets, dict) or not isinstance(assets.get("items"), list):
                self._odd(where)
            for row in assets["items"]:
                photo = Photo(self._id(row, where), self._text(row, "originalFileName", where))
                if self._text(row, "ownerId", where) == user:
                    yield photo
            following = assets.get("nextPage")
            if following is not None and not (str(following).isdecimal() and int(following) > page):
                self._odd(where)
            page = int(following or 0)

    def preview(self, photo: Photo) -> bytes:
        """Return a photograph as the server shows it, about 1440 pixels long, in JPEG or WebP.

        Raises:
            PhotoServerError: with ``status`` 400 or 404, the server has none of this photograph.
        """
        return self._ask("GET", f"/assets/{photo.id}/thumbnail?size=preview")

    def tags_of(self, asset: str) -> list[ServerTag]:
        """Return the tags of a photograph.

        Raises:
            PhotoServerError: with ``status`` 400 or 404, the user has no such photograph any more.
        """
        row = self._get(f"/assets/{asset}")
        return self._tags(row.get("tags", []), "GET /assets/{id}")

    def tags(self) -> list[ServerTag]:
        """Return all tags of the user."""
        return self._tags(self._json("GET", "/tags"), "GET /tags")

    def upsert_tags(self, values: Sequence[str]) -> list[ServerTag]:
        """Return the tags with these values, made where they are missing, in this order."""
        found: dict[str, ServerTag] = {}
        for some in _groups(values):
            answer = self._json("PUT", "/tags", {"tags": some})
            found |= {tag.value: tag for tag in self._tags(answer, "PUT /tags")}
        if missing := [value for value in values if value not in found]:
            self._fail(f"it did not make the tag {missing[0]!r}")
        return [found[value] for value in values]

    def tag_assets(self, asset: str, tags: Sequence[str]) -> None:
        """Give tags, by id, to one photograph; those it has already stay."""
        body = {"assetIds": [asset], "tagIds": list(tags)}
        answer = self._json("PUT", "/tags/assets", body, kind=dict)
        if not isinstance(answer.get("count"), int):
            self._odd("PUT /tags/assets")

    def untag_assets(self, tag: str, assets: Sequence[str]) -> dict[str, str]:
        """Take a tag from photographs; return by asset why it was not taken, empty where it was.

        The reason is Immich's own word: ``"not_found"`` where the photograph has not the tag.
        """
        where, reasons = "DELETE /tags/{id}/assets", {}
        for some in _groups(assets):
            for row in self._json("DELETE", f"/tags/{tag}/assets", {"ids": some}):
                asset = self._id(row, where)
                if not isinstance(row.get("success"), bool):
                    self._odd(where)
                reasons[asset] = "" if row["success"] else str(row.get("error") or "unknown")
        if set(reasons) != set(assets):
            self._odd(where)
        return reasons

    def _tags(self, rows: object, where: str) -> list[ServerTag]:
        if not isinstance(rows, list):
            self._odd(where)
        return [ServerTag(self._id(row, where), self._text(row, "value", where)) for row in rows]

    def _id(self, row: object, where: str) -> str:
        found = self._text(row, "id", where)
        if not _ID.fullmatch(found):
            self._odd(where)
        return found

    def _text(self, row: object, name: str, where: str) -> str:
        found = row.get(name) if isinstance(row, dict) else None
        return found if isinstance(found, str) and found else self._odd(where)

    def _get(self, path: str, *, absent: str | None = None) -> dict[str, Any]:
        found: dict[str, Any] = self._json("GET", path, kind=dict, absent=absent)
        return found

    def _json(
        self, method: str, path: str, body: object = None, *, kind: type = list, absent: str | None = None
    ) -> Any:
        content = self._ask(method, path, body, absent=absent)
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, kind):
            if path == "/server/ping":
                return {}
            self._odd(f"{method} {path.partition('?')[0]}")
        return found

    def _ask(self, method: str, path: str, body: object = None, *, absent: str | None = None) -> bytes:
        """Return the body of an answer; see the class for retries.

        Raises:
            PhotoServerError: no answer, or a refusal.
        """
        import httpx2

        for number in range(_TRIES):
            seconds, last = min(2.0**number, _LONGEST_WAIT), number == _TRIES - 1
            try:
                answer = self._once(method, path, body)
            except httpx2.TransportError as error:
                trouble = f"it cannot be reached ({error or type(error).__name__})"
                if last or _is_untrusted(error):
                    self._fail(trouble, cause=error)
                if not self._has_answered and isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
                    self._fail(f"{trouble}; {_NOBODY}", cause=error)
            else:
                self._has_answered = True
                if answer.status < 300:
                    return answer.content
                if answer.status != _TOO_MANY and answer.status < 500:
                    self._refuse(f"{method} /api{path}", answer, absent)
                trouble = f"it answers {answer.status} to {method} /api{path}{_said(answer.content)}"
                if last:
                    self._fail(f"{trouble}, {_TRIES} times", answer.status)
                seconds = max(seconds, _seconds(answer.headers.get("Retry-After")))
            where = f"Immich at {self.url}: {trouble}"
            self._told(f"{where}; try {number + 2} of {_TRIES} follows in {seconds:g} s")
            self._wait(seconds)
        raise AssertionError("the last try returns or raises")

    def _once(self, method: str, path: str, body: object) -> _Answer:
        content = bytearray()
        with self._http.stream(method, f"{self.url}/api{path}", json=body) as response:
            for part in response.iter_bytes():
                content += part
                if len(content) > _MOST_BYTES:
                    self._fail(f"its answer to {method} /api{path} has more than {_MOST_BYTES} bytes")
        return _Answer(response.status_code, response.headers, bytes(content))

    def _refuse(self, asked: str, answer: _Answer, absent: str | None) -> NoReturn:
        """Raise the error for a refusal; ``absent`` says what a 404 means."""
        status, said = answer.status, _said(answer.content)
        reason = f"it answers {status} to {asked}{said}"
        if status < 400:
            place = answer.headers.get("Location", "another place")
            reason = f"it redirects to {place}; redirects are not followed, so name that server"
        elif status == 401:
            reason = f"it does not accept the API key{said}; make one under Account Settings > API Keys"
        elif status == 403:
            reason = f"the API key may not do this{said}; it needs: {', '.join(PERMISSIONS)}"
        elif status == 404 and absent is not None:
            reason = absent
        elif status == 404 and " /api/assets/" not in asked:
            reason = f"{_TOO_OLD}: it does not know {asked.partition('?')[0]}"
        self._fail(reason, status)

    def _odd(self, where: str) -> NoReturn:
        self._fail(f"its answer to {_api(where)} does not have the shape of Immich's API")

    def _fail(self, reason: str, status: int | None = None, cause: BaseException | None = None) -> NoReturn:
        raise PhotoServerError(self.url, reason, status) from cause


def _api(asked: str) -> str:
    """Return ``"GET /api/tags"`` for ``"GET /tags"``."""
    return asked.replace(" /", " /api/", 1)


_NOBODY = "does the server run, and are its name and port right? Immich's own port is 2283"
_TOO_OLD = f"it is older than Immich {OLDEST}, the oldest that is supported"


def _base(server: str) -> str:
    try:
        HttpUrl.of(server)
    except RefusedError as error:
        raise ConfigError(f"--server {server!r}: {error}. Write it like http://immich.local:2283.") from error
    parts = urlsplit(server)
    path = parts.path.rstrip("/").removesuffix("/api")
    if parts.query or parts.fragment:
        raise ConfigError(f"--server {server!r} has a query or a fragment; leave it out.")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _groups(values: Sequence[str]) -> Iterable[list[str]]:
    return (list(values[start : start + _AT_ONCE]) for start in range(0, len(values), _AT_ONCE))


def _said(content: bytes) -> str:
    """Return Immich's own words about an error, in brackets; empty without any."""
    try:
        message = json.loads(content)["message"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return ""
    words = "; ".join(map(str, message)) if isinstance(message, list) else str(message)
    return f" ({words[:300]})"


def _seconds(header: str | None) -> float:
    return min(float(header), _LONGEST_WAIT) if header and header.isascii() and header.isdigit() else 0.0


def _is_untrusted(error: BaseException | None) -> bool:
    """Return whether a wrong certificate is behind an error."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None
