"""Put the page into the server's application, and guard its requests.

Gradio is told to report nothing and to load nothing from elsewhere, and a Content-Security-Policy makes the
browser keep to that. Gradio would also fetch URLs that a client names instead of an upload; they are refused.
"""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING

import gradio as gr
from gradio.themes.utils.colors import red
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from autotag.demo.page import make_page
from autotag.demo.uploads import UploadLimits
from autotag.web.asgi import replayed, take_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from autotag.demo.searched_index import SearchedIndex
    from autotag.server.core.service import Service

PATH = "/demo"
_UPLOAD = f"{PATH}/gradio_api/upload"
_MOST_JSON = 2**20
_URLS = ("http://", "https://")
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'self'; "
    "frame-ancestors 'self'"
)
_FONTS = ("system-ui", "sans-serif")
_MONO = ("ui-monospace", "monospace")
_STYLE = """
.table-wrap { --font-mono: var(--font) }
::placeholder { font-style: italic }
[role=tab][aria-selected=true] { color: var(--primary-700) !important }
.dark [role=tab][aria-selected=true] { color: var(--primary-400) !important }
@media (max-width: 600px) { .grid-container { grid-template-columns: repeat(2, minmax(0, 1fr)) !important } }
"""


def mount_page(
    app: FastAPI,
    service: Service,
    *,
    tokens: Sequence[str] = (),
    limits: UploadLimits | None = None,
    index: SearchedIndex | None = None,
) -> None:
    """Mount the page at ``/demo``.

    Args:
        app: from ``autotag.server.app.create_app(page="/demo")``.
        service: what answers.
        tokens: if any, visitors sign in with one of them as the password, under any name.
        limits: of uploads; by default an image may have as many bytes as a request of the server.
        index: for the tab Search; there is none without it.
    """
    limits = limits or UploadLimits(max_image_bytes=service.limits.max_body_bytes)

    def is_known(_name: str, password: str) -> bool:
        matches = [hmac.compare_digest(password.encode(), token.encode()) for token in tokens]
        return any(matches)

    gr.mount_gradio_app(
        app,
        make_page(service, limits, index),
        PATH,
        auth=is_known if tokens else None,
        auth_message="Any name; the password is a token of this server." if tokens else None,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        max_file_size=limits.max_bytes,
        theme=_theme(),
        css=_STYLE,
    )
    app.add_middleware(_Guard, most_bytes=limits.max_bytes)


def _theme() -> gr.themes.Base:
    """Return Gradio's theme, with colours that leave text 4.5:1 on its ground."""
    fills = {
        f"button_{kind}_background_fill{state}{mode}": colour
        for kind, colours in (("primary", ("*primary_700", "*primary_800")), ("cancel", (red.c700, red.c800)))
        for state, colour in zip(("", "_hover"), colours, strict=True)
        for mode in ("", "_dark")
    }
    return gr.themes.Default(font=_FONTS, font_mono=_MONO).set(
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        **fills,
    )


class _Guard:
    """Refuse requests to the page that are too large or name URLs; add the headers of its answers."""

    def __init__(self, app: ASGIApp, *, most_bytes: int) -> None:
        self._app = app
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            take_path(scope)
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path == PATH or path.startswith(f"{PATH}/")):
            await self._app(scope, receive, send)
            return

        async def careful(message: Message) -> None:
            """Send a message, with the page's content security policy in its headers."""
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["content-security-policy"] = _POLICY
                headers["referrer-policy"] = "no-referrer"
                headers["x-content-type-options"] = "nosniff"
            await send(message)

        if any(f"{kind}={scheme.split('/')[0]}" in path for kind in ("file", "proxy") for scheme in _URLS):
            await _refused(403, "URLs are not fetched; upload the file.")(scope, receive, careful)
            return
        is_upload = path.rstrip("/") == _UPLOAD
        most = self._most_bytes + _MOST_JSON if is_upload else _MOST_JSON
        said = Headers(scope=scope).get("content-length", "0")
        if said.isdigit() and int(said) > most:
            await _refused(413, f"the request has more than {most} bytes.")(scope, receive, careful)
        elif is_upload or scope["method"] != "POST":
            await self._app(scope, _bounded(receive, most), careful)
        else:
            body = await _whole(receive, most)
            if body is None:
                await _refused(413, f"the request has more than {most} bytes.")(scope, receive, careful)
            elif _names_url(body):
                await _refused(403, "URLs are not fetched; upload the file.")(scope, receive, careful)
            else:
                await self._app(scope, replayed(body, receive), careful)


def _refused(status: int, message: str) -> JSONResponse:
    return JSONResponse({"detail": message, "error": message}, status_code=status)


def _bounded(receive: Receive, most: int) -> Receive:
    """Pass a body on, and end the request as if the client had hung up if it is larger than it may be."""
    size = 0

    async def bounded() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        return message if size <= most else {"type": "http.disconnect"}

    return bounded


async def _whole(receive: Receive, most: int) -> bytes | None:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > most:
            return None
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return bytes(body)


def _names_url(body: bytes) -> bool:
    """Return whether a JSON body has an object whose ``path`` is a URL."""
    try:
        left = [json.loads(body)]
    except (ValueError, RecursionError):
        return False
    while left:
        value = left.pop()
        if isinstance(value, dict):
            path = value.get("path")
            if isinstance(path, str) and path.lower().startswith(_URLS):
                return True
            left += value.values()
        elif isinstance(value, list):
            left += value
    return False
