"""Fill the JSON schema of a client's request with a caption and tags.

Clients of language models send a JSON schema, or an example in their prompt. A captioner cannot follow a
prompt, but the names of properties show what they should hold: ``tags``, ``title``, ``description``,
``confidence``.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from autotag.server.core.answers import Answer, SureTag
from autotag.server.core.strict_json import read_json_at

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TAGS = re.compile(r"tag|keyword|label|categor|subject|object|concept|classif", re.IGNORECASE)
_TITLE = re.compile(r"title|headline|^name$", re.IGNORECASE)
_CAPTION = re.compile(r"caption|descri|^alt|alt_?text|summary|text|comment|content|answer", re.IGNORECASE)
_NAME = re.compile(r"name|label|tag|keyword|title|text|value|word", re.IGNORECASE)
_CLASS = re.compile(r"categor|class|kind|type", re.IGNORECASE)  # names a tag where no other property does
_SCORE = re.compile(r"confid|topical|score|probab|relevan|weight|certain|likel", re.IGNORECASE)
_QUOTED = re.compile(r"[\"'`](\w{2,40})[\"'`]")
_DEEPEST = 24
_MOST_NODES = 10_000
_MOST_OF_ENUM = 10  # tags in a list, as ``match_vocabulary`` has them


class SchemaError(ValueError):
    """A schema that cannot be read; the message says why."""


def fill(schema: Mapping[str, Any], answer: Answer) -> Any:
    """Return a JSON value that fits a schema, filled from the answer.

    Lists with names like ``tags`` get the tags, numbers in them the confidence, and texts with names like
    ``caption`` the caption. Other properties are an empty text, 0, false or an empty list. Where the schema
    lists the allowed values, a list gets the labels of the answer among them that match the image, and a
    single value is the one that matches best.

    Raises:
        SchemaError: the schema is malformed, nested too deeply or too large, has a reference without a
            target, or an enum that cannot be compared with an image.
    """
    return _Filler(schema, answer).value(schema, "", None, 0)


def allowed_labels(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the texts of every enum in a schema that ``fill`` chooses from by comparing them with the image.

    Raises:
        SchemaError: as ``fill``.
    """
    filler = _Filler(schema, None)
    filler.value(schema, "", None, 0)
    return tuple(filler.compared)


def schema_in_prompt(prompt: str) -> dict[str, Any] | None:
    """Return the schema that a prompt asks for: one written out in it, an example, or keys in quotes.

    None where the prompt does not ask for JSON.
    """
    for start in [match.start() for match in re.finditer(r"[{\[]", prompt)][:50]:
        try:
            found, _ = read_json_at(prompt, start)
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


