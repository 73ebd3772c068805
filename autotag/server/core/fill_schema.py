"""Fill the JSON schema of a client's request with a caption and tags.

Clients of language models send a JSON schema, or an example in their prompt. A captioner cannot follow a
prompt, but the names of properties show what they should hold: ``tags``, ``title``, ``description``,
``confidence``.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from autotag.server.core.answers import Answer, SureTag

_TAGS = re.compile(r"tag|keyword|label|categor|subject|object|concept|classif", re.IGNORECASE)
_TITLE = re.compile(r"title|headline|^name$", re.IGNORECASE)
_CAPTION = re.compile(r"caption|descri|^alt|alt_?text|summary|text|comment|content|answer", re.IGNORECASE)
_NAME = re.compile(r"name|label|tag|keyword|title|text|value|word", re.IGNORECASE)
_SCORE = re.compile(r"confid|topical|score|probab|relevan|weight|certain|likel", re.IGNORECASE)
_QUOTED = re.compile(r"[\"'`](\w{2,40})[\"'`]")
_DEEPEST = 24
_MOST_NODES = 10_000


class SchemaError(ValueError):
    """A schema that cannot be read; the message says why."""


def fill(schema: Mapping[str, Any], answer: Answer) -> Any:
    """Return a JSON value that fits a schema, filled from the answer.

    Lists with names like ``tags`` get the tags, numbers in them the confidence, and texts with names like
    ``caption`` the caption. Other properties are an empty text, 0, false or an empty list. If the schema
    lists the allowed values, only those tags are used.

    Raises:
        SchemaError: the schema is nested too deeply, is too large, or has a reference without a target.
    """
    return _Filler(schema, answer).value(schema, "", None, 0)


def allowed_labels(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the texts that a schema allows as the items of a list; none where it allows all.

    Raises:
        SchemaError: it is nested too deeply, or too large.
    """
    for node in _nodes(schema):
        items = node.get("items")
        if isinstance(items, dict) and isinstance(items.get("enum"), list):
            texts = [entry for entry in items["enum"] if isinstance(entry, str) and entry.strip()]
            if texts:
                return tuple(dict.fromkeys(texts))
    return ()


