"""PhotoPrism's Vision API: labels and captions with confidences.

The shapes are those of ``internal/ai/vision`` in photoprism/photoprism: api_request.go, api_response.go,
labels.go, caption.go.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Request

from autotag.errors import DISTRIBUTION, RequestRefusedError
from autotag.server.core.inputs import image_in_text, json_body
from autotag.server.core.service import MODEL, Service
from autotag.server.core.wishes import Wish

_CAPTION_CONFIDENCE = 0.8  # what PhotoPrism takes for a caption that brings none


def photoprism_routes(service: Service) -> APIRouter:
    """Return the routes of the protocol."""
    router = APIRouter(tags=["PhotoPrism"])

    @router.post("/api/v1/vision/labels", summary="PhotoPrism labels")
    @router.post("/api/v1/vision/labels/{model:path}", summary="PhotoPrism labels", include_in_schema=False)
    async def labels(request: Request, model: str = "") -> dict[str, Any]:
        """Return the tags of an image as PhotoPrism's labels."""
        body, wish, content = await _read(request, model)
        answer = service.answer(await service.tag(request, content, wish), wish)
        found = [
            {
                "name": tag.text, "source": "image", "priority": 0, "confidence": tag.confidence,
                "topicality": tag.confidence, "categories": [], "nsfw": False,
            }
            for tag in answer.tags
        ]  # fmt: skip
        return _response(body, wish, "labels", {"labels": found})

    @router.post("/api/v1/vision/caption", summary="PhotoPrism caption")
    @router.post("/api/v1/vision/caption/{model:path}", summary="PhotoPrism caption", include_in_schema=False)
    async def caption(request: Request, model: str = "") -> dict[str, Any]:
        """Return the caption of an image as PhotoPrism reads it."""
        body, wish, content = await _read(request, model)
        result = await service.tag(request, content, Wish(task="caption", preset=wish.preset))
        text = {"text": result.caption, "source": "image", "confidence": _CAPTION_CONFIDENCE}
        return _response(body, wish, "caption", {"caption": text})

    async def _read(request: Request, model: str) -> tuple[dict[str, Any], Wish, bytes]:
        """Return the JSON body, the wish that it names, and its image; refuse none or several."""
        body = await json_body(request)
        if isinstance(body.get("id"), str):
            request.state.vision_id = body["id"]
        name = model or body.get("model") or MODEL
        images = body.get("images") or ([body["url"]] if body.get("url") else None)
        if not isinstance(images, list) or not images:
            raise RequestRefusedError("bad_request", "images must be a list of one data URL.")
        if len(images) > 1:
            raise RequestRefusedError("bad_request", "one image at a time.")
        content = await image_in_text(images[0], service.fetched(request))
        return body, Wish(preset=service.preset_of(name)), content

    def _response(
        body: dict[str, Any], wish: Wish, kind: Literal["labels", "caption"], result: dict[str, Any]
    ) -> dict[str, Any]:
        """Return PhotoPrism's envelope around a result of this kind."""
        name = f"{MODEL}:{wish.preset or service.pipelines.default}"
        return {
            "id": body.get("id") or str(uuid4()),
            "code": 200,
            "model": {"type": kind, "name": name, "version": version(DISTRIBUTION)},
            "result": result,
        }

    return router
