from __future__ import annotations

import sys

import pytest

import autotag
from autotag.errors import ConfigError
from autotag.records import Caption, Result, Tag

TAGS = (Tag("dog", 0.5, "x"), Tag("cat", 0.25, "y", count=2))
RESULTS = [
    Result(
        "a.jpg",
        (4, 3),
        (Caption("a dog", "blip"),),
        tags=(Tag("dog", 0.5, "x"), Tag("cat", 0.25, "y", count=2)),
    ),
    Result("b.jpg", (0, 0), error="cannot read it"),
]


def test_one_row_per_image() -> None:
    frame = autotag.to_pandas(iter(RESULTS))
    assert frame.columns.tolist() == ["source", "width", "height", "caption", "tags", "prompt", "error"]
    assert frame.tags.tolist() == [["dog", "cat"], []]
    assert frame.error.tolist()[1] == "cannot read it"
    assert frame.width.tolist() == [4, 0]
    assert frame.error.tolist()[0] is None


def test_one_row_per_tag() -> None:
    frame = autotag.to_pandas(RESULTS, per="tag")
    assert frame[["source", "tag", "score", "by"]].values.tolist() == [
        ["a.jpg", "dog", 0.5, "x"],
        ["a.jpg", "cat", 0.25, "y"],
    ]
    assert frame["count"].tolist() == [None, 2]


def test_no_results_are_an_empty_table_with_columns() -> None:
    assert autotag.to_pandas([], per="tag").columns.tolist()[:2] == ["source", "tag"]


def test_what_is_wrong_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'image'"):
        autotag.to_pandas(RESULTS, per="images")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match=r"autotag-images\[pandas\]"):
        autotag.to_pandas(RESULTS)
