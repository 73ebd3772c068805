import json
import math
import os

import pytest

from autotag.errors import ConfigError
from autotag.records import Result, Tag
from autotag.testing import make_samples
from autotag.writers.json_text import json_text


@pytest.mark.parametrize("sample", make_samples(), ids=lambda sample: sample.source)
def test_a_result_comes_back_the_same(sample):
    result = Result.from_sample(sample)
    assert Result.from_dict(json.loads(json_text(result))) == result


def test_text_stays_readable_and_on_one_line():
    text = json_text(Result("été\n☀.jpg", (1, 1), prompt="漢字"))
    assert "été" in text
    assert "漢字" in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("character", ["\u202e", "\u2066", "\u200f", "\x9b", "\x7f", "\u2028"])
def test_nothing_turns_or_colours_a_terminal_and_all_comes_back(character):
    text = json_text(Result(f"photo{character}gpj.exe", (1, 1)))
    assert character not in text
    assert json.loads(text)["source"] == f"photo{character}gpj.exe"


def test_a_name_that_is_no_utf8_can_be_encoded_and_comes_back_the_same():
    source = os.fsdecode(b"caf\xe9.jpg")
    encoded = json_text(Result(source, (1, 1))).encode("utf-8")
    assert os.fsencode(json.loads(encoded)["source"]) == b"caf\xe9.jpg"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_lacks_become_null(number):
    result = Result("a.jpg", (1, 1), tags=(Tag.proposed("dog", number, "x"),), extras={"y": [number, (1.5,)]})
    row = json.loads(json_text(result), parse_constant=pytest.fail)
    assert row["tags"][0]["score"] is None
    assert row["extras"] == {"y": [None, [1.5]]}


def test_extras_that_are_no_plain_data_name_the_image_and_the_field():
    with pytest.raises(ConfigError, match=r"'a\.jpg'.*'mask'"):
        json_text(Result("a.jpg", (1, 1), extras={"mask": object()}))
