from __future__ import annotations

from autotag.writers.text_table import text_table


def test_columns_are_aligned_and_lines_have_no_spaces_at_their_ends() -> None:
    rows = [("name", "figure", "remark"), ("a", "1.5", ""), ("longer", "12", "x [bold]y[/] :cat:")]
    assert text_table(rows, right={1}).splitlines() == [
        "name    figure  remark",
        "a          1.5",
        "longer      12  x [bold]y[/] :cat:",
    ]


def test_a_row_is_one_line_however_long_it_is() -> None:
    long = "word " * 500 + "\nsecond line"
    [line] = text_table([("a", long)]).splitlines()
    assert line.startswith("a  word word")
    assert line.count("word") == 500
    assert line.endswith("second line")


def test_a_terminal_gets_its_width_and_loses_nothing() -> None:
    lines = text_table([("name", "x" * 100)], width=40).splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 40
    assert "".join(lines).count("x") == 100


def test_wide_letters_count_as_two_columns() -> None:
    assert text_table([("東京", "a"), ("city", "b")]).splitlines() == ["東京  a", "city  b"]


def test_no_rows_are_no_lines() -> None:
    assert text_table([]) == ""
