from __future__ import annotations

from typing import Any

import pytest

from autotag.server.core.answers import Answer, SureTag
from autotag.server.core.fill_schema import SchemaError, allowed_labels, fill, schema_in_prompt

ANSWER = Answer(
    "a dog on a beach",
    (SureTag("dog", 0.91), SureTag("sandy beach", 0.7)),
    (
        SureTag("Dog", 0.9), SureTag("outdoor", 0.8), SureTag("indoor", 0.3, matches=False),
        SureTag("cat", 0.2, matches=False), SureTag("shark", 0.1, matches=False),
    ),
)  # fmt: skip
ANIMAL = {"type": "string", "enum": ["cat", "dog", "shark"]}
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
        (
            an_object(animal={"$ref": "#/$defs/A"}, place={"enum": ["indoor", "outdoor"]})
            | {"$defs": {"A": ANIMAL}},
            {"animal": "dog", "place": "outdoor"},
        ),
        (an_object(verdict={"enum": ["shark", "cat"]}), {"verdict": "cat"}),  # the best, though none matches
        (
            an_object(a={"enum": ["cat", None]}, b={"enum": ["", "shark"]}, c={"enum": [None, "dog"]}),
            {"a": None, "b": "", "c": "dog"},
        ),
        (
            an_object(a={"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}]},
                      b={"anyOf": [{"type": "null"}, {"enum": ["shark", "cat"]}]},
                      c={"oneOf": [{"const": "shark"}, {"type": "null"}]},
                      d={"oneOf": [{"enum": [1, 2]}, {"type": "null"}]}) | {"$defs": {"A": ANIMAL}},
            {"a": "dog", "b": None, "c": None, "d": None},
        ),
        (
            an_object(tags={"type": "array", "items": {"type": "string", "const": "cat"}},
                      labels={"type": "array", "items": {"const": "dog"}},
                      keywords=an_object(animals={"type": "array", "items": {"const": "shark"}})),
            {"tags": [], "labels": ["dog"], "keywords": {"animals": []}},
        ),
        (
            an_object(tags={"type": "array", "items": an_object(name={"const": "cat"})},
                      labels={"type": "array", "items": an_object(label={"const": "dog"})},
                      keywords={"type": "array", "items": an_object(
                          tag_type={"const": "cat"}, tag={"type": "string"})}),
            {"tags": [], "labels": [{"label": "dog"}], "keywords": [
                {"tag_type": "cat", "tag": "dog"}, {"tag_type": "cat", "tag": "sandy beach"}]},
        ),
        (
            an_object(detections={"type": "array", "items": an_object(
                          **{"class": ANIMAL}, confidence={"type": "number"})},
                      objects={"type": "array", "items": an_object(
                          category={"enum": ["indoor", "outdoor"]}, note={"type": "string"})}),
            {
                "detections": [{"class": "dog", "confidence": 0.9}],
                "objects": [{"category": "outdoor", "note": ""}],
            },
        ),
        (an_object(mood={"anyOf": [{"const": "shark"}, {"const": "dog"}]}), {"mood": "dog"}),
        (an_object(kind={"enum": ["photo"]}, stars={"enum": [0, 1, 2]}), {"kind": "photo", "stars": 0}),
        (
            an_object(tags={"type": "array", "items": {"$ref": "#/$defs/A"}}, free=TEXTS, keywords=TEXTS)
            | {"$defs": {"A": ANIMAL}},
            {"tags": ["dog"], "free": [], "keywords": ["dog", "sandy beach"]},
        ),
        (
            an_object(keywords=an_object(animals={"type": "array", "items": ANIMAL},
                      places={"type": "array", "items": {"enum": ["indoor", "outdoor"]}})),
            {"keywords": {"animals": ["dog"], "places": ["outdoor"]}},
        ),
        (
            an_object(tags={"type": "array", "items": an_object(
                kind={"enum": ["tag"]}, name=ANIMAL, confidence={"type": "number"})}),
            {"tags": [{"kind": "tag", "name": "dog", "confidence": 0.9}]},
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


def test_every_enum_is_compared_wherever_it_stands() -> None:
    items = {"type": "array", "items": {"enum": ["red", "blue", "red", None]}}
    names = {"type": "array", "items": an_object(name={"$ref": "#/$defs/A"})}
    schema = an_object(more=an_object(colours=items), tags=names, rating={"enum": ["safe", "unsafe"]})
    assert allowed_labels(schema | {"$defs": {"A": ANIMAL}}) == (
        "red", "blue", "cat", "dog", "shark", "safe", "unsafe",
    )  # fmt: skip
    assert allowed_labels(an_object(tags=TEXTS, kind={"enum": ["photo"]}, unused={"const": "x"})) == ()


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": 5},
        an_object(a={"oneOf": "x"}),
        an_object(a={"allOf": {}}),
        {"type": "object", "properties": 5},
        an_object(tags={"type": "array", "items": {"type": "object", "properties": 5}}),
        an_object(stars={"enum": [1, 2]}),
        an_object(
            tags={"type": "array", "items": an_object(name={"type": "string"}, size={"enum": ["s", "l"]})}
        ),
    ],
)
def test_a_schema_that_is_malformed_or_cannot_be_compared_is_refused_not_guessed(
    schema: dict[str, Any],
) -> None:
    with pytest.raises(SchemaError):
        allowed_labels(schema)


def test_a_hostile_schema_is_refused() -> None:
    circle = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(200):
        deep = an_object(tags=deep)
    branching: dict[str, Any] = {"$ref": "#/$defs/A"}
    branching["$defs"] = {"A": an_object(**{f"p{n}": {"$ref": "#/$defs/A"} for n in range(30)})}
    options: dict[str, Any] = {"type": "string"}
    for _ in range(200):
        options = {"anyOf": [options, options]}
    for schema in (circle, deep, branching, options, {"$ref": "#/nowhere"}):
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
    for odd in ('{"properties": {"a": {"const": NaN}}}', r'{"\ud800": ""}'):
        assert schema_in_prompt(odd) is None
