"""Ollama's API, as far as it holds an image: generate, chat, tags, show, version.

As in the OpenAI protocol the prompt is not followed but looked at for a schema. Options, ``think``,
``keep_alive`` and the like are accepted and ignored.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from autotag.errors import DISTRIBUTION, RequestRefusedError
from autotag.server.core.fill_schema import default_schema, schema_in_prompt
from autotag.server.core.inputs import json_body
from autotag.server.core.service import NOTE, Service
from autotag.server.protocols.openai import written

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

_VERSION = "0.12.0"  # of the API that is spoken; clients compare it
_DETAILS = {
    "parent_model": "", "format": "autotag", "family": "autotag", "families": ["autotag"],
    "parameter_size": "", "quantization_level": "",
}  # fmt: skip


def ollama_routes(service: Service) -> APIRouter:
    """Return the routes of the protocol."""
    router = APIRouter(tags=["Ollama"])

    @router.post("/api/generate", summary="Ollama generate")
    async def generate(request: Request) -> Response:
        """Answer a prompt with an image as Ollama's /api/generate does."""
        started = time.perf_counter_ns()
        body = await json_body(request)
        prompt = "\n".join(text for key in ("system", "prompt") if isinstance(text := body.get(key), str))
        text = await _written(service, request, body, prompt, _last(body.get("images")))
        return _response(body, started, {"response": text}, {"response": ""})

    @router.post("/api/chat", summary="Ollama chat")
    async def chat(request: Request) -> Response:
        """Answer the messages of a chat as Ollama's /api/chat does."""
        started = time.perf_counter_ns()
        body = await json_body(request)
        messages = body.get("messages")
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            raise RequestRefusedError("bad_request", "messages must be a list of messages.")
        prompt = "\n".join(text for one in messages if isinstance(text := one.get("content"), str))
        images = [image for one in messages if (image := _last(one.get("images"))) is not None]
        text = await _written(service, request, body, prompt, images[-1] if images else None)
        said = {"role": "assistant", "content": text}
        return _response(body, started, {"message": said}, {"message": {**said, "content": ""}})

    @router.get("/api/tags", summary="Ollama models")
    async def tags() -> dict[str, Any]:
        """List the presets of this server as Ollama lists models."""
        return {"models": [_model(name) for name in service.model_names()]}

    @router.post("/api/show", summary="Ollama model")
    async def show(request: Request) -> dict[str, Any]:
        """Return the details of one preset as Ollama does of a model."""
        body = await json_body(request)
        service.preset_of(body.get("model", body.get("name")))
        return {
            "modelfile": "", "parameters": "", "template": "", "details": _DETAILS, "modified_at": _now(),
            "model_info": {"general.architecture": "autotag"}, "capabilities": ["completion", "vision"],
        }  # fmt: skip

    @router.get("/api/version", summary="Version of the API")
    async def version() -> dict[str, str]:
        """Return the version of Ollama's API that is spoken here, and autotag's own."""
        return {"version": _VERSION, "autotag": installed_version(DISTRIBUTION)}

    return router


async def _written(
    service: Service, request: Request, body: Mapping[str, Any], prompt: str, image: object
) -> str:
    preset = service.preset_of(body.get("model"))
    wanted = body.get("format")
    schema = wanted if isinstance(wanted, dict) and wanted else None
    if wanted == "json":
        schema = schema_in_prompt(prompt) or default_schema()
    return await written(service, request, image, prompt=prompt, schema=schema, preset=preset)


def _response(
    body: Mapping[str, Any], started: int, said: dict[str, Any], silence: dict[str, Any]
) -> Response:
    """Return the answer at once, or as NDJSON, which is what clients get that do not say."""
    spent = time.perf_counter_ns() - started
    head = {"model": body["model"], "created_at": _now()}
    last = {
        "done": True, "done_reason": "stop", "total_duration": spent, "load_duration": 0,
        "prompt_eval_count": 0, "prompt_eval_duration": 0, "eval_count": 0, "eval_duration": spent,
    }  # fmt: skip
    if body.get("stream") is False:
        return JSONResponse({**head, **said, **last}, headers=NOTE)

    async def lines() -> AsyncIterator[str]:
        yield json.dumps({**head, **said, "done": False}) + "\n"
        yield json.dumps({**head, **silence, **last}) + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson", headers=NOTE)


def _last(images: object) -> object:
    if images is None or images == []:
        return None
    if not isinstance(images, list):
        raise RequestRefusedError("bad_request", "images must be a list of base64 texts.")
    return images[-1]


def _model(name: str) -> dict[str, Any]:
    full = name if ":" in name else f"{name}:latest"
    digest = sha256(full.encode()).hexdigest()
    return {
        "name": full,
        "model": full,
        "modified_at": _now(),
        "size": 0,
        "digest": digest,
        "details": _DETAILS,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
