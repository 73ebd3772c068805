"""The protocol between a remote captioner and its server: requests, answers, errors.

Each image is one POST of a JSON object::

    {"image": "<PNG in base64>", "prompt": "..." or null, "max_new_tokens": 30, "num_beams": 1,
     "num_captions": 1, "repetition_penalty": 1.0, "min_new_tokens": 0, "do_sample": false, ...}

with every option of ``autotag.protocols.CaptionOptions``. A server refuses options that it does not support.
The answer is status 200 with the captions, best first, or any other status with the reason::

    {"captions": [{"text": "a cat on a mat", "score": -0.4}], "model": "OFA-Sys/ofa-base"}
    {"error": "why not"}

``score`` and ``model`` are optional. ``docs/examples/caption_server.py`` is a server with this protocol.
"""

from __future__ import annotations

import io
import json
import math
from base64 import b64encode
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from PIL import Image

from autotag.records import Caption

if TYPE_CHECKING:
    from autotag.protocols import CaptionOptions


def request_body(image: Image.Image, options: CaptionOptions, max_side: int) -> bytes:
    """Return the JSON to post for an RGB image, its longer side reduced to at most ``max_side`` pixels."""
    if max(image.size) > max_side:
        image = image.copy()
        image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)
    return json.dumps({"image": b64encode(stream.getvalue()).decode("ascii"), **asdict(options)}).encode()


def captions_in(answer: bytes, wanted: int, name: str) -> list[Caption]:
    """Return the captions in an answer.

    Args:
        answer: the body of a response with status 200.
        wanted: the number of captions that were asked for.
        name: the captions' source if the answer does not name a model.

    Raises:
        ValueError: the answer does not follow the protocol; the message says why.
    """
    try:
        told = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its answer is not JSON ({error})") from error
    rows = told.get("captions") if isinstance(told, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("its answer has no list of objects called 'captions'")
    if len(rows) != wanted:
        raise ValueError(f"num_captions={wanted}, and it gives {len(rows)}")
    model = told.get("model")
    source = model if isinstance(model, str) and model.strip() else name
    return [_caption(row, source) for row in rows]


def _caption(row: dict[str, Any], source: str) -> Caption:
    text, score = row.get("text"), row.get("score")
    words = " ".join(text.split()) if isinstance(text, str) else None
    if not words:
        raise ValueError("it gives a caption without text" if words is None else "it gives an empty caption")
    is_number = isinstance(score, int | float) and not isinstance(score, bool) and math.isfinite(score)
    if score is not None and not is_number:
        raise ValueError(f"it gives a caption whose score is {score!r}")
    return Caption(words, source, None if score is None else float(score))


def reason_in(answer: bytes) -> str:
    """Return the reason in an error's body, on one line; empty if it gives none that can be read."""
    try:
        told = json.loads(answer)
    except (ValueError, RecursionError):
        return ""
    reason = told.get("error") if isinstance(told, dict) else None
    if isinstance(reason, dict):  # of a server that speaks OpenAI's protocol, or autotag's own
        reason = reason.get("message")
    return " ".join(reason.split())[:300] if isinstance(reason, str) else ""
