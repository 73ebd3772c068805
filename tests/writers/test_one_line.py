import os

import pytest

from autotag.writers.one_line import one_line


@pytest.mark.parametrize("text", ["plain", "été ☀ 漢字", "family 👩‍👧", "no\u00a0break", ""])
def test_text_that_fits_a_line_is_left_as_it_is(text):
    assert one_line(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines\r", r"two\nlines\r"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\u2028b", r"a\u2028b"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
        ("\ud800", r"\ud800"),
        ("photo\u202egpj.exe", r"photo\u202egpj.exe"),
        ("\u2066a\u2069\u200f\u061c", r"\u2066a\u2069\u200f\u061c"),
    ],
)
def test_controls_breaks_and_broken_text_are_escaped(text, shown):
    assert one_line(text) == shown
    assert one_line(text).encode("utf-8").decode("utf-8") == shown
