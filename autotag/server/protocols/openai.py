"""OpenAI's chat completions and responses, as far as they hold an image.

A captioner follows no prompt: what the client asks for is read from the JSON schema that it sends, or shows
in its prompt, and filled with what the image models find. Sampling options are accepted and ignored.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from autotag.errors import RequestRefusedError
from autotag.server.core.fill_schema import (
    SchemaError,
    allowed_labels,
    default_schema,
    fill,
    schema_in_prompt,
    wants_tags,
)  # fmt: skip
from autotag.server.core.inputs import image_in_text, json_body
from autotag.server.core.service import NOTE, Service
from autotag.server.core.wishes import MOST_LABEL_CHARACTERS, MOST_LABELS, Wish
from autotag.server.protocols.openai_streams import MEDIA_TYPE, chat_chunks, response_events

if TYPE_CHECKING:
    from collections.abc import Mapping

    from autotag.server.core.answers import Answer

_NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
_NO_IMAGE = "there is no image in the request: autotag answers about images only."


def openai_routes(service: Service) -> APIRouter:
    """Return the routes of the protocol."""
    router = APIRouter(tags=["OpenAI"])

    @router.post("/v1/chat/completions", summary="OpenAI chat completions")
    async def chat_completions(request: Request) -> Response:
        """Answer the messages of a chat, at once or as a stream."""
        body = await json_body(request)
        model = body.get("model")
        preset = service.preset_of(model)
        prompt, image = _read_messages(body.get("messages"), ("image_url", "text"))
        tool = _tool(body)
        schema = tool["parameters"] if tool else _response_format(body.get("response_format"))
        text = await written(service, request, image, prompt=prompt, schema=schema, preset=preset)
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if tool:
            call = {"name": tool["name"], "arguments": text}
            calls = [{"id": f"call_{uuid4().hex[:24]}", "type": "function", "function": call}]
            message = {"role": "assistant", "content": None, "tool_calls": calls}
        reason = "tool_calls" if tool else "stop"
        answer = {
            "id": f"chatcmpl-{uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}],
            "usage": _NO_USAGE,
        }
        if body.get("stream") is True:
            options = body.get("stream_options")
            with_usage = isinstance(options, dict) and options.get("include_usage") is True
            chunks = chat_chunks(answer, with_usage=with_usage)
            return StreamingResponse(chunks, media_type=MEDIA_TYPE, headers=NOTE)
        return JSONResponse(answer, headers=NOTE)

    @router.post("/v1/responses", summary="OpenAI responses")
    async def responses(request: Request) -> Response:
        """Answer the input of OpenAI's newer API, at once or as a stream."""
        body = await json_body(request)
        model = body.get("model")
        preset = service.preset_of(model)
        given = body.get("input")
        messages = given if isinstance(given, list) else [{"role": "user", "content": given}]
        prompt, image = _read_messages(messages, ("input_image", "input_text"))
        instructions = body.get("instructions")
        prompt = f"{instructions}\n{prompt}" if isinstance(instructions, str) else prompt
        wanted = body["text"].get("format") if isinstance(body.get("text"), dict) else None
        text = await written(
            service, request, image, prompt=prompt, schema=_response_format(wanted), preset=preset
        )
        content = [{"type": "output_text", "text": text, "annotations": []}]
        output = {
            "id": f"msg_{uuid4().hex}", "type": "message", "role": "assistant", "status": "completed",
            "content": content,
        }  # fmt: skip
        answer = {
            "id": f"resp_{uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "completed",
            "model": model,
            "output": [output],
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "parallel_tool_calls": False,
            "tool_choice": "none",
            "tools": [],
            "temperature": None,
            "top_p": None,
            "usage": {
                "input_tokens": 0, "output_tokens": 0, "total_tokens": 0,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens_details": {"reasoning_tokens": 0},
            },
        }  # fmt: skip
        if body.get("stream") is True:
            return StreamingResponse(response_events(answer), media_type=MEDIA_TYPE, headers=NOTE)
        return JSONResponse(answer, headers=NOTE)

    return router


async def written(
    service: Service,
    request: Request,
    image: object,
    *,
    prompt: str,
    schema: Mapping[str, Any] | None,
    preset: str,
) -> str:
    """Return the text of an answer about an image.

    Args:
        service: answers.
        request: is waited for.
        image: a data URL, base64 or an allowed URL; None for no image.
        prompt: only looked at for a schema, and for whether tags are wanted.
        schema: that the client sent; None for none.
        preset: of the server.

    Raises:
        RequestRefusedError: no answer, and why.
    """
    if image is None:
        raise RequestRefusedError("bad_request", _NO_IMAGE)
    schema = schema if schema is not None else schema_in_prompt(prompt)
    try:
        labels = allowed_labels(schema) if schema is not None else ()
        if len(labels) > MOST_LABELS:
            raise RequestRefusedError("wrong_option", f"the schema allows more than {MOST_LABELS} tags.")
        if any(len(label) > MOST_LABEL_CHARACTERS for label in labels):
            raise RequestRefusedError(
                "wrong_option", f"the schema allows a tag of more than {MOST_LABEL_CHARACTERS} characters."
            )
        wish = Wish(preset=preset, compared=labels)
        content = await image_in_text(image, service.fetched(request))
        answer = service.answer(await service.tag(request, content, wish), wish)
        return _text(answer, prompt, schema)
    except SchemaError as error:
        raise RequestRefusedError("wrong_option", str(error)) from error


def _text(answer: Answer, prompt: str, schema: Mapping[str, Any] | None) -> str:
    if schema is not None:
        return json.dumps(fill(schema, answer), ensure_ascii=False)
    if wants_tags(prompt):
        return ", ".join(tag.text for tag in answer.tags)
    return answer.caption


def _read_messages(messages: object, kinds: tuple[str, str]) -> tuple[str, object]:
    """Return all text, and the last image, of a conversation; None for no image."""
    if not isinstance(messages, list):
        raise RequestRefusedError("bad_request", "messages must be a list of messages.")
    image_kind, text_kind = kinds
    texts: list[str] = []
    image: object = None
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        parts = content if isinstance(content, list) else [{"type": text_kind, "text": content}]
        for part in parts:
            if not isinstance(part, dict):
                raise RequestRefusedError("bad_request", "a part of a message's content is not an object.")
            if part.get("type") == image_kind:
                url = part.get("image_url")
                image = url.get("url") if isinstance(url, dict) else url
                if image is None:
                    raise RequestRefusedError("bad_request", "an image has no image_url.")
            elif isinstance(part.get("text"), str):
                texts.append(part["text"])
    return "\n".join(texts), image


def _tool(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return name and parameters of the function that is called: the first, unless none is to be."""
    tools = body.get("tools")
    if not isinstance(tools, list) or not tools or body.get("tool_choice") == "none":
        return None
    function = tools[0].get("function") if isinstance(tools[0], dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RequestRefusedError("bad_request", "tools[0] has no function with a name.")
    parameters = function.get("parameters")
    return {"name": function["name"], "parameters": parameters if isinstance(parameters, dict) else {}}


def _response_format(given: object) -> Mapping[str, Any] | None:
    """Return the schema in a response format: OpenAI's two shapes, or a bare schema; None for plain text."""
    if not isinstance(given, dict):
        return None
    inner = given.get("json_schema")
    if isinstance(inner, dict) and isinstance(inner.get("schema"), dict):
        return dict(inner["schema"])
    if isinstance(given.get("schema"), dict):
        return dict(given["schema"])
    if given.get("type") == "json_object":
        return default_schema()
    return given if isinstance(given.get("properties"), dict) else None
