"""The guard before every request: who may ask, from which page, and what a browser may do with the answer.

The server changes photographs, and a browser sends requests for every page that is open in it. So a request
has to name a host that is this server's (a stranger's name that was pointed at this machine, DNS rebinding,
is not), and one that a browser sends on behalf of another page is refused, whatever it asks for.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from autotag.web.foreign_pages import asks_by_name, is_of_another_page, names_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "autotag_review"
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_MOST_BODY = 8 * 2**20
_MOST_SESSIONS = 64
_API = "/review/api/"
_SESSION = "/review/api/session"
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Sessions:
    """Keep who brought a token: their browser gets a cookie, which pictures need.

    Args:
        tokens: of the server; without any, nobody needs one.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self._tokens = tuple(token.encode() for token in tokens)
        self._sessions: OrderedDict[str, None] = OrderedDict()

    @property
    def needed(self) -> bool:
        """Return whether requests have to show a token or the cookie of a session."""
        return bool(self._tokens)

    def begin(self) -> str:
        """Return the value of a new cookie."""
        value = secrets.token_urlsafe(32)
        self._sessions[value] = None
        while len(self._sessions) > _MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return value

    def allow(self, headers: Headers, *, by_cookie: bool = True) -> bool:
        """Return whether a request brings a token, or the cookie of somebody who did."""
        if not self._tokens:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        matches = [hmac.compare_digest(given.strip().encode(), token) for token in self._tokens]
        if scheme.lower() == "bearer" and any(matches):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return by_cookie and cookie is not None and cookie.value in self._sessions


class Guard:
    """Refuse what must not be answered, and add the headers that keep browsers careful.

    Args:
        app: what answers.
        sessions: who may ask.
        host: the name or address that the server listens on.
    """

    def __init__(self, app: ASGIApp, *, sessions: Sessions, host: str) -> None:
        self._app, self._sessions = app, sessions
        self._names = names_of(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def careful(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        refusal = self._refusal(scope, Headers(scope=scope))
        await (refusal or self._app)(scope, receive, careful)

    def _refusal(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        """Return the answer to a request that is refused; None for one that may pass."""
        if not self._sessions.needed and not asks_by_name(headers, self._names):
            return refused(421, "wrong_host", "this server is not known by that name; use its address.")
        is_page = scope["method"] in _READING and not scope["path"].startswith(_API)
        if is_of_another_page(headers, linked=is_page):
            return refused(403, "foreign_page", "another page asked for this, and it is refused.")
        if scope["method"] not in _READING:
            if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                return refused(415, "wrong_type", "send JSON, as Content-Type: application/json.")
            length = headers.get("content-length", "")
            if not length.isdigit() or int(length) > _MOST_BODY:
                return refused(
                    413, "too_large", f"send a body of a known length, of at most {_MOST_BODY} bytes."
                )
        is_open = not scope["path"].startswith(_API) and scope["path"] != "/openapi.json"
        if is_open or self._sessions.allow(headers, by_cookie=scope["path"] != _SESSION):
            return None
        answer = refused(401, "unauthorized", "send a token: Authorization: Bearer <token>.")
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer


def refused(status: int, code: str, message: str) -> JSONResponse:
    """Return an error in the shape of all errors here."""
    return JSONResponse({"error": {"code": code, "message": message}}, status_code=status)
