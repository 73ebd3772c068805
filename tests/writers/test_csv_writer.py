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


def rows(*results: Result, **options: str | bool) -> list[dict[str, str]]:
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
            "objects": "",
            "moderation": "",
            "prompt": "a dog",
            "width": "4",
            "height": "3",
            "error": "",
        }
    ]


def test_the_layout_of_clip_interrogator_has_image_and_prompt():
    assert rows(FOUND, layout="image_prompt") == [{"image": FOUND.source, "prompt": "a dog"}]


def test_an_unknown_layout_is_refused():
    with pytest.raises(ConfigError, match="csv: layout = .*Did you mean 'image_prompt'"):
        rows(layout="image_promt")


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_text_that_a_spreadsheet_would_calculate_begins_a_cell(text):
    hostile = Result(
        text,
        (4, 3),
        captions=(Caption(text, "test"),),
        tags=(Tag.proposed(text, -0.5, "test"),),
        prompt=text,
        error=text,
    )
    [row] = rows(hostile)
    assert row["image"] == f"./{text}"
    assert [row[name] for name in ("caption", "tags", "prompt", "error")] == [f"'{text}"] * 4
    assert row["scores"] == "-0.5000", "a number stays a number"
    assert rows(hostile, layout="image_prompt") == [{"image": f"./{text}", "prompt": f"'{text}"}]


@pytest.mark.parametrize("text", FORMULAS)
def test_an_option_leaves_texts_as_they_are(text):
    hostile = Result(text, (4, 3), captions=(Caption(text, "test"),))
    [row] = rows(hostile, escape_formulas=False)
    assert (row["image"], row["caption"]) == (text, text)


@pytest.mark.parametrize("name", ["a\rb.jpg", "a\r\nb.jpg", "a\nb.jpg", "a\r", "\u202egpj.exe", 'a",\r"b'])
def test_names_with_line_breaks_and_controls_survive(name):
    assert [row["image"] for row in rows(Result(name, (4, 3)), FOUND)] == [name, FOUND.source]


def test_a_row_reaches_the_file_before_the_next_result_is_there(tmp_path):
    with (tmp_path / "out.csv").open("w", encoding="utf-8") as stream:
        writer = CsvWriter(stream, layout="image_tags")
        assert (tmp_path / "out.csv").read_text() == "image,tags\n"
        writer.write(Result("a.jpg", (4, 3)))
        assert (tmp_path / "out.csv").read_text() == "image,tags\na.jpg,\n"


def test_rows_end_with_a_line_feed():
    stream = io.StringIO(newline="")
    CsvWriter(stream, layout="image_prompt").write(Result("a\r\n", (4, 3), prompt="b\r\n"))
    assert stream.getvalue() == 'image,prompt\n"a\r\n","b\r\n"\n'


def test_a_terminal_is_not_turned_or_coloured():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal(newline="")
    CsvWriter(terminal).write(Result("photo\u202egpj.exe\x1b[31m", (4, 3)))
    assert "photo\\u202egpj.exe\\x1b[31m" in terminal.getvalue()
