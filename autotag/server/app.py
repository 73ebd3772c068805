"""The ASGI application: routes, limits, tokens, error shapes, counts and logs around them."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from traceback import format_exception
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from autotag.errors import DISTRIBUTION, RequestRefusedError
from autotag.server.core.refusals import STATUS
from autotag.server.core.service import UNTIL, ClientGoneError, Service
from autotag.server.json_log import REQUESTS
from autotag.server.native import native_routes
from autotag.server.protocols.ollama import ollama_routes
from autotag.server.protocols.openai import openai_routes
from autotag.server.protocols.photoprism import photoprism_routes
from autotag.web.asgi import replayed, take_path
from autotag.web.foreign_pages import asks_by_name, is_of_another_page, names_of
from autotag.web.listening import is_loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_OPEN = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json"})
"""What needs no token: states, and descriptions of the API, which tell nothing of images and presets."""
_LLM = ("/v1/chat/", "/v1/responses", "/v1/embeddings", "/v1/models")
_GONE = 499
_FAULT = RequestRefusedError("model_failed", "the server failed; its log says why.")
_logger = logging.getLogger(REQUESTS)
_DOCS = Path(__file__).with_name("docs.html")


def create_app(
    service: Service,
    *,
    tokens: Sequence[str] = (),
    host: str = "127.0.0.1",
    preload: bool = True,
    give_up: Callable[[BaseException], None] = lambda _error: None,
    page: str = "",
) -> FastAPI:
    """Return the application that answers for a service.

    Args:
        service: answers; started and stopped with the application.
        tokens: if any, one of them has to come with each request as a bearer token, but for states and the
            pages about the API, which a browser opens.
        host: where the server listens. If only this machine reaches it and there are no tokens, requests have
            to name this machine, and requests that browsers send for other pages are refused, see
            ``autotag.web.foreign_pages``.
        preload: whether models are loaded before the first request is taken, or beside it.
        give_up: called when they cannot be loaded.
        page: the path of a page that the caller mounts, such as ``"/demo"``; it checks tokens and sizes of
            its requests itself.
    """

    def failed(loading: asyncio.Task[None]) -> None:
        if not loading.cancelled() and (error := loading.exception()) is not None:
            give_up(error)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(asyncio.to_thread(service.start))
        loading.add_done_callback(failed)
        if preload:
            await loading
        yield
        await asyncio.wait({loading})
        await service.stop()

    app = FastAPI(
        title="autotag", version=version(DISTRIBUTION), docs_url=None, redoc_url=None, lifespan=lifespan
    )
    # The description of the API says that they need a token; the gate below checks it.
    locked = [Depends(HTTPBearer(auto_error=False))] if tokens else []
    for routes in (native_routes, openai_routes, ollama_routes, photoprism_routes):
        app.include_router(routes(service), dependencies=locked)
    _add_operation(app, service, locked)
    _add_errors(app, service)
    app.add_middleware(
        _Gate, service=service, tokens=tuple(token.encode() for token in tokens), host=host, page=page
    )
    return app


def _add_operation(app: FastAPI, service: Service, locked: list[Any]) -> None:
    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", summary="Return whether the server runs", tags=["operation"])
    async def healthz() -> dict[str, str]:
        """Return that the server runs."""
        return {"status": "ok"}

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", summary="Return whether it accepts images now", tags=["operation"])
    async def readyz() -> Response:
        """Return whether images are accepted now: 200 if so, else 503."""
        status = "ready" if service.ready else "full or draining" if service.loaded else "loading"
        return JSONResponse({"status": status}, status_code=200 if service.ready else 503)

    @app.get("/metrics", summary="Counts, for Prometheus", tags=["operation"], dependencies=locked)
    async def metrics() -> Response:
        """Return counts in Prometheus' text format."""
        return PlainTextResponse(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.head("/docs", include_in_schema=False)
    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        """Return the page that shows the API."""
        return HTMLResponse(_DOCS.read_text(encoding="utf-8"))


def _add_errors(app: FastAPI, service: Service) -> None:
    @app.exception_handler(RequestRefusedError)
    async def refused(request: Request, refusal: RequestRefusedError) -> Response:
        service.metrics.errors.labels(refusal.kind).inc()
        return _refusal(request.scope, refusal)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return await refused(request, RequestRefusedError("wrong_option", f"{where}: {first['msg']}."))

    @app.exception_handler(HTTPException)
    async def failed(request: Request, error: HTTPException) -> Response:
        kind = "not_found" if error.status_code == 404 else "bad_request"
        response = _refusal(
            request.scope, RequestRefusedError(kind, f"{error.detail}: {request.url.path[:200]}")
        )
        response.status_code = error.status_code
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(ClientGoneError)
    async def gone(_request: Request, _error: ClientGoneError) -> Response:
        return Response(status_code=_GONE)


def protocol_of(path: str) -> str:
    """Return which protocol a path belongs to."""
    if path.startswith("/api/v1/vision/"):
        return "photoprism"
    if path.startswith("/api/"):
        return "ollama"
    if path.startswith(_LLM):
        return "openai"
    return "native" if path.startswith("/v1/") else "operation"


def _refusal(scope: Scope, refusal: RequestRefusedError) -> JSONResponse:
    """Return a refusal in the shape of the protocol that was spoken."""
    protocol = protocol_of(scope["path"])
    status, request_id = STATUS[refusal.kind], scope.get("autotag.id", "")
    if protocol in {"openai", "ollama", "photoprism"} and refusal.kind in {"not_an_image", "wrong_option"}:
        status = STATUS["bad_request"]
    body: dict[str, Any]
    if protocol == "photoprism":
        named = scope.get("state", {}).get("vision_id", request_id)
        body = {"id": named, "code": status, "error": refusal.message, "result": {}}
    elif protocol == "ollama":
        body = {"error": refusal.message}
    else:
        client = status < 500 and status != STATUS["overloaded"]
        kind = "invalid_request_error" if client else "server_error"
        kind = "rate_limit_error" if refusal.kind == "overloaded" else kind
        error = {"message": refusal.message, "type": kind, "code": refusal.kind, "param": None}
        body = {"error": error, "request_id": request_id}
    headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
    if refusal.kind == "unauthorized":
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, status_code=status, headers=headers)


