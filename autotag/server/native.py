"""The server's own API. A result is the record that ``autotag tag`` writes as JSON Lines."""

from __future__ import annotations

import asyncio
import base64
import json
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from autotag.errors import RequestRefusedError
from autotag.server.core.inputs import image_in_text, json_body, uploads
from autotag.server.core.keep_embedding import EMBEDDING
from autotag.server.core.service import MODEL, Service, while_waited_for
from autotag.server.core.wishes import MOST_TAGS, Wish
from autotag.writers.json_text import json_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotag.records import Result
    from autotag.server.core.inputs import Upload

Preset = Annotated[str, Query(description="A preset of the server; the first by default.")]
TopK = Annotated[int | None, Query(ge=1, le=MOST_TAGS, description="Tags at most.")]
VocabularyName = Annotated[str | None, Query(description="A bundled vocabulary to choose tags from.")]
Moderate = Annotated[bool, Query(description="Also say how safe the image is to show, in `moderation`.")]
Mode = Literal["best", "fast", "classic", "negative", "caption", "plain"]

_MOST_CHARACTERS = 10_000  # encoders read about 300; more only costs time

_IMAGE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_ONE = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": _IMAGE,
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"image": _IMAGE["schema"]}, "required": ["image"]}
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"image": {"type": "string", "description": "A data URL or base64."}},
                    "required": ["image"],
                }
            },
        },
    }
}
_SEVERAL = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"images": {"type": "array", "items": _IMAGE["schema"]}},
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"images": {"type": "array", "items": {"type": "string"}}},
                    "required": ["images"],
                }
            },
        },
    }
}