def schema_in_prompt(prompt: str) -> dict[str, Any] | None:
    """Return the schema that a prompt asks for: one written out in it, an example, or keys in quotes.

    None where the prompt does not ask for JSON.
    """
    for start in [match.start() for match in re.finditer(r"[{\[]", prompt)][:50]:
        try:
            found, _ = json.JSONDecoder().raw_decode(prompt, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and isinstance(found.get("properties"), dict):
            return found
        if found and (isinstance(found, dict) or isinstance(found[0], dict)):
            return _schema_of_example(found, 0)
    if "json" not in prompt.lower():
        return None
    keys = [
        key for key in dict.fromkeys(_QUOTED.findall(prompt)) if _TAGS.search(key) or _CAPTION.search(key)
    ]
    return default_schema(keys)


def default_schema(keys: list[str] | None = None) -> dict[str, Any]:
    """Return the schema of an object with these keys; by default tags, caption and description."""
    names = keys or ["tags", "caption", "description"]
    texts = {"type": "array", "items": {"type": "string"}}
    return {
        "type": "object",
        "properties": {name: texts if _TAGS.search(name) else {"type": "string"} for name in names},
    }


def wants_tags(prompt: str) -> bool:
    """Return whether a prompt that does not ask for JSON asks for tags rather than a caption."""
    return re.search(r"\b(tags?|keywords?|labels?)\b", prompt, re.IGNORECASE) is not None


def _schema_of_example(example: Any, depth: int) -> dict[str, Any]:
    if depth > _DEEPEST:
        return {}
    if isinstance(example, dict):
        properties = {str(key): _schema_of_example(entry, depth + 1) for key, entry in example.items()}
        return {"type": "object", "properties": properties}
    if isinstance(example, list):
        items = _schema_of_example(example[0], depth + 1) if example else {"type": "string"}
        return {"type": "array", "items": items}
    if isinstance(example, bool):
        return {"type": "boolean"}
    return {"type": "number"} if isinstance(example, int | float) else {"type": "string"}


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in a schema, outermost first."""
    level, count = [schema], 0
    for _ in range(_DEEPEST):
        below: list[Any] = []
        for node in level:
            count += 1
            if count > _MOST_NODES:
                raise SchemaError(f"the schema has more than {_MOST_NODES} parts.")
            if isinstance(node, dict):
                yield node
                below += node.values()
            elif isinstance(node, list):
                below += [entry for entry in node if isinstance(entry, dict | list)]
        level = [node for node in below if isinstance(node, dict | list)]
        if not level:
            return
    raise SchemaError(f"the schema is nested more than {_DEEPEST} deep.")


class _Filler:
    def __init__(self, root: Mapping[str, Any], answer: Answer) -> None:
        self._root = root
        self._answer = answer
        self._left = _MOST_NODES

    def value(self, schema: Any, key: str, tag: SureTag | None, depth: int) -> Any:  # noqa: PLR0911
        """Return the value of a property called ``key``, for one tag or for the image."""
        self._left -= 1
        if self._left < 0 or depth > _DEEPEST:
            raise SchemaError("the schema is too large, or nested too deeply.")
        node = self._resolved(schema)
        if "const" in node:
            return node["const"]
        kind = _kind(node)
        if isinstance(node.get("enum"), list) and node["enum"]:
            return self._of_enum(node["enum"], tag)
        if kind == "object":
            return self._object(node, key, tag, depth)
        if kind == "array":
            return self._array(node, key, depth) if tag is None else []
        if kind in {"number", "integer"}:
            return self._number(node, key, tag, whole=kind == "integer")
        if kind == "string":
            return self._text(key, tag)
        return False if kind == "boolean" else None

    def _resolved(self, schema: Any) -> dict[str, Any]:
        """Return the schema after following references and choosing among alternatives."""
        for _ in range(_DEEPEST):
            if not isinstance(schema, dict):
                return {"type": "string"}
            if isinstance(schema.get("$ref"), str):
                schema = self._referred(schema["$ref"])
            elif isinstance(schema.get("allOf"), list) and schema["allOf"]:
                parts = [part for part in schema["allOf"] if isinstance(part, dict)]
                rest = {name: entry for name, entry in schema.items() if name != "allOf"}
                schema = {name: entry for part in [*parts, rest] for name, entry in part.items()}
            elif options := schema.get("anyOf") or schema.get("oneOf"):
                real = [one for one in options if isinstance(one, dict) and one.get("type") != "null"]
                schema = real[0] if real else {"type": "null"}
            else:
                return schema
        raise SchemaError("the schema's references form a cycle.")

    def _referred(self, reference: str) -> Any:
        found: Any = self._root
        for part in reference.removeprefix("#").strip("/").split("/"):
            if part and (not isinstance(found, dict) or part not in found):
                raise SchemaError(f"the schema refers to {reference[:80]!r}, which is not in it.")
            found = found[part] if part else found
        return found

    def _of_enum(self, allowed: list[Any], tag: SureTag | None) -> Any:
        said = [tag.text] if tag else [one.text for one in self._answer.tags]
        folded = {entry.casefold(): entry for entry in reversed(allowed) if isinstance(entry, str)}
        return next((folded[text.casefold()] for text in said if text.casefold() in folded), allowed[0])

    def _object(self, node: dict[str, Any], key: str, tag: SureTag | None, depth: int) -> dict[str, Any]:
        properties = node.get("properties")
        if not isinstance(properties, dict):
            return {}
        groups = _TAGS.search(key) and tag is None
        if groups and all(_kind(self._resolved(entry)) == "array" for entry in properties.values()):
            first = next(iter(properties), "")  # groups of keywords: nobody knows which belongs where
            return {
                name: self._array(self._resolved(entry), "tags", depth + 1) if name == first else []
                for name, entry in properties.items()
            }
        return {name: self.value(entry, str(name), tag, depth + 1) for name, entry in properties.items()}

    def _array(self, node: dict[str, Any], key: str, depth: int) -> list[Any]:
        items = self._resolved(node.get("items", {"type": "string"}))
        allowed = items.get("enum")
        tags = list(self._answer.tags)
        if isinstance(allowed, list):
            folded = {entry.casefold(): entry for entry in allowed if isinstance(entry, str)}
            found: list[Any] = [folded[one.text.casefold()] for one in tags if one.text.casefold() in folded]
        elif _kind(items) == "object":
            names = items.get("properties") or {}
            about_tags = not key or _TAGS.search(key) or any(_NAME.search(str(name)) for name in names)
            found = [self.value(items, key, tag, depth + 1) for tag in tags] if about_tags else []
        elif key and not _TAGS.search(key):
            found = [self._answer.caption] if _CAPTION.search(key) and self._answer.caption else []
        else:
            found = [one.confidence if _kind(items) == "number" else one.text for one in tags]
        most = node.get("maxItems")
        return found[:most] if isinstance(most, int) and most >= 0 else found

    def _number(self, node: dict[str, Any], key: str, tag: SureTag | None, *, whole: bool) -> float | int:
        if tag is None or not _SCORE.search(key):
            return 0
        of_hundred = whole or (isinstance(node.get("maximum"), int | float) and node["maximum"] >= 100)
        scaled = tag.confidence * 100 if of_hundred else tag.confidence
        return round(scaled) if whole else round(scaled, 4)

    def _text(self, key: str, tag: SureTag | None) -> str:
        if tag is not None:
            return tag.text if _NAME.search(key) else ""
        caption = self._answer.caption
        if _TAGS.search(key):
            return ", ".join(one.text for one in self._answer.tags)
        if _TITLE.search(key):
            return caption[:1].upper() + caption[1:]
        return caption if not key or _CAPTION.search(key) else ""


def _kind(node: dict[str, Any]) -> str:
    """Return the type of a value; of several types the first that is not null."""
    kinds = node.get("type")
    if isinstance(kinds, list):
        return str(next((kind for kind in kinds if kind != "null"), "null"))
    if isinstance(kinds, str):
        return kinds
    if "properties" in node:
        return "object"
    return "array" if "items" in node else "string"
