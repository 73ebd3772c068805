"""OpenAI's answers as server-sent events.

The models answer all at once, so a stream has the whole text as one piece. It begins when the answer is
known: what goes wrong is an HTTP status, as without a stream.
"""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

MEDIA_TYPE = "text/event-stream"


async def chat_chunks(answer: Mapping[str, Any], *, with_usage: bool) -> AsyncIterator[str]:
    """Yield a chat completion as its chunks: the role, the message, the reason of the end.

    Args:
        answer: as it is without a stream; one choice.
        with_usage: whether a last chunk without choices has the usage, as ``stream_options.include_usage``
            wants it.
    """
    [choice] = answer["choices"]
    message = {name: value for name, value in choice["message"].items() if name != "role"}
    if "tool_calls" in message:
        message = {
            "tool_calls": [{"index": place, **call} for place, call in enumerate(message["tool_calls"])]
        }
    pieces: tuple[tuple[dict[str, Any], str | None], ...] = (
        ({"role": "assistant", "content": None if "tool_calls" in message else ""}, None),
        (message, None),
        ({}, choice["finish_reason"]),
    )
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}]}
        for delta, reason in pieces
    ]
    if with_usage:
        chunks = [{**chunk, "usage": None} for chunk in chunks]
        chunks.append({"choices": [], "usage": answer["usage"]})
    head = {name: answer[name] for name in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    for chunk in chunks:
        yield f"data: {json.dumps({**head, **chunk})}\n\n"
    yield "data: [DONE]\n\n"


async def response_events(answer: Mapping[str, Any]) -> AsyncIterator[str]:
    """Yield a response of one message as the events that OpenAI sends for it.

    Args:
        answer: as it is without a stream; its output is one message with one text.
    """
    [message] = answer["output"]
    [part] = message["content"]
    begun = {**answer, "status": "in_progress", "output": [], "usage": None}
    item = {"output_index": 0}
    text = {"item_id": message["id"], "output_index": 0, "content_index": 0}
    events: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
        ("response.output_item.added", {**item, "item": {**message, "status": "in_progress", "content": []}}),
        ("response.content_part.added", {**text, "part": {**part, "text": ""}}),
        ("response.output_text.delta", {**text, "delta": part["text"], "logprobs": []}),
        ("response.output_text.done", {**text, "text": part["text"], "logprobs": []}),
        ("response.content_part.done", {**text, "part": part}),
        ("response.output_item.done", {**item, "item": message}),
        ("response.completed", {"response": answer}),
    ]
    numbers = count()
    for kind, fields in events:
        row = {"type": kind, "sequence_number": next(numbers), **fields}
        yield f"event: {kind}\ndata: {json.dumps(row)}\n\n"
