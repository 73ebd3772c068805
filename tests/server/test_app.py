from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import ollama
import openai
import pytest
from click.testing import CliRunner
from numbered_server import Numbers, Serve, Server, numbered_png
from PIL import Image

import autotag
from autotag.cli.main import main
from autotag.errors import ConfigError
from autotag.models.cards import find_card
from autotag.models.loading.device import choose_device
from autotag.server.core.limits import Limits
from autotag.server.core.service import Service
from autotag.server.core.url_images import UrlImages
from autotag.server.core.wishes import Pipelines
from autotag.server.run import Place
from autotag.web.listening import read_tokens
from autotag.writers.json_text import json_text

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
CAT = (EXAMPLES / "cat.jpg").read_bytes()
CAT_URL = "data:image/jpeg;base64," + base64.b64encode(CAT).decode()
SAID = "a close up of a tabby"  # preset mini, of the cat
TEXTS = {"type": "array", "items": {"type": "string"}}
TAGS = {"type": "object", "properties": {"tags": TEXTS}, "required": ["tags"]}
TOKEN = "a-token-of-enough-characters"  # noqa: S105 - of these tests


@pytest.fixture(scope="module")
def mini() -> Iterator[Server]:
    with autotag.load("mini") as pipeline, Server(Service(Pipelines({"mini": pipeline}), Limits())) as server:
        yield server


