"""The ASGI application of a review: endpoints, the page's files, errors, the guard around them."""

from __future__ import annotations

import logging
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from autotag.errors import DISTRIBUTION, AutotagError, RequestRefusedError
from autotag.review.endpoints import review_routes, shown
from autotag.review.guard import Guard, refused

if TYPE_CHECKING:
    from autotag.review.endpoints import Desk

_PAGE = Path(__file__).with_name("static")
_STATUS = {"wrong_option": 422, "not_found": 404, "conflict": 409, "another_review": 409, "gone": 410}
_logger = logging.getLogger("autotag.review")


def create_app(desk: Desk, *, host: str = "127.0.0.1") -> FastAPI:
    """Return the application.

    Args:
        desk: what it works with.
        host: the name or address that it listens on.
    """
    app = FastAPI(title="autotag review", version=version(DISTRIBUTION), docs_url=None, redoc_url=None)
    app.include_router(review_routes(desk))
    _add_errors(app)

    @app.get("/", include_in_schema=False)
    @app.get("/review", include_in_schema=False)
    def page() -> Response:
        """Redirect to the address of the page, which ends with a slash."""
        return RedirectResponse("/review/")

    app.mount("/review", _Files(directory=_PAGE, html=True))
    app.add_middleware(Guard, sessions=desk.sessions, host=host)
    return app


class _Files(StaticFiles):
    """Serve the page's files so that a browser looks for new ones after an upgrade."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = "no-cache"
        return response


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestRefusedError)
    async def refusal(_request: Request, error: RequestRefusedError) -> Response:
        return refused(_STATUS[error.kind], error.kind, shown(error.message))

    @app.exception_handler(AutotagError)
    async def impossible(_request: Request, error: AutotagError) -> Response:
        return refused(409, "impossible", shown(str(error)))

    @app.exception_handler(OSError)
    async def disk(_request: Request, error: OSError) -> Response:
        _logger.error("a file cannot be written", exc_info=error)
        return refused(507, "not_kept", shown(f"it could not be kept, and was not done: {error}"))

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return refused(422, "wrong_option", shown(f"{where}: {first['msg']}."))

    @app.exception_handler(HTTPException)
    async def failed(_request: Request, error: HTTPException) -> Response:
        return refused(
            error.status_code, "not_found" if error.status_code == 404 else "bad_request", str(error.detail)
        )

    @app.exception_handler(Exception)
    async def broken(_request: Request, error: Exception) -> Response:
        _logger.error("a request failed", exc_info=error)
        return refused(500, "failed", "the server failed; its log says why.")
