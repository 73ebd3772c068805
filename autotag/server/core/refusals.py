"""The HTTP status of each kind of refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUS: Mapping[str, int] = {
    "bad_request": 400,
    "unauthorized": 401,
    "foreign_page": 403,
    "not_found": 404,
    "too_large": 413,
    "not_an_image": 415,
    "wrong_host": 421,
    "wrong_option": 422,
    "overloaded": 429,
    "model_failed": 500,
    "not_ready": 503,
    "timed_out": 504,
}
"""By ``RequestRefusedError.kind``; protocols that know no 415 or 422 say 400."""