@pytest.fixture
def gpt(mini: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{mini.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def llama(mini: Server) -> Iterator[ollama.Client]:
    client = ollama.Client(mini.url, trust_env=False)
    yield client
    client._client.close()


def png_url(number: int) -> str:
    return "data:image/png;base64," + base64.b64encode(numbered_png(number)).decode()


# The server's own API


@pytest.mark.slow
def test_a_result_is_the_record_of_the_command_line_however_the_image_is_sent(mini: Server) -> None:
    with autotag.load("mini") as pipeline:
        expected = json.loads(json_text(pipeline(EXAMPLES / "cat.jpg")))
    with mini.client() as client:
        answers = [
            client.post("/v1/tag", content=CAT, headers={"content-type": "image/jpeg"}),
            client.post("/v1/tag", files={"image": ("cat.jpg", CAT)}),
            client.post("/v1/tag", json={"image": CAT_URL}),
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert answers[1].json()["source"] == "cat.jpg"
    for answer in answers:
        found = answer.json()
        assert set(found) == set(expected)
        assert found["caption"] == expected["caption"]
        assert [tag["text"] for tag in found["tags"]] == [tag["text"] for tag in expected["tags"]]


@pytest.mark.slow
def test_options_change_the_answer(mini: Server) -> None:
    with mini.client() as client:
        few = client.post("/v1/tag?top_k=2", json={"image": CAT_URL}).json()
        medium = client.post("/v1/tag?vocabulary=mediums", json={"image": CAT_URL}).json()
        prompt = client.post("/v1/prompt?mode=caption", json={"image": CAT_URL}).json()
        caption = client.post("/v1/caption", json={"image": CAT_URL}).json()
    assert len(few["tags"]) == 2
    assert medium["tags"] != few["tags"]
    assert prompt["prompt"] == caption["caption"] == few["caption"]


def test_an_unknown_option_is_refused_with_the_known_ones_and_the_nearest(serve: Serve) -> None:
    with serve().client() as client:
        for path, option, words in (
            ("/v1/tag", "topk", "Did you mean 'top_k'? Known: preset, top_k, vocabulary, moderate."),
            ("/v1/tag/batch", "moderation", "Did you mean 'moderate'? Known: preset, top_k, vocabulary"),
            ("/v1/caption", "top_k", "/v1/caption has no option 'top_k'. Known: preset."),
            ("/v1/prompt", "modes", "Did you mean 'mode'? Known: preset, mode."),
        ):
            answer = client.post(f"{path}?{option}=3", json={"image": png_url(1)})
            error = answer.json()["error"]
            assert (answer.status_code, error["code"], error["type"]) == (
                422,
                "wrong_option",
                "invalid_request_error",
            )
            assert words in error["message"]
        body = {"model": "autotag", "images": [png_url(1).split(",")[1]]}
        chat = client.post("/api/generate?api-version=1", json=body)
        assert chat.status_code == 200, "clients of other protocols send options of their own"


def test_a_batch_has_an_answer_or_an_error_per_image(serve: Serve) -> None:
    with serve(Limits(max_images=3, cached_results=0)).client() as client:
        sent = [png_url(1), "data:image/png;base64,AAAA", png_url(2)]
        rows = client.post("/v1/tag/batch", json={"images": sent}).json()["results"]
        too_many = client.post("/v1/tag/batch", json={"images": [png_url(n) for n in range(4)]})
    assert [row.get("caption") for row in rows] == ["number 1", None, "number 2"]
    assert "cannot be read" in rows[1]["error"]
    assert too_many.status_code == 413


def test_a_batch_that_does_not_fit_is_429_as_a_whole(serve: Serve, numbers: Numbers) -> None:
    server = serve(Limits(max_waiting=8, cached_results=0))
    sent = [png_url(number) for number in range(9)]
    with server.client() as client, ThreadPoolExecutor(1) as threads:
        too_many = client.post("/v1/tag/batch", json={"images": sent})
        assert (too_many.status_code, "more than 8" in too_many.text) == (413, True)
        numbers.gate.clear()
        first = threads.submit(client.post, "/v1/tag", json={"image": png_url(0)})
        assert numbers.entered.wait(10)
        full = client.post("/v1/tag/batch", json={"images": sent[:8]})
        numbers.gate.set()
        assert (full.status_code, full.headers["retry-after"]) == (429, "1")
        assert first.result().status_code == 200
        rows = client.post("/v1/tag/batch", json={"images": sent[:8]}).json()["results"]
    assert [row["caption"] for row in rows] == [f"number {number}" for number in range(8)]


def png_start(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 9) + b"IDAT"


def test_an_image_that_is_refused_is_not_explained_by_options_of_the_server(serve: Serve) -> None:
    bomb, large = png_start(60_000, 60_000), png_start(15_000, 11_000)
    with serve().client() as client:
        images = (bomb, large, CAT[: len(CAT) // 2])
        answers = [client.post("/v1/tag", content=image) for image in images]
    said = [(one.status_code, one.json()["error"]["code"], one.json()["error"]["message"]) for one in answers]
    assert [code for _, code, _ in said] == ["too_large", "too_large", "not_an_image"]
    assert [status for status, _, _ in said] == [413, 413, 415]
    words = ("decompression bomb", "15000 x 11000 pixels", "cut short")
    for (_, _, message), word in zip(said, words, strict=True):
        assert word in message
        assert "allow_truncated" not in message
        assert "--" not in message


@pytest.mark.parametrize(
    ("path", "options", "status", "words"),
    [
        ("/v1/tag", {"content": b"", "headers": {"content-type": "image/png"}}, 400, "no image"),
        ("/v1/tag", {"content": b"text", "headers": {"content-type": "image/png"}}, 415, "not an image"),
        ("/v1/tag", {"content": b"text", "headers": {"content-type": "text/html"}}, 415, "text/html"),
        ("/v1/tag", {"content": numbered_png(1)[:40], "headers": {"content-type": "image/png"}}, 415, "read"),
        ("/v1/tag", {"content": b"{", "headers": {"content-type": "application/json"}}, 400, "JSON"),
        ("/v1/tag", {"content": b'{"a": NaN}', "headers": {"content-type": "application/json"}}, 400, "NaN"),
        ("/v1/tag", {"json": []}, 400, "object"),
        ("/v1/tag", {"json": {"image": 3}}, 400, "data URL"),
        ("/v1/tag/batch", {"json": {"image": png_url(1), "images": [png_url(2)]}}, 400, "not both"),
        ("/v1/tag", {"json": {"image": "http://127.0.0.1/a.png"}}, 400, "not fetched"),
        (
            "/v1/tag",
            {"content": b"--x", "headers": {"content-type": "multipart/form-data"}},
            400,
            "the form cannot be read: Missing boundary in multipart.",
        ),
        ("/v1/tag?preset=none", {"json": {"image": png_url(1)}}, 404, "numbers"),
        ("/v1/tag?top_k=0", {"json": {"image": png_url(1)}}, 422, "top_k"),
        ("/v1/prompt?mode=silly", {"json": {"image": png_url(1)}}, 422, "mode"),
        ("/v1/tag", {"json": {"image": png_url(1), "top_k": 3}}, 422, "not 'top_k': options belong in the"),
        (
            "/v1/tag",
            {"json": {"image": "http://me@x/a.png"}},
            400,
            "the URL contains a user name or password.",
        ),
        (
            "/v1/tag",
            {"files": {"image": numbered_png(1)}, "data": {"top_k": "3"}},
            422,
            "only files are read",
        ),
        ("/v1/nothing", {"json": {}}, 404, "/v1/nothing"),
        ("/v1/embeddings", {"json": {"model": "autotag", "input": []}}, 400, "input"),
    ],
)
def test_bad_requests_are_named(serve: Serve, path: str, options: dict, status: int, words: str) -> None:  # type: ignore[type-arg]
    with serve().client() as client:
        answer = client.post(path, **options)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]["message"]
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_a_picture_with_too_many_pixels_and_a_body_with_too_many_bytes_are_413(serve: Serve) -> None:
    import zlib
    from struct import pack

    def chunk(kind: bytes, data: bytes) -> bytes:
        return pack(">I", len(data)) + kind + data + pack(">I", zlib.crc32(kind + data))

    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    bomb += chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    kind = {"content-type": "image/png"}
    with serve(Limits(max_body_bytes=10_000, cached_results=0)).client() as client:
        assert client.post("/v1/tag", content=bomb, headers=kind).status_code == 413
        assert client.post("/v1/tag", content=b"x" * 10_001, headers=kind).status_code == 413
        chunked = client.post("/v1/tag", content=iter([b"x" * 6000] * 3), headers=kind)
        assert chunked.status_code == 413
        assert client.post("/v1/tag", content=numbered_png(3), headers=kind).json()["caption"] == "number 3"


# What other applications speak


@pytest.mark.slow
def test_the_client_of_openai_gets_its_schema_filled(gpt: openai.OpenAI) -> None:
    image = {"type": "image_url", "image_url": {"url": CAT_URL, "detail": "low"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "Describe it."}, image]}]

    def say(**options: object) -> openai.types.chat.ChatCompletion:
        return gpt.chat.completions.create(model="autotag", messages=messages, **options)  # type: ignore[call-overload, no-any-return]

    assert say(max_tokens=9, temperature=0.3).choices[0].message.content == SAID
    nested = {"type": "json_schema", "json_schema": {"name": "schema", "schema": TAGS}}
    bare = {**TAGS}
    for shape in (nested, bare):
        assert json.loads(say(response_format=shape).choices[0].message.content or "")["tags"][0] == "cat"
    both = json.loads(say(response_format={"type": "json_object"}).choices[0].message.content or "")
    assert both["caption"] == SAID
    tool = {"type": "function", "function": {"name": "final_result", "parameters": TAGS}}
    called = say(tools=[tool]).choices[0]
    assert called.finish_reason == "tool_calls"
    [call] = called.message.tool_calls or []
    assert call.function.name == "final_result"  # type: ignore[union-attr]
    assert json.loads(call.function.arguments)["tags"][0] == "cat"  # type: ignore[union-attr]
    allowed_tags = {"type": "array", "items": {"enum": ["Rocket", "Cat"]}}
    enum: dict[str, Any] = {"type": "object", "properties": {"tags": allowed_tags}}
    allowed = say(response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": enum}})
    assert json.loads(allowed.choices[0].message.content or "") == {"tags": ["Cat"]}
    enum["properties"] |= {"kind": {"$ref": "#/$defs/Kind"}, "free": TEXTS, "labels": TEXTS}
    enum |= {"$defs": {"Kind": {"enum": ["a space rocket launch", "a pet animal", "a hot drink"]}}}
    allowed = say(response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": enum}})
    found = json.loads(allowed.choices[0].message.content or "")
    assert (found["tags"], found["kind"], found["labels"][0]) == (["Cat"], "a pet animal", "cat")
    assert [model.id for model in gpt.models.list()] == ["autotag", "autotag:mini"]


def test_the_client_of_openai_gets_chat_completions_as_streams(gpt: openai.OpenAI) -> None:
    image = {"type": "image_url", "image_url": {"url": CAT_URL}}
    chat: dict[str, Any] = {"model": "autotag:mini", "messages": [{"role": "user", "content": [image]}]}
    parts = list(gpt.chat.completions.create(**chat, stream=True))
    assert [part.choices[0].delta.role for part in parts] == ["assistant", None, None]
    assert "".join(part.choices[0].delta.content or "" for part in parts) == SAID
    assert [part.choices[0].finish_reason for part in parts] == [None, None, "stop"]
    assert {part.id for part in parts} == {parts[0].id}
    counted = list(gpt.chat.completions.create(**chat, stream=True, stream_options={"include_usage": True}))
    assert [len(part.choices) for part in counted] == [1, 1, 1, 0]
    assert [part.usage and part.usage.total_tokens for part in counted] == [None, None, None, 0]
    tool = {"type": "function", "function": {"name": "final_result", "parameters": TAGS}}
    with gpt.chat.completions.stream(**chat, tools=[tool]) as stream:
        [call] = stream.get_final_completion().choices[0].message.tool_calls or []
    assert json.loads(call.function.arguments)["tags"][0] == "cat"
    with pytest.raises(openai.BadRequestError, match="images only"):
        gpt.chat.completions.create(model="autotag", messages=[{"role": "user", "content": "x"}], stream=True)


def test_the_client_of_openai_gets_responses_as_streams(gpt: openai.OpenAI) -> None:
    content = [{"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": CAT_URL}]
    asked: dict[str, Any] = {"model": "autotag", "input": [{"role": "user", "content": content}]}
    events = list(gpt.responses.create(**asked, stream=True))
    assert [event.type.removeprefix("response.") for event in events] == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert [event.sequence_number for event in events] == list(range(len(events)))
    schema = {"format": {"type": "json_schema", "name": "labels", "schema": TAGS, "strict": True}}
    with gpt.responses.stream(**asked, text=schema) as stream:  # the client puts the events together itself
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert (final.status, final.output_text) == ("completed", text)
    assert json.loads(text)["tags"][0] == "cat"
    with pytest.raises(openai.NotFoundError):
        gpt.responses.create(**{**asked, "model": "gpt-9"}, stream=True)


def test_the_client_of_openai_gets_responses_and_embeddings(gpt: openai.OpenAI) -> None:
    content = [{"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": CAT_URL}]
    schema = {"format": {"type": "json_schema", "name": "labels", "schema": TAGS, "strict": True}}
    answer = gpt.responses.create(
        model="autotag", input=[{"role": "user", "content": content}], text=schema  # type: ignore[arg-type, list-item, typeddict-item]
    )  # fmt: skip
    assert json.loads(answer.output_text)["tags"][0] == "cat"
    vectors = gpt.embeddings.create(model="autotag", input=["a photo of a cat", "a photo of a car", CAT_URL])
    cat, car, image = (row.embedding for row in vectors.data)
    assert sum(map(float.__mul__, image, image)) == pytest.approx(1, abs=1e-3)
    assert sum(map(float.__mul__, cat, image)) > sum(map(float.__mul__, car, image))
    plain = gpt.embeddings.create(model="autotag", input=CAT_URL, encoding_format="float").data[0].embedding
    assert plain == pytest.approx(image, abs=1e-6)
    sized = gpt.embeddings.create(model="autotag", input="cat", dimensions=len(cat))
    assert len(sized.data[0].embedding) == len(cat)


def test_vectors_of_another_length_or_encoding_are_refused_not_replaced(gpt: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="dimensions: the vectors of this model have"):
        gpt.embeddings.create(model="autotag", input="cat", dimensions=3)
    with pytest.raises(openai.BadRequestError, match="encoding_format must be"):
        gpt.embeddings.create(model="autotag", input="cat", encoding_format="int8")  # type: ignore[arg-type]


def test_the_client_of_openai_gets_its_own_errors(gpt: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="images only"):
        gpt.chat.completions.create(model="autotag", messages=[{"role": "user", "content": "only text"}])
    with pytest.raises(openai.NotFoundError, match="gpt-9"):
        gpt.chat.completions.create(model="gpt-9", messages=[])


def test_the_client_of_ollama_gets_its_schema_filled(llama: ollama.Client) -> None:
    image = base64.b64encode(CAT).decode()
    assert llama.generate("autotag", "Describe", images=[image]).response == SAID
    assert json.loads(llama.generate("autotag", "", images=[image], format=TAGS).response)["tags"][0] == "cat"
    example = 'schema:\n{"labels":[{"name":"","confidence":0,"topicality":0}]}'
    labels = json.loads(llama.generate("autotag", example, images=[image], format="json").response)["labels"]
    assert labels[0]["name"] == "cat"
    assert 0.5 <= labels[0]["confidence"] <= 1
    parts = list(llama.generate("autotag", "Describe", images=[image], stream=True))
    assert [part.done for part in parts] == [False, True]
    assert parts[-1].eval_count == 0
    said = llama.chat("autotag:mini", [{"role": "user", "content": "list tags", "images": [CAT]}])
    assert (said.message.content or "").startswith("cat, ")
    pieces = list(llama.chat("autotag", [{"role": "user", "content": "tags", "images": [CAT]}], stream=True))
    assert "".join(piece.message.content or "" for piece in pieces) == said.message.content
    assert (pieces[-1].done, pieces[-1].done_reason) == (True, "stop")
    assert [model.model for model in llama.list().models] == ["autotag:latest", "autotag:mini"]
    assert "vision" in (llama.show("autotag:latest").capabilities or [])
    with pytest.raises(ollama.ResponseError, match="images only") as refused:
        llama.generate("autotag", "only text")
    assert refused.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="llava") as missing:
        llama.generate("llava", "x", images=[image])
    assert missing.value.status_code == 404


def test_absent_stream_means_ndjson_as_ollama_has_it(mini: Server) -> None:
    body = {"model": "autotag", "prompt": "x", "images": [base64.b64encode(CAT).decode()], "think": False}
    with mini.client() as client:
        answer = client.post("/api/generate", json=body)
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert (rows[0]["response"], rows[-1]["done"]) == (SAID, True)
    assert "not followed" in answer.headers["x-autotag-note"]


def test_requests_of_photoprism_are_answered_in_its_structs(mini: Server) -> None:
    body = {
        "id": "3487da77-246e-4b4c-9437-67507177bcd7", "model": "autotag", "version": "latest", "suffix": "",
        "stream": False, "images": [CAT_URL],
    }  # fmt: skip
    with mini.client() as client:
        labels = client.post("/api/v1/vision/labels", json=body).json()
        tags = client.post("/v1/tag", json={"image": CAT_URL}).json()["tags"]
        caption = client.post("/api/v1/vision/caption/autotag", json=body).json()
        none = client.post("/api/v1/vision/labels", json={"id": "q", "images": []})
        broken = client.post("/api/v1/vision/labels", json={"images": ["data:image/png;base64,AAAA"]})
    assert (labels["id"], labels["code"], labels["model"]["type"]) == (body["id"], 200, "labels")
    first = labels["result"]["labels"][0]
    assert set(first) == {"name", "source", "priority", "confidence", "topicality", "categories", "nsfw"}
    assert first["name"] == "cat"
    card = find_card("clip-mini", "encoder")
    assert card is not None
    assert [row["confidence"] for row in labels["result"]["labels"]] == [
        round(card.probabilities["cosine"].probability(tag["score"]), 4) for tag in tags
    ]
    assert caption["result"]["caption"]["text"] == SAID
    assert (none.status_code, none.json()["id"], none.json()["result"]) == (400, "q", {})
    assert broken.json()["code"] == 400


# Load, tokens, operation


@pytest.mark.slow
def test_an_overload_is_429_with_retry_after_and_loses_no_answer(serve: Serve, numbers: Numbers) -> None:
    server = serve(Limits(max_waiting=5, cached_results=0))
    numbers.gate.clear()

    def ask(number: int) -> httpx.Response:
        with server.client() as client:
            return client.post("/v1/tag", json={"image": png_url(number)})

    with ThreadPoolExecutor(12) as threads:
        asked = [threads.submit(ask, number) for number in range(12)]
        for _ in range(200):
            if sum(one.done() for one in asked) >= 7:
                break
            time.sleep(0.05)
        numbers.gate.set()
        answers = [one.result() for one in asked]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 7
    assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in refused)
    for number, answer in enumerate(answers):
        assert answer.status_code == 429 or answer.json()["caption"] == f"number {number}"


def test_a_request_that_takes_too_long_is_504_and_the_next_is_answered(
    serve: Serve, numbers: Numbers
) -> None:
    server = serve(Limits(timeout=0.5, cached_results=0))
    with server.client() as client:
        numbers.gate.clear()
        assert client.post("/v1/tag", json={"image": png_url(1)}).status_code == 504
        numbers.gate.set()
        assert client.post("/v1/tag", json={"image": png_url(2)}).json()["caption"] == "number 2"


def test_a_client_that_hangs_up_is_forgotten(serve: Serve, numbers: Numbers) -> None:
    server = serve()
    numbers.gate.clear()
    with server.client() as client, ThreadPoolExecutor(1) as threads:
        first = threads.submit(client.post, "/v1/tag", json={"image": png_url(1)})
        assert numbers.entered.wait(10)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.url}/v1/tag", json={"image": png_url(2)}, timeout=0.5, trust_env=False)
        for _ in range(100):
            if server.service.batcher.waiting == 1:
                break
            time.sleep(0.05)
        assert server.service.batcher.waiting == 1
        numbers.gate.set()
        assert first.result().json()["caption"] == "number 1"
    assert numbers.batches == [[1]]


def test_a_slow_client_is_cut_off_and_others_are_served_meanwhile(serve: Serve) -> None:
    server = serve(Limits(timeout=1, cached_results=0))
    with socket.create_connection(("127.0.0.1", server.port)) as slow, server.client() as client:
        slow.sendall(
            b"POST /v1/tag HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\n"
            b"content-length: 99\r\n\r\nab"
        )
        assert client.post("/v1/tag", json={"image": png_url(1)}).status_code == 200
        slow.settimeout(10)
        assert b" 504 " in slow.recv(1000).splitlines()[0]


def test_clients_that_never_finish_their_headers_keep_nobody_from_an_answer(serve: Serve) -> None:
    server = serve()
    with ExitStack() as held, server.client() as client:
        for _ in range(100):
            slow = held.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            slow.sendall(b"POST /v1/tag HTTP/1.1\r\nhost: localhost\r\nx-slow: ")
        assert client.post("/v1/tag", json={"image": png_url(1)}).json()["caption"] == "number 1"
        server.__exit__()  # nor does the server wait for them when it ends


@pytest.mark.parametrize("begin", [b"GET /healthz?", b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-long: "])
def test_headers_that_never_end_are_refused_also_beside_httptools(serve: Serve, begin: bytes) -> None:
    assert import_module("httptools")  # uvicorn takes it by default, and it bounds nothing
    server = serve()
    with socket.create_connection(("127.0.0.1", server.port)) as endless:
        endless.settimeout(30)
        with suppress(OSError):  # the server may close it while we write
            endless.sendall(begin)
            for _ in range(100):
                endless.sendall(b"y" * 10_000)
        answer = b""
        with suppress(ConnectionResetError):
            answer = endless.recv(100)
        assert answer == b"" or b" 400 " in answer.splitlines()[0]


@pytest.mark.slow
def test_bodies_that_say_no_length_are_bounded_together_as_others_are(serve: Serve) -> None:
    server = serve(Limits(max_waiting_bytes=100_000, max_body_bytes=90_000, timeout=20, cached_results=0))
    kind = {"content-type": "image/png"}
    head = (
        b"POST /v1/tag HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as slow, server.client() as client:
        slow.sendall(head + b"11170\r\n" + b"x" * 70_000 + b"\r\n")  # and more to come
        refused = None
        for _ in range(100):
            refused = client.post("/v1/tag", content=iter([b"x" * 1000] * 60), headers=kind)
            if refused.status_code == 429:
                break
            time.sleep(0.05)
        assert refused is not None
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        small = numbered_png(5)
        halves = iter([small[:20], small[20:]])
        assert client.post("/v1/tag", content=halves, headers=kind).json()["caption"] == "number 5"
        slow.shutdown(socket.SHUT_RDWR)
    with server.client() as client:
        for _ in range(100):
            freed = client.post("/v1/tag", content=iter([b"x" * 1000] * 60), headers=kind)
            if freed.status_code == 415:
                break
            time.sleep(0.05)
        assert freed.status_code == 415


def test_texts_to_embed_are_refused_when_the_queue_is_full(mini: Server) -> None:
    with mini.client() as client:
        long = client.post("/v1/embeddings", json={"model": "autotag", "input": ["cat", "x" * 10_001]})
        assert (long.status_code, long.json()["error"]["code"]) == (413, "too_large")
        pipeline = mini.service.pipelines.presets["mini"]
        threads = ThreadPoolExecutor(40)
        with threads, pipeline.exclusive_encoder():
            bodies = [{"model": "autotag", "input": [f"text {n}"] * 32} for n in range(40)]
            answers = [threads.submit(client.post, "/v1/embeddings", json=body) for body in bodies]
            for _ in range(200):
                if sum(answer.done() for answer in answers) >= 32:
                    break
                time.sleep(0.05)
        codes = sorted(answer.result().status_code for answer in answers)
    assert codes == [200] * 8 + [429] * 32  # 256 texts at once


@pytest.mark.slow
def test_ten_thousand_requests_on_one_connection(serve: Serve) -> None:
    server = serve(Limits())
    threads = threading.active_count()
    with (
        socket.create_connection(("127.0.0.1", server.port)) as connection,
        connection.makefile("rb") as answers,
    ):
        for number in range(10_000):
            image = numbered_png(number % 500)  # after the first 500 they come from the cache
            connection.sendall(
                b"POST /v1/tag HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(image), image)
            )
            assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
            headers = dict(line.split(b": ", 1) for line in iter(answers.readline, b"\r\n"))
            row = json.loads(answers.read(int(headers[b"content-length"])))
            assert row["caption"] == f"number {number % 500}"
    assert (server.service.batcher.waiting, server.service.batcher.waiting_bytes) == (0, 0)
    assert threading.active_count() <= threads + 8  # decoding, batches, the loop's own


@pytest.mark.slow
def test_a_body_of_100_mb_is_refused_or_answered_as_the_limit_says(serve: Serve) -> None:
    large = numbered_png(7) + bytes(100 * 2**20)
    kind = {"content-type": "image/png"}
    with serve().client() as client:
        said = client.post("/v1/tag", content=large, headers=kind)
        pieces = (large[at : at + 2**20] for at in range(0, len(large), 2**20))
        unsaid = client.post("/v1/tag", content=pieces, headers=kind)
        assert [one.json()["error"]["code"] for one in (said, unsaid)] == ["too_large"] * 2
        assert client.post("/v1/tag", content=numbered_png(3), headers=kind).json()["caption"] == "number 3"
    server = serve(Limits(max_body_bytes=128 * 2**20, cached_results=0))
    with server.client() as client:
        assert client.post("/v1/tag", content=large, headers=kind).json()["caption"] == "number 7"
        form = client.post("/v1/tag", files={"image": ("large.png", large, "image/png")}).json()
        assert (form["source"], form["caption"]) == ("large.png", "number 7")
    assert server.service.batcher.waiting_bytes == 0


def test_a_batch_has_32_images_and_no_more(serve: Serve) -> None:
    with serve().client() as client:
        files = [("images", (f"{n}.png", numbered_png(n), "image/png")) for n in range(33)]
        rows = client.post("/v1/tag/batch", files=files[:32]).json()["results"]
        assert client.post("/v1/tag/batch", files=files).status_code == 413
    assert [(row["source"], row["caption"]) for row in rows] == [
        (f"{n}.png", f"number {n}") for n in range(32)
    ]


def test_a_stage_that_fails_is_500_in_every_shape_and_takes_nobody_along(
    serve: Serve, numbers: Numbers
) -> None:
    numbers.poison = frozenset({7})
    server = serve()
    with server.client() as client:
        own = client.post("/v1/tag", json={"image": png_url(7)})
        prism = client.post("/api/v1/vision/labels", json={"images": [png_url(7)]})
        llama = client.post("/api/generate", json={"model": "autotag", "images": [png_url(7).split(",")[1]]})
        assert [own.status_code, prism.status_code, llama.status_code] == [500, 500, 500]
        assert "numbers" in own.json()["error"]["message"]
        assert "numbers" in llama.json()["error"]
        assert client.post("/v1/tag", json={"image": png_url(8)}).json()["caption"] == "number 8"


def test_a_fault_is_500_with_an_id_and_one_line_of_the_log(
    serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    monkeypatch.setattr(server.service, "outcome", lambda *_, **__: 1 / 0)
    with server.client() as client:
        for path, body in (
            ("/v1/tag", {"image": png_url(1)}),
            ("/api/v1/vision/labels", {"images": [png_url(1)]}),
        ):
            answer = client.post(path, json=body, headers={"x-request-id": "abc-1"})
            assert (answer.status_code, answer.headers["x-request-id"]) == (500, "abc-1")
            assert "its log says why" in answer.text
        text = client.get("/metrics").text
    assert 'autotag_requests_total{code="500",protocol="native"} 1.0' in text
    fault, row = (json.loads(record.message) for record in caplog.records[:2])
    assert (fault["request"], fault["error"]) == ("abc-1", "ZeroDivisionError('division by zero')")
    assert "Traceback" in fault["traceback"]
    assert (row["request"], row["status"]) == ("abc-1", 500)


def test_a_client_that_hung_up_is_499_in_the_log(
    serve: Serve, numbers: Numbers, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve()
    numbers.gate.clear()
    with socket.create_connection(("127.0.0.1", server.port)) as leaving:
        body = numbered_png(1)
        leaving.sendall(b"POST /v1/tag HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\n")
        leaving.sendall(b"content-length: %d\r\n\r\n%b" % (len(body), body))
        assert numbers.entered.wait(10)
    with server.client() as client:
        while 'code="499"' not in client.get("/metrics").text:
            pass
    rows = [json.loads(record.message) for record in caplog.records]
    assert [row["status"] for row in rows if row["path"] == "/v1/tag"] == [499]


def test_a_method_that_a_path_does_not_have_is_405_with_those_that_it_has(serve: Serve) -> None:
    with serve().client() as client:
        answer = client.get("/v1/tag")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_request_line_with_a_whole_url_is_answered_and_its_password_is_not_logged(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET http://me:secret@localhost/healthz?a HTTP/1.1\r\nhost: localhost\r\n\r\n")
        connection.settimeout(10)
        assert b" 200 " in connection.recv(1000).splitlines()[0]
    server.__exit__()  # after the answer comes the log
    assert json.loads(caplog.records[0].message)["path"] == "/healthz"
    assert "secret" not in caplog.text


def test_a_token_is_wanted_everywhere_but_for_states_and_descriptions(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(tokens=["another-token-entirely", TOKEN])
    body = {"image": png_url(1)}
    with server.client() as client:
        for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
            assert client.get(path).status_code == 200, path
            head = client.head(path)  # as many health checks ask
            assert (head.status_code, head.content) == (200, b""), path
        for headers in ({}, {"authorization": f"Basic {TOKEN}"}, {"authorization": f"Bearer {TOKEN}x"}):
            refused = client.post("/v1/tag", json=body, headers=headers)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
        assert client.post(f"/v1/tag?token={TOKEN}", json=body).status_code == 401
        assert client.get("/metrics").status_code == 401
        right = {"authorization": f"Bearer {TOKEN}"}
        assert client.post("/v1/tag", json=body, headers=right).json()["caption"] == "number 1"
    assert TOKEN not in caplog.text


STRANGERS = (
    ({"host": "evil.example"}, 421, "wrong_host"),  # its name was pointed at this machine
    ({"host": "localhost", "origin": "http://evil.example"}, 403, "foreign_page"),
    ({"host": "localhost", "sec-fetch-site": "cross-site"}, 403, "foreign_page"),
)


def test_without_tokens_strangers_pages_are_refused_everywhere_in_the_protocols_shape(serve: Serve) -> None:
    body = {"model": "autotag", "image": png_url(1), "images": [png_url(1)]}
    with serve(page="/demo").client() as client:
        for headers, status, kind in STRANGERS:
            for path in ("/v1/tag", "/v1/models", "/healthz", "/demo/gradio_api/call/search"):
                answer = client.post(path, json=body, headers=headers)
                assert (answer.status_code, answer.json()["error"]["code"]) == (status, kind), path
            assert (
                "names of this"
                in client.post("/api/generate", json=body, headers=STRANGERS[0][0]).json()["error"]
            )
            prism = client.post("/api/v1/vision/labels", json=body, headers=headers)
            assert (prism.status_code, prism.json()["code"]) == (status, status)
        link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
        assert client.get("/docs", headers=link).status_code == 200
        own = {"origin": str(client.base_url).rstrip("/"), "sec-fetch-site": "same-origin"}
        assert client.get("/v1/models", headers=own).status_code == 200


def test_with_tokens_or_for_other_machines_a_server_has_any_name(serve: Serve) -> None:
    headers = {
        "host": "photos.example",
        "authorization": f"Bearer {TOKEN}",
        "origin": "https://behind.a.proxy",
    }
    with serve(tokens=[TOKEN]).client() as client:
        assert client.get("/v1/models", headers=headers).status_code == 200
    with serve(host="0.0.0.0").client() as client:  # noqa: S104 - as --insecure allows
        assert client.get("/v1/models", headers={"host": "photos.example"}).status_code == 200
        assert client.get("/v1/models", headers=headers).status_code == 403


def test_the_description_of_the_api_says_what_needs_a_token(serve: Serve) -> None:
    for tokens, wanted in (([TOKEN], [{"HTTPBearer": []}]), ([], None)):
        with serve(tokens=tokens).client() as client:
            text = client.get("/openapi.json").text
        paths = json.loads(text)["paths"]
        assert TOKEN not in text
        for path in ("/v1/tag", "/v1/embeddings", "/api/generate", "/api/v1/vision/labels"):
            assert paths[path]["post"].get("security") == wanted, path
        assert paths["/metrics"]["get"].get("security") == wanted
        assert "security" not in paths["/healthz"]["get"]


def test_a_request_keeps_the_id_that_the_client_gave_if_it_is_fit(serve: Serve) -> None:
    with serve().client() as client:
        assert client.get("/healthz", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
        assert (
            client.get("/healthz", headers={"x-request-id": "a b" * 99}).headers["x-request-id"] != "a b" * 99
        )


def test_metrics_count_what_happened(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    with serve().client() as client, caplog.at_level("INFO", logger="autotag.server"):
        client.post("/v1/tag", json={"image": png_url(1)})
        client.post("/api/generate", json={"model": "autotag"})
        text = client.get("/metrics").text
    for line in (
        'autotag_requests_total{code="200",protocol="native"} 1.0',
        'autotag_requests_total{code="400",protocol="ollama"} 1.0',
        'autotag_errors_total{kind="bad_request"} 1.0',
        "autotag_batch_size_count 1.0",
        "autotag_queue_depth 0.0",
    ):
        assert line in text
    assert re.search(r'autotag_stage_seconds_total\{stage="numbers"\} \d', text)
    rows = [json.loads(record.message) for record in caplog.records if record.name == "autotag.server"]
    assert (rows[0]["path"], rows[0]["status"]) == ("/v1/tag", 200)


def test_the_pages_about_the_api_need_no_other_server(serve: Serve) -> None:
    with serve().client() as client:
        paths = client.get("/openapi.json").json()["paths"]
        page = client.get("/docs").text
    assert {"/v1/tag", "/v1/embeddings", "/api/generate", "/api/v1/vision/labels"} <= set(paths)
    assert "http" not in page.replace("<html", "")


def test_a_server_that_still_loads_says_so_with_503(numbers: Numbers) -> None:
    loading = threading.Event()

    class Slow(Service):
        def start(self) -> None:
            assert loading.wait(10)
            super().start()

    with numbers.pipeline() as pipeline:
        service = Slow(Pipelines({"numbers": pipeline}), Limits())
        with Server(service, preload=False) as server, server.client() as client:
            try:
                early = client.post("/v1/tag", json={"image": png_url(1)})
                ready = client.get("/readyz").status_code
            finally:
                loading.set()
            assert (early.status_code, early.headers["retry-after"], ready) == (503, "5", 503)
            while client.get("/readyz").status_code == 503:
                time.sleep(0.02)
            assert client.post("/v1/tag", json={"image": png_url(1)}).status_code == 200


def test_a_server_that_ends_answers_what_it_took(serve: Serve, numbers: Numbers) -> None:
    server = serve()
    numbers.gate.clear()
    with server.client() as client, ThreadPoolExecutor(1) as threads:
        asked = threads.submit(client.post, "/v1/tag", json={"image": png_url(4)})
        assert numbers.entered.wait(10)
        server.end()
        time.sleep(0.3)
        numbers.gate.set()
        assert asked.result().json()["caption"] == "number 4"


# The command


def test_a_place_that_others_reach_wants_a_token() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.4", "photos.example"):  # noqa: S104 - refused
        with pytest.raises(ConfigError, match="token"):
            Place(host=host)
        assert Place(host=host, insecure=True).host == host
        assert Place(host=host, tokens=(TOKEN,)).host == host
    for host in ("127.0.0.1", "::1", "localhost"):
        assert Place(host=host).host == host
    answer = CliRunner().invoke(main, ["serve", "--preset", "mini", "--host", "0.0.0.0"])  # noqa: S104
    assert answer.exit_code == 2
    assert "--token-file" in answer.output


def test_a_token_file_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# ours\n\n{TOKEN}\n")
    assert read_tokens(file) == (TOKEN,)
    for text, words in (("", "no token"), ("short", "16")):
        file.write_text(text)
        with pytest.raises(ConfigError, match=words):
            read_tokens(file)
    file.write_bytes("ein Schlüssel von daheim".encode())
    with pytest.raises(ConfigError, match="holds more than plain ASCII"):
        read_tokens(file)
    with pytest.raises(ConfigError, match=r"cannot read the token file '\S+': No such file or directory\.$"):
        read_tokens(tmp_path / "none")


@contextmanager
def served() -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """The real command with preset mini, ready, and a client."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from autotag.cli.main import main; main()", "serve", "--preset", "mini"]
    with subprocess.Popen([*command, "--port", str(port)], stderr=subprocess.PIPE, text=True) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
                for _ in range(600):
                    try:
                        if client.get("/readyz").status_code == 200:
                            break
                    except httpx.TransportError:
                        pass
                    time.sleep(0.1)
                yield process, client
        finally:
            process.kill()


@pytest.mark.slow
def test_the_command_serves_until_sigterm() -> None:
    with served() as (process, client):
        assert client.post("/v1/tag", json={"image": CAT_URL}).json()["caption"] == SAID
        os.kill(process.pid, signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    assert process.returncode == 0
    rows = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert rows[0] == {"listening": str(client.base_url).rstrip("/")}
    assert rows[-1]["path"] == "/v1/tag"
    assert "base64" not in log


@pytest.mark.slow
def test_a_second_ctrl_c_ends_the_command_at_once_and_quietly() -> None:
    with served() as (process, client):
        port = client.base_url.port
        assert port
        with socket.create_connection(("127.0.0.1", port)) as slow:
            slow.sendall(b"POST /v1/tag HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\nab")
            client.get("/readyz")  # the server has the request
            os.kill(process.pid, signal.SIGINT)
            with suppress(ConnectionRefusedError):
                while True:
                    socket.create_connection(("127.0.0.1", port)).close()
            os.kill(process.pid, signal.SIGINT)
            _, log = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in log
    assert all(json.loads(line) for line in log.splitlines())


@pytest.mark.slow
def test_sigterm_in_the_middle_of_a_batch_leaves_no_request_without_an_answer() -> None:
    def ask(number: int) -> int | str:
        try:
            return client.post("/v1/tag", content=photo(number)).status_code
        except httpx.ConnectError:
            return "not connected"  # it came too late

    def photo(number: int) -> bytes:
        file = io.BytesIO()
        Image.new("RGB", (64, 64), (10 * number, 5, 5)).save(file, "PNG")
        return file.getvalue()

    with served() as (process, client), ThreadPoolExecutor(12) as threads:
        assert client.post("/v1/tag", content=photo(0)).status_code == 200  # the models are loaded
        asked = [threads.submit(ask, number) for number in range(1, 13)]  # a connection each
        next(as_completed(asked))
        os.kill(process.pid, signal.SIGTERM)
        answers = [one.result() for one in asked]
        assert process.wait(60) == 0
    assert answers.count(200) >= 1
    assert set(answers) <= {200, 503, "not connected"}


# Moderation


@pytest.fixture
def moderating(serve: Serve) -> Server:
    """A server whose first moderated request does not import torch, which takes long on a busy machine."""
    choose_device("cpu")
    return serve(Limits())


def test_an_image_is_moderated_only_when_the_request_asks_for_it(moderating: Server) -> None:
    with moderating.client() as client:
        plain = client.post("/v1/tag", json={"image": CAT_URL}).json()
        asked = client.post("/v1/tag?moderate=true", json={"image": CAT_URL}).json()
        rows = client.post("/v1/tag/batch?moderate=true", json={"images": [CAT_URL]}).json()["results"]
    assert plain["moderation"] == []
    assert [(one["label"], one["flagged"]) for one in asked["moderation"]] == [
        ("safe", False),
        ("explicit", False),
    ]
    assert rows[0]["moderation"] == asked["moderation"]
    assert asked["caption"] == plain["caption"]


def test_without_the_moderators_package_the_request_is_refused(
    moderating: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autotag.models.cards.find_spec", lambda _: None)
    with moderating.client() as client:
        answer = client.post("/v1/tag?moderate=true", json={"image": CAT_URL})
        assert client.post("/v1/tag", json={"image": CAT_URL}).status_code == 200
    assert answer.status_code == 422
    assert "autotag-images[moderation]" in answer.text


def test_an_unknown_moderator_is_refused_before_the_server_starts(numbers: Numbers) -> None:
    with numbers.pipeline() as pipeline, pytest.raises(ConfigError, match="Did you mean 'opennsfw'"):
        Pipelines({"numbers": pipeline}, moderator="opensfw")


def test_tags_are_served_in_the_language_of_the_preset() -> None:
    with (
        autotag.load("mini", language="de") as pipeline,
        Server(Service(Pipelines({"mini": pipeline}), Limits())) as server,
    ):
        answer = httpx.post(f"{server.url}/v1/tag", content=CAT, headers={"content-type": "image/jpeg"})
        tags = {tag["text"]: tag for tag in answer.json()["tags"]}
        assert tags["Katze"]["concept"] == "cat"
        chosen = httpx.post(
            f"{server.url}/v1/tag?top_k=1", content=CAT, headers={"content-type": "image/jpeg"}
        ).json()
        assert [tag["language"] for tag in chosen["tags"]] == ["de"]


def test_images_of_a_batch_are_fetched_within_the_time_and_bytes_of_the_limits(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []

    def fetch(url: str, **_: Any) -> bytes:
        fetched.append(url)
        time.sleep(0.2)
        return numbered_png(len(fetched)) + bytes(10_000)

    monkeypatch.setattr("autotag.server.core.url_images.fetch", fetch)
    urls = [f"https://images.example/{number}.png" for number in range(20)]
    for limits, wanted in (
        (Limits(timeout=0.5, cached_results=0), (504, "timed_out")),
        (Limits(max_waiting_bytes=25_000, cached_results=0), (413, "too_large")),
    ):
        fetched.clear()
        server = serve(limits)
        monkeypatch.setattr(server.service, "urls", UrlImages({"images.example"}, 256))
        with server.client() as client:
            answer = client.post("/v1/tag/batch", json={"images": urls})
        assert (answer.status_code, answer.json()["error"]["code"]) == wanted
        assert len(fetched) < 10


def test_slow_hosts_hold_up_nobody_else(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    done, begun = threading.Event(), threading.Semaphore(0)

    def fetch(_url: str, **_: Any) -> bytes:
        begun.release()
        assert done.wait(20)
        return numbered_png(9)

    monkeypatch.setattr("autotag.server.core.url_images.fetch", fetch)
    server = serve()
    monkeypatch.setattr(server.service, "urls", UrlImages({"images.example"}, 256))

    def chat(url: str) -> str:
        message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
        answer = client.post("/v1/chat/completions", json={"model": "autotag", "messages": [message]})
        return str(answer.json()["choices"][0]["message"]["content"])

    with server.client() as client, ThreadPoolExecutor(20) as threads:
        slow = [threads.submit(chat, "https://Images.Example/a.png") for _ in range(20)]
        for _ in range(8):
            assert begun.acquire(timeout=10)
        assert chat(png_url(1)) == "number 1"
        done.set()
        assert {one.result() for one in slow} == {"number 9"}


def test_tags_of_a_schema_have_a_limit_of_characters(serve: Serve) -> None:
    with serve().client() as client:
        for label, status in (("c" * 200, 200), ("c" * 201, 422)):
            items = {"type": "array", "items": {"enum": [label]}}
            schema = {"type": "object", "properties": {"tags": items}}
            answer = client.post(
                "/v1/chat/completions",
                json={
                    "model": "numbers",
                    "messages": [
                        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": png_url(1)}}]}
                    ],
                    "response_format": {
                        "type": "json_schema",
                        "json_schema": {"name": "s", "schema": schema},
                    },
                },
            )
            if status == 422:
                assert "a tag of more than 200 characters" in answer.text
            else:
                assert "characters" not in answer.text