class _Filler:
    """Fill one schema; without an answer, collect the labels to compare, on the same way through it."""

    def __init__(self, root: Mapping[str, Any], answer: Answer | None) -> None:
        self._root = root
        self._collects = answer is None
        self._answer = answer or Answer("", (SureTag("", 0.0),))
        self._left = _MOST_NODES
        self.compared: dict[str, None] = {}

    def value(self, schema: Any, key: str, tag: SureTag | None, depth: int) -> Any:
        """Return the value of a property called ``key``, for one tag or for the image."""
        node = self._resolved(schema, depth)
        kind = _kind(node)
        if isinstance(node.get("enum"), list) and node["enum"]:
            return self._of_enum(node["enum"], key, tag)
        if kind == "object":
            return self._object(node, key, tag, depth)
        if kind == "array":
            return self._array(node, key, depth) if tag is None else []
        if kind in {"number", "integer"}:
            return self._number(node, key, tag, whole=kind == "integer")
        if kind == "string":
            return self._text(key, tag)
        return False if kind == "boolean" else None

    def _resolved(self, schema: Any, depth: int) -> dict[str, Any]:
        """Return the schema after following references and choosing alternatives; const becomes enum."""
        self._left -= 1
        if self._left < 0 or depth > _DEEPEST:
            raise SchemaError("the schema is too large, or nested too deeply.")
        for _ in range(_DEEPEST):
            if not isinstance(schema, dict):
                return {"type": "string"}
            if isinstance(schema.get("$ref"), str):
                schema = self._referred(schema["$ref"])
            elif parts := _entries(schema, "allOf"):
                rest = {name: entry for name, entry in schema.items() if name != "allOf"}
                schema = {name: entry for part in [*parts, rest] for name, entry in part.items()}
            elif options := _entries(schema, "anyOf") or _entries(schema, "oneOf"):
                real = [one for one in options if one.get("type") != "null"]
                schema = self._one_of(real, depth) if real else {"type": "null"}
                if len(real) < len(options):
                    schema = self._or_null(schema, depth)
            else:
                return {**schema, "enum": [schema["const"]]} if "const" in schema else schema
        raise SchemaError("the schema's references form a cycle.")

    def _one_of(self, options: list[dict[str, Any]], depth: int) -> dict[str, Any]:
        """Return the first alternative; where all are allowed values, one enum of them."""
        if len(options) == 1:
            return options[0]
        nodes = [self._resolved(option, depth + 1) for option in options]
        lists = [node.get("enum") for node in nodes]
        if all(isinstance(one, list) for one in lists):
            return {"enum": [entry for one in lists if one for entry in one]}
        return nodes[0]

    def _or_null(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        """Return an alternative beside null; where it lists allowed values, null is one of them."""
        node = self._resolved(schema, depth + 1)
        allowed = node.get("enum")
        return {"enum": [*allowed, None]} if isinstance(allowed, list) else node

    def _referred(self, reference: str) -> Any:
        found: Any = self._root
        for part in reference.removeprefix("#").strip("/").split("/"):
            if part and (not isinstance(found, dict) or part not in found):
                raise SchemaError(f"the schema refers to {reference[:80]!r}, which is not in it.")
            found = found[part] if part else found
        return found

    def _of_enum(self, allowed: list[Any], key: str, tag: SureTag | None) -> Any:
        """Return one of the allowed values: the only one, that of the tag, or the best for the image."""
        texts = _texts(allowed)
        if len(allowed) == 1:
            return allowed[0]
        if tag is not None and tag.text in texts:
            return tag.text
        empty = [entry for entry in allowed if entry is None or entry in ("", 0)]  # as without an enum
        if tag is None and texts:
            best = self._ranked(texts)[0]
            return best.text if best.matches or not empty else empty[0]
        if not empty:
            what = "each tag" if texts else "an image"
            raise SchemaError(f"{key[:80]!r} allows only values that cannot be compared with {what}.")
        return empty[0]

    def _ranked(self, texts: Sequence[str]) -> list[SureTag]:
        """Return the labels of the answer that are among the texts, best first, spelled as there."""
        if self._collects:
            self.compared |= dict.fromkeys(texts)
            return [SureTag(texts[0], 0.0)]
        folded = {text.strip().casefold(): text for text in reversed(texts)}
        labels = [label for label in self._answer.labels if label.text.casefold() in folded]
        return [replace(label, text=folded[label.text.casefold()]) for label in labels]

    def _matching(self, texts: Sequence[str]) -> list[SureTag]:
        """Return the first labels of ``_ranked`` that match the image."""
        return [label for label in self._ranked(texts) if label.matches][:_MOST_OF_ENUM]

    def _object(self, node: dict[str, Any], key: str, tag: SureTag | None, depth: int) -> dict[str, Any]:
        properties = _properties(node)
        groups = _TAGS.search(key) and tag is None
        if groups and all(self._is_list_of_any(entry, depth) for entry in properties.values()):
            first = next(iter(properties), "")  # groups of keywords: nobody knows which belongs where
            return {
                name: self._array(self._resolved(entry, depth), "tags", depth + 1) if name == first else []
                for name, entry in properties.items()
            }
        return {name: self.value(entry, str(name), tag, depth + 1) for name, entry in properties.items()}

    def _is_list_of_any(self, schema: Any, depth: int) -> bool:
        """Return whether a schema is of a list whose entries are not from an enum."""
        node = self._resolved(schema, depth)
        return _kind(node) == "array" and "enum" not in self._resolved(node.get("items"), depth)

    def _array(self, node: dict[str, Any], key: str, depth: int) -> list[Any]:
        items = self._resolved(node.get("items"), depth + 1)
        tags = list(self._answer.tags)
        if isinstance(items.get("enum"), list):
            texts = _texts(items["enum"])
            found: list[Any] = [one.text for one in self._matching(texts)] if texts else []
        elif _kind(items) == "object":
            names = _properties(items)
            texts = self._allowed_names(names, depth)
            is_named = texts or any(_NAME.search(str(name)) for name in names)
            about_tags = not key or _TAGS.search(key) or is_named
            tags = self._matching(texts) if texts else tags
            found = [self.value(items, key, tag, depth + 1) for tag in tags] if about_tags else []
        elif key and not _TAGS.search(key):
            found = [self._answer.caption] if _CAPTION.search(key) and self._answer.caption else []
        else:
            found = [one.confidence if _kind(items) == "number" else one.text for one in tags]
        most = node.get("maxItems")
        return found[:most] if isinstance(most, int) and most >= 0 else found

    def _allowed_names(self, properties: Mapping[str, Any], depth: int) -> list[str]:
        """Return the allowed values of the property that names a tag; none if any text may name it."""
        nodes = {str(name): self._resolved(entry, depth + 1) for name, entry in properties.items()}
        named = [node for name, node in nodes.items() if _NAME.search(name)]
        named = named or [node for name, node in nodes.items() if _CLASS.search(name)]
        lists = [_texts(node["enum"]) for node in named if isinstance(node.get("enum"), list)]
        several = [texts for texts in lists if len(texts) > 1]
        if several:
            return several[0]
        return lists[0] if lists and len(lists) == len(named) else []

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


def _entries(node: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the schemas in a list of a schema, such as ``anyOf``."""
    found = node.get(name, [])
    if not isinstance(found, list):
        raise SchemaError(f"{name} in the schema is not a list.")
    return [one for one in found if isinstance(one, dict)]


def _properties(node: dict[str, Any]) -> dict[str, Any]:
    found = node.get("properties", {})
    if not isinstance(found, dict):
        raise SchemaError("properties in the schema is not an object.")
    return found


def _texts(allowed: list[Any]) -> list[str]:
    """Return the entries of an enum that can be compared with an image, without repeats."""
    return list(dict.fromkeys(one for one in allowed if isinstance(one, str) and one.strip()))


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
