from __future__ import annotations

import pytest

from autotag.server.core.strict_json import read_json


@pytest.mark.parametrize(
    "text",
    ["NaN", '{"a": [-Infinity]}', "1e999", r'{"\ud800": 1}', r'["\udc00\ud83d"]', "{} {}", "", "[" * 10**5],
)
def test_what_cannot_be_written_again_is_refused(text: str) -> None:
    with pytest.raises((ValueError, RecursionError)):
        read_json(text)


def test_characters_of_two_halves_are_whole() -> None:
    assert read_json(r' {"\ud83d\ude00": 1.5, "a": [null, 2]} ') == {"😀": 1.5, "a": [None, 2]}