@dataclass(slots=True)
class _Held:
    """The bytes of one request's body that have arrived."""

    bytes: int = 0


class _Gate:
    """Give each request an id, check who sends it and the size of its body, count it and log it."""

    def __init__(
        self, app: ASGIApp, *, service: Service, tokens: tuple[bytes, ...], host: str, page: str
    ) -> None:
        self._app = app
        self._names = names_of(host) if is_loopback(host) else None
        self._page = page
        self._service = service
        self._tokens = tokens
        self._bodies = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        take_path(scope)
        headers = {name.lower(): value for name, value in scope["headers"]}
        scope["autotag.id"] = request_id = _request_id(headers.get(b"x-request-id", b""))
        scope[UNTIL] = time.monotonic() + self._service.limits.timeout
        started, status, is_gone = time.perf_counter(), 0, False

        async def receiving() -> Message:
            nonlocal is_gone
            message = await receive()
            is_gone = is_gone or message["type"] == "http.disconnect"
            return message

        async def answering(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        held = _Held()
        try:
            self._check_page(scope)
            if self._page and (scope["path"] == self._page or scope["path"].startswith(f"{self._page}/")):
                await self._app(scope, receiving, answering)
                return
            self._check_token(scope["path"], headers.get(b"authorization", b""))
            body = await self._body(headers, receiving, held)
            if body is None:
                return  # the client hung up
            await self._app(scope, replayed(body, receiving), answering)
        except RequestRefusedError as refusal:
            self._service.metrics.errors.labels(refusal.kind).inc()
            await _refusal(scope, refusal)(scope, receive, answering)
        except ClientDisconnect:
            await Response(status_code=_GONE)(scope, receive, answering)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is logged, and the server goes on
            self._tell_fault(request_id, error)
            if not status:
                await _refusal(scope, _FAULT)(scope, receive, answering)
        finally:
            self._bodies -= held.bytes
            status = status or (_GONE if is_gone else STATUS[_FAULT.kind])
            self._note(scope, status, time.perf_counter() - started)

    def _check_page(self, scope: Scope) -> None:
        """Refuse what a stranger's page makes a browser ask; a token proves that none does."""
        if self._tokens:
            return
        headers = Headers(scope=scope)
        if self._names is not None and not asks_by_name(headers, self._names):
            raise RequestRefusedError(
                "wrong_host", "without tokens this server answers to names of this machine only: localhost."
            )
        is_link = scope["method"] in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
        if is_of_another_page(headers, linked=is_link):
            raise RequestRefusedError("foreign_page", "another page asked for this, and it is refused.")

    def _check_token(self, path: str, authorization: bytes) -> None:
        if not self._tokens or path in _OPEN:
            return
        scheme, _, given = authorization.partition(b" ")
        matches = [hmac.compare_digest(given.strip(), token) for token in self._tokens]
        if scheme.lower() != b"bearer" or not any(matches):
            raise RequestRefusedError(
                "unauthorized", "send a token of this server: Authorization: Bearer <token>."
            )

    async def _body(self, headers: dict[bytes, bytes], receive: Receive, held: _Held) -> bytes | None:
        """Return the whole body; None if the client disconnects before its end.

        What has arrived is counted, whether or not the client said how much will come.
        """
        said = headers.get(b"content-length", b"0")
        self._check_size(int(said) if said.isdigit() else 0, held)
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(self._service.limits.timeout):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    part = message.get("body", b"")
                    self._check_size(held.bytes + len(part), held)
                    held.bytes += len(part)
                    self._bodies += len(part)
                    parts.append(part)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError as error:
            seconds = self._service.limits.timeout
            raise RequestRefusedError(
                "timed_out", f"the body did not arrive within {seconds:g} s."
            ) from error

    def _check_size(self, size: int, held: _Held) -> None:
        """Refuse a body of this size, or one that is too much together with those of others."""
        limits = self._service.limits
        if size > limits.max_body_bytes:
            raise RequestRefusedError("too_large", f"the body has more than {limits.max_body_bytes} bytes.")
        others = self._bodies - held.bytes
        if others and others + size > limits.max_waiting_bytes:
            raise RequestRefusedError(
                "overloaded", "too many bytes are waiting already.", self._retry_after()
            )

    def _retry_after(self) -> int:
        return self._service.batcher.retry_after() if self._service.loaded else 5

    def _tell_fault(self, request_id: str, error: Exception) -> None:
        self._service.metrics.errors.labels(_FAULT.kind).inc()
        row = {"request": request_id, "error": repr(error), "traceback": "".join(format_exception(error))}
        _logger.error("%s", json.dumps(row))

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        protocol = protocol_of(scope["path"])
        self._service.metrics.requests.labels(protocol, str(status)).inc()
        self._service.metrics.seconds.labels(protocol).observe(seconds)
        row = {
            "request": scope["autotag.id"], "method": scope["method"], "path": scope["path"][:200],
            "status": status, "seconds": round(seconds, 4),
        }  # fmt: skip
        _logger.info("%s", json.dumps(row))


def _request_id(given: bytes) -> str:
    """Return the client's request id if it is safe in a header and a log, else a new one."""
    text = given.decode("ascii", "ignore")
    fit = 0 < len(given) <= 128 and len(text) == len(given) and all(c.isalnum() or c in "-_.:" for c in text)
    return text if fit else uuid4().hex