def native_routes(service: Service) -> APIRouter:
    """Return the routes of the server's own API."""
    router = APIRouter(tags=["autotag"])
    known_only = [Depends(_refuse_unknown_options)]

    async def tagged(request: Request, wish: Wish) -> Result:
        [(name, content)] = await _uploads(request, service, most=1)
        if isinstance(content, RequestRefusedError):
            raise content
        return await service.tag(request, content, wish, source=name)

    @router.post("/v1/tag", summary="Tag one image", openapi_extra=_ONE, dependencies=known_only)
    async def tag(
        request: Request,
        preset: Preset = "",
        top_k: TopK = None,
        vocabulary: VocabularyName = None,
        moderate: Moderate = False,
    ) -> Response:
        """Tag the image of the request."""
        wish = Wish(preset=preset, top_k=top_k, vocabulary=vocabulary, moderate=moderate)
        result = await tagged(request, wish)
        return Response(json_text(result), media_type="application/json")

    @router.post(
        "/v1/tag/batch",
        summary="Tag several images; each has its result or its error",
        openapi_extra=_SEVERAL,
        dependencies=known_only,
    )
    async def tag_batch(
        request: Request,
        preset: Preset = "",
        top_k: TopK = None,
        vocabulary: VocabularyName = None,
        moderate: Moderate = False,
    ) -> Response:
        """Tag every image of the request; an image that fails gets a row with its error."""
        wish = Wish(preset=preset, top_k=top_k, vocabulary=vocabulary, moderate=moderate)
        found = await _uploads(request, service, most=service.limits.images_at_once)
        named = [(name, content) for name, content in found if isinstance(content, bytes)]
        work = service.outcomes(
            [content for _, content in named],
            wish,
            sources=[name for name, _ in named],
            timeout=service.seconds_left(request),
        )
        outcomes = iter(await while_waited_for(request, work))
        rows = [
            _row(name, next(outcomes) if isinstance(content, bytes) else content) for name, content in found
        ]
        return Response(f'{{"results": [{", ".join(rows)}]}}', media_type="application/json")

    @router.post("/v1/caption", summary="Caption one image", openapi_extra=_ONE, dependencies=known_only)
    async def caption(request: Request, preset: Preset = "") -> dict[str, Any]:
        """Return the captions of the image, the best one also on its own."""
        result = await tagged(request, Wish(task="caption", preset=preset))
        row = result.to_dict()
        return {"source": result.source, "caption": result.caption, "captions": row["captions"]}

    @router.post(
        "/v1/prompt",
        summary="Write the prompt behind one image",
        openapi_extra=_ONE,
        dependencies=known_only,
    )
    async def prompt(request: Request, preset: Preset = "", mode: Mode | None = None) -> dict[str, Any]:
        """Return the prompt of the image, and its caption."""
        result = await tagged(request, Wish(task="prompt", preset=preset, mode=mode))
        return {"source": result.source, "prompt": result.prompt, "caption": result.caption}

    @router.post("/v1/embeddings", summary="Embed texts or images, in OpenAI's shape")
    async def embeddings(request: Request) -> dict[str, Any]:
        """Return a unit vector for each text or image, as OpenAI's API does."""
        body = await json_body(request)
        preset = service.preset_of(body.get("model"))
        as_base64 = _is_base64(body.get("encoding_format"))
        given = body.get("input")
        items: list[Any] = given if isinstance(given, list) else [given]
        if not items or not all(isinstance(item, str) and item for item in items):
            raise RequestRefusedError(
                "bad_request", "input must be a text, a data URL of an image, or a list of these."
            )
        most = service.limits.images_at_once
        if len(items) > most:
            raise RequestRefusedError("too_large", f"there are more than {most} inputs.")
        vectors = await while_waited_for(request, _vectors(request, service, items, preset))
        if body.get("dimensions") not in (None, len(vectors[0])):
            raise RequestRefusedError(
                "wrong_option", f"dimensions: the vectors of this model have {len(vectors[0])}, no others."
            )
        data = [
            {"object": "embedding", "index": index, "embedding": _encoded(vector, as_base64=as_base64)}
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": 0, "total_tokens": 0}
        return {"object": "list", "data": data, "model": body["model"], "usage": usage}

    @router.get("/v1/models", summary="The presets that this server has")
    async def models() -> dict[str, Any]:
        """List the presets of this server as OpenAI lists models."""
        rows = [
            {"id": name, "object": "model", "created": 0, "owned_by": MODEL} for name in service.model_names()
        ]
        return {"object": "list", "data": rows}

    @router.get("/v1/models/{name:path}", summary="One preset of this server")
    async def model(name: str) -> dict[str, Any]:
        """Return one preset as OpenAI returns a model; refuse a name that is not served."""
        service.preset_of(name)
        return {"id": name, "object": "model", "created": 0, "owned_by": MODEL}

    return router


async def _refuse_unknown_options(request: Request) -> None:  # async: FastAPI runs others in a thread
    """Refuse an option in the address that the endpoint does not have."""
    known = [option.name for option in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise RequestRefusedError(
                "wrong_option",
                f"{request.url.path} has no option {name[:80]!r}.{hint} Known: {', '.join(known)}.",
            )


def _is_base64(encoding_format: object) -> bool:
    """Return whether vectors are asked for in base64, not as numbers."""
    if encoding_format not in (None, "float", "base64"):  # it may be unhashable
        raise RequestRefusedError("wrong_option", "encoding_format must be 'float' or 'base64'.")
    return encoding_format == "base64"


def _row(name: str, outcome: Result | RequestRefusedError) -> str:
    """Return one image's result as JSON; if only this image is refused, a record with an error."""
    if not isinstance(outcome, RequestRefusedError):
        return json_text(outcome)
    if outcome.kind in {"not_ready", "not_found", "wrong_option"}:
        raise outcome
    return json.dumps({"source": name, "error": outcome.message, "kind": outcome.kind})


async def _uploads(request: Request, service: Service, *, most: int) -> list[tuple[str, Upload]]:
    """Return what ``uploads`` does, within the time and the bytes of the limits, fetched URLs included."""
    limits = service.limits
    try:
        async with asyncio.timeout(service.seconds_left(request)):
            return await uploads(
                request, service.fetched(request), most=most, most_bytes=limits.max_waiting_bytes
            )
    except TimeoutError as error:
        raise RequestRefusedError(
            "timed_out", f"the images were not there within {limits.timeout:g} s."
        ) from error


async def _vectors(
    request: Request, service: Service, items: Sequence[str], preset: str
) -> list[list[float]]:
    """Return the vectors of texts and of images in data URLs, in their order."""
    wish = Wish(task="embedding", preset=preset)
    is_image = [item[:5].lower() == "data:" for item in items]
    texts = [item for item, image in zip(items, is_image, strict=True) if not image]
    if any(len(text) > _MOST_CHARACTERS for text in texts):
        raise RequestRefusedError("too_large", f"a text has more than {_MOST_CHARACTERS} characters.")

    images = [item for item, image in zip(items, is_image, strict=True) if image]
    timeout = service.seconds_left(request)

    async def of_images() -> list[list[float]]:
        contents = [await image_in_text(image, service.fetched(request)) for image in images]
        found = await service.outcomes(contents, wish, sources=["image"] * len(images), timeout=timeout)
        return [list(_result(outcome).extras[EMBEDDING]) for outcome in found]

    async def of_texts() -> list[list[float]]:
        return await service.batcher.embed_texts(texts, wish, timeout=timeout) if texts else []

    found, looked = await asyncio.gather(of_texts(), of_images())
    rows = {True: iter(looked), False: iter(found)}
    return [next(rows[image]) for image in is_image]


def _result(outcome: Result | RequestRefusedError) -> Result:
    if isinstance(outcome, RequestRefusedError):
        raise outcome
    return outcome


def _encoded(vector: list[float], *, as_base64: bool) -> list[float] | str:
    if as_base64:
        return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode("ascii")
    return vector
