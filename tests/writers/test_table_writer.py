import io
import re

import pytest

from autotag.records import Caption, Detection, Result, Tag
from autotag.testing import check_writer
from autotag.writers.table_writer import TableWriter

TAGS = tuple(
    Tag.proposed(text, score, "x")
    for text, score in (("two people", 0.314), ("beach", 0.28), ("long walk at sunset", -0.05))
)
BEACH = Result(
    "photos/beach.jpg",
    (1200, 800),
    captions=(Caption("two people walk along a beach at sunset while the tide goes out", "fake"),),
    tags=TAGS,
    rankings={"places": TAGS[1:2]},
    detections=(Detection("person", 0.9, (0.0, 0.0, 1.0, 1.0)),),
    prompt="two people walk along a beach at sunset, long walk",
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def narrow(monkeypatch):
    """A terminal of 40 columns without colours."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def _written(*results: Result, stream: io.StringIO | None = None) -> str:
    stream = io.StringIO() if stream is None else stream
    writer = TableWriter(stream)
    for result in results:
        writer.write(result)
    writer.close()
    return re.sub(r"\x1b\[\d*m", "", stream.getvalue())


def test_it_keeps_the_contract_of_a_writer():
    check_writer(TableWriter)


def test_every_field_is_a_line_with_its_label():
    assert _written(BEACH).splitlines() == [
        "photos/beach.jpg  1200 x 800",
        "  caption  two people walk along a beach at sunset while the tide goes out",
        "  tags     two people 0.31, beach 0.28, long walk at sunset -0.05",
        "  places   beach 0.28",
        "  objects  person [0 0 1 1] 0.90",
        "  prompt   two people walk along a beach at sunset, long walk",
    ]


def test_a_terminal_gets_lines_that_fit_and_tags_that_are_not_torn_apart(narrow):
    text = _written(BEACH, stream=Terminal())
    assert max(map(len, text.splitlines())) <= 40
    assert "           long walk at sunset -0.05\n" in text
    assert " ".join(text.split()) == " ".join(_written(BEACH).split())


def test_a_pipe_is_not_wrapped_however_narrow_the_terminal_is(narrow):
    assert len(_written(BEACH).splitlines()) == 6


def test_blocks_are_set_apart_by_one_blank_line():
    assert _written(BEACH, BEACH) == f"{_written(BEACH)}\n{_written(BEACH)}"


def test_an_error_is_visible():
    text = _written(Result("a.jpg", (0, 0), error="cannot read image 'a.jpg': it is empty"))
    assert text.splitlines() == ["a.jpg", "  error    cannot read image 'a.jpg': it is empty"]


def test_an_image_in_which_nothing_was_found_says_so():
    assert _written(Result("a.jpg", (4, 3))).splitlines() == ["a.jpg  4 x 3", "           nothing found"]


def test_no_name_or_caption_can_break_a_line_or_speak_to_the_terminal():
    odd = Result("a\nb\udce9.jpg", (4, 3), captions=(Caption("\x1b[2J [bold]x[/bold] :cat:", "fake"),))
    lines = _written(odd).splitlines()
    assert lines == [r"a\nb\xe9.jpg  4 x 3", r"  caption  \x1b[2J [bold]x[/bold] :cat:"]
