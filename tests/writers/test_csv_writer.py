"""Tables of comma-separated values."""

from __future__ import annotations

import csv
import io

import pytest

from autotag.errors import ConfigError
from autotag.records import Caption, Result, Tag
from autotag.testing import check_writer
from autotag.writers.csv_writer import CsvWriter

FOUND = Result(
    'a "b", c.jpg',
    (4, 3),
    captions=(Caption("a dog\nhere", "test"),),
    tags=(Tag.proposed("dog", 0.51234, "test"), Tag.proposed("New York, NY", 0.4, "test")),
    prompt="a dog",
)


def rows(*results: Result, **options: str) -> list[dict[str, str]]:
    stream = io.StringIO(newline="")
    writer = CsvWriter(stream, **options)  # type: ignore[arg-type]
    for result in results:
        writer.write(result)
    writer.close()
    stream.seek(0)
    return list(csv.DictReader(stream))


def test_the_contract_of_writers_is_kept():
    check_writer(CsvWriter)


def test_every_field_reads_back():
    assert rows(FOUND) == [
        {
            "image": 'a "b", c.jpg',
            "caption": "a dog\nhere",
            "tags": "dog; New York, NY",
            "scores": "0.5123; 0.4000",
            "prompt": "a dog",
            "width": "4",
            "height": "3",
            "error": "",
        }
    ]


def test_the_layout_of_clip_interrogator_has_image_and_prompt():
    assert rows(FOUND, layout="image_prompt") == [{"image": FOUND.source, "prompt": "a dog"}]


def test_an_unknown_layout_is_refused():
    with pytest.raises(ConfigError, match="Did you mean 'image_prompt'"):
        rows(layout="image_promt")
