import math
import sys

import pyarrow as pa
import pytest

from autotag.errors import ConfigError
from autotag.records import Caption, Detection, Result, Tag
from autotag.testing import make_samples
from autotag.writers.arrow_rows import from_table, schema, to_table

FULL = Result(
    "photos/été ☀.jpg",
    (4000, 3000),
    (Caption("a dog", "blip", -0.25), Caption("dogs", "git").scored(0.3, "choose_caption")),
    (Detection("dog", 0.9, (1.0, 2.5, 30.0, 40.0)),),
    (Tag("dog", 0.31, "keyphrases", {"keyphrases": 0.7, "filter_tags": 0.31}, ("animal", "dog")),),
    {"colours": (Tag("red", 0.2, "match_vocabulary"),), "empty": ()},
    "dog, red",
    {"area": 1.5, "nested": {"list": [1, None, "x"]}},
)
BAD = Result("gone.jpg", (0, 0), error="cannot read image 'gone.jpg': there is no such file")


def test_results_come_back_equal() -> None:
    results = [FULL, BAD, *map(Result.from_sample, make_samples())]
    assert from_table(to_table(results)) == results


def test_the_columns_have_the_same_types_whatever_is_in_them() -> None:
    assert to_table([]).schema == to_table([BAD]).schema == to_table([FULL]).schema == schema()
    scores = schema().field("tags").type.value_type.field("scores").type
    assert scores == pa.list_(pa.struct([("by", pa.string()), ("score", pa.float64())]))


def test_no_type_is_a_map_because_datasets_has_none() -> None:
    assert "map<" not in str(schema())


def test_what_is_missing_is_empty_and_only_the_error_is_null() -> None:
    [row] = to_table([BAD]).to_pylist()
    assert (row["caption"], row["captions"], row["tags"], row["prompt"]) == ("", [], [], "")
    assert (row["width"], row["height"], row["extras"]) == (0, 0, "{}")
    assert to_table([FULL]).to_pylist()[0]["error"] is None


def test_a_file_name_that_is_no_utf_8_comes_back_and_is_readable_meanwhile() -> None:
    result = Result("caf\udce9.jpg", (1, 1), error="cannot read 'caf\\udce9.jpg'")
    table = to_table([result])
    assert table.to_pylist()[0]["source"] == r"caf\udce9.jpg"
    assert table.to_pylist()[0]["source_bytes"] == b"caf\xe9.jpg"
    assert from_table(table) == [result]


def test_extras_are_json_of_plain_data() -> None:
    result = Result("a.jpg", (1, 1), extras={"number": math.nan, "name": "caf\udce9"})
    assert from_table(to_table([result]))[0].extras == {"number": None, "name": "caf\udce9"}
    with pytest.raises(ConfigError, match=r"extras of 'a\.jpg'"):
        to_table([Result("a.jpg", (1, 1), extras={"thing": object()})])


def test_without_pyarrow_the_error_names_the_command_that_installs_it(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'autotag-images\[parquet\]'"):
        to_table([])
