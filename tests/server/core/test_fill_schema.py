from __future__ import annotations

from typing import Any

import pytest

from autotag.server.core.answers import Answer, SureTag
from autotag.server.core.fill_schema import SchemaError, allowed_labels, fill, schema_in_prompt

ANSWER = Answer("a dog on a beach", (SureTag("dog", 0.91), SureTag("sandy beach", 0.7)))
TEXTS = {"type": "array", "items": {"type": "string"}}


def an_object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize(
    ("schema", "filled"),
    [
        (an_object(tags=TEXTS), {"tags": ["dog", "sandy beach"]}),
        (an_object(keywords={"type": "string"}), {"keywords": "dog, sandy beach"}),
        (
            an_object(title={"type": "string"}, alt_text={"type": ["null", "string"]}),
            {"title": "A dog on a beach", "alt_text": "a dog on a beach"},
        ),
        (
            an_object(
                labels={
                    "type": "array",
                    "maxItems": 1,
                    "items": an_object(name={"type": "string"}, confidence={"type": "number"}),
                }
            ),
            {"labels": [{"name": "dog", "confidence": 0.91}]},
        ),
        (
            an_object(tags={"type": "array", "items": {"$ref": "#/$defs/T"}})
            | {"$defs": {"T": an_object(tag={"type": "string"}, score={"type": "integer"})}},
            {"tags": [{"tag": "dog", "score": 91}, {"tag": "sandy beach", "score": 70}]},
        ),
        (
            an_object(tags={"type": "array", "items": {"type": "string", "enum": ["Cat", "Dog"]}}),
            {"tags": ["Dog"]},
        ),
        (an_object(keywords=an_object(Animals=TEXTS, Places=TEXTS)), {
            "keywords": {"Animals": ["dog", "sandy beach"], "Places": []}
        }),
        (
            an_object(
                year={"type": "integer"}, safe={"type": "boolean"}, mood={"type": "string"}, faces=TEXTS
            ),
            {"year": 0, "safe": False, "mood": "", "faces": []},
        ),
        (
            an_object(caption={"anyOf": [{"type": "null"}, {"type": "string"}]}),
            {"caption": "a dog on a beach"},
        ),
        (TEXTS, ["dog", "sandy beach"]),
    ],
)  # fmt: skip
def test_a_schema_is_filled_by_the_names_of_its_properties(schema: dict[str, Any], filled: Any) -> None:
    assert fill(schema, ANSWER) == filled


def test_a_list_of_allowed_tags_is_found_wherever_it_stands() -> None:
    items = {"type": "array", "items": {"enum": ["red", "blue", "red", None]}}
    assert allowed_labels(an_object(more=an_object(colours=items))) == ("red", "blue")
    assert allowed_labels(an_object(tags=TEXTS)) == ()


def test_a_hostile_schema_is_refused() -> None:
    circle = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(200):
        deep = an_object(tags=deep)
    branching: dict[str, Any] = {"$ref": "#/$defs/A"}
    branching["$defs"] = {"A": an_object(**{f"p{n}": {"$ref": "#/$defs/A"} for n in range(30)})}
    for schema in (circle, deep, branching, {"$ref": "#/nowhere"}):
        with pytest.raises(SchemaError):
            fill(schema, ANSWER)
    with pytest.raises(SchemaError):
        allowed_labels(deep)


def test_a_prompt_may_show_an_example_or_quote_its_keys() -> None:
    shown = schema_in_prompt('Return labels as:\n{"labels":[{"name":"","confidence":0.5}]}')
    assert shown is not None
    assert fill(shown, ANSWER)["labels"][0] == {"name": "dog", "confidence": 0.91}
    quoted = schema_in_prompt('Answer in JSON with the key "tags", an array of strings.')
    assert quoted is not None
    assert fill(quoted, ANSWER) == {"tags": ["dog", "sandy beach"]}
    assert schema_in_prompt("Describe {this} image.") is None
