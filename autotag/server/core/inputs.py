"""Images out of requests: data URLs, base64, allowed URLs, forms and bare bodies."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import TYPE_CHECKING, Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from autotag.errors import ImageReadError, RequestRefusedError
from autotag.server.core.strict_json import read_json
from autotag.web.public_urls import decode_data_uri

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import TypeAlias

    from starlette.requests import Request

    Fetched: TypeAlias = Callable[[str], Awaitable[bytes]]
    Upload: TypeAlias = bytes | RequestRefusedError


async def json_body(request: Request) -> dict[str, Any]:
    """Return the JSON object in a request's body.

    Raises:
        RequestRefusedError: there is none.
    """
    try:
        found = read_json((await request.body()).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise RequestRefusedError("bad_request", f"the body is not JSON: {str(error)[:200]}.") from error
    if not isinstance(found, dict):
        raise RequestRefusedError("bad_request", "the body is JSON, but not an object.")
    return found


async def image_in_text(text: object, fetched: Fetched) -> bytes:
    """Return the image file in a data URL or in base64, or behind an http(s) URL.

    Args:
        text: from a request.
        fetched: returns the bytes at a URL.

    Raises:
        RequestRefusedError: it is none of these.
    """
    if not isinstance(text, str) or not text:
        raise RequestRefusedError("bad_request", "an image must be a data URL or base64 text.")
    lowered = text[:8].lower()
    if lowered.startswith(("http://", "https://")):
        return await fetched(text)
    try:
        if lowered.startswith("data:"):
            return await asyncio.to_thread(decode_data_uri, text)
        return await asyncio.to_thread(_decoded, text)
    except (ImageReadError, binascii.Error, ValueError) as error:
        reason = error.reason if isinstance(error, ImageReadError) else "it is neither a data URL nor base64"
        raise RequestRefusedError("not_an_image", f"the image cannot be read: {reason}.") from error


def _decoded(text: str) -> bytes:
    return base64.b64decode("".join(text.split()), validate=True)


async def uploads(
    request: Request, fetched: Fetched, *, most: int, most_bytes: int
) -> list[tuple[str, Upload]]:
    """Return name and content (or the refusal of it) of every image in a native request, in order.

    A multipart form has files in any fields; JSON has ``image``, or ``images``; any other body is an image.
    Those of JSON, which may be URLs, have ``most_bytes`` together at most.

    Raises:
        RequestRefusedError: there is no image, there are too many, the body cannot be read, or something else
            is in it that would be ignored, such as an option.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    found: list[tuple[str, Upload]]
    if kind == "multipart/form-data":
        found = await _form_files(request, most)
    elif kind == "application/json":
        body = await json_body(request)
        _check_fields(body.keys() - {"image", "images"}, "'image' or 'images'")
        if {"image", "images"} <= body.keys():
            raise RequestRefusedError("bad_request", "send image or images, not both.")
        given = body.get("images", [body["image"]] if "image" in body else [])
        if not isinstance(given, list):
            raise RequestRefusedError("bad_request", "images must be a list of data URLs.")
        _check_count(len(given), most)
        found, left = [], most_bytes
        for number, one in enumerate(given, 1):
            content = await _or_refusal(one, fetched)
            left -= len(content) if isinstance(content, bytes) else 0
            if left < 0:
                raise RequestRefusedError(
                    "too_large", f"the images of the request have more than {most_bytes} bytes together."
                )
            found.append((f"image-{number}", content))
    elif kind.startswith("image/") or kind in {"application/octet-stream", ""}:
        content = await request.body()
        found = [("image-1", content)] if content else []
    else:
        raise RequestRefusedError(
            "not_an_image", f"a body of type {kind[:80]!r} holds no image; send image/*, JSON or a form."
        )
    _check_count(len(found), most)
    return found


async def _or_refusal(given: object, fetched: Fetched) -> Upload:
    try:
        return await image_in_text(given, fetched)
    except RequestRefusedError as refusal:
        return refusal


async def _form_files(request: Request, most: int) -> list[tuple[str, Upload]]:
    try:
        async with request.form(max_files=most + 1, max_fields=100) as form:
            items = form.multi_items()
            _check_fields((name for name, one in items if not isinstance(one, UploadFile)), "files")
            files = [one for _, one in items if isinstance(one, UploadFile)]
            return [(file.filename or "upload", await file.read()) for file in files]
    except MultiPartException as error:
        raise _bad_form(error.message) from error
    except HTTPException as error:  # in an application, starlette wraps its own parser's error
        raise _bad_form(error.detail) from error
    except ValueError as error:
        raise _bad_form(str(error)) from error


def _bad_form(reason: str) -> RequestRefusedError:
    return RequestRefusedError("bad_request", f"the form cannot be read: {reason.rstrip('.')}.")


def _check_fields(unread: Iterable[str], read: str) -> None:
    """Refuse a body with fields that are not read: its sender expects them to change the answer."""
    for name in unread:
        raise RequestRefusedError(
            "wrong_option",
            f"only {read} are read from the body, not {name[:80]!r}: options belong in the address, as "
            "in ?top_k=8.",
        )


def _check_count(count: int, most: int) -> None:
    if count == 0:
        raise RequestRefusedError("bad_request", "there is no image in the request.")
    if count > most:
        raise RequestRefusedError("too_large", f"there are more than {most} images in the request.")
