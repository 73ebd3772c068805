"""The page of what a search found."""

from __future__ import annotations

import re
from dataclasses import replace

from autotag.search import Hit
from autotag.search.page import page


def hit(path: str, caption: str = "") -> Hit:
    return Hit(id=1, path=path, score=1.0, caption=caption, tags=(), size=(4, 4))


def test_each_picture_is_a_link_to_its_photograph():
    paths = ["/photos/a b#1.jpg", '/photos/\udcff"><b>.jpg', "https://example.com/a.jpg?b=1&c=2"]
    found = page([hit(path) for path in paths], [b"jpeg", b"jpeg", "on the web"])
    assert re.findall('href="([^"]*)"', found) == [
        "file:///photos/a%20b%231.jpg",
        "file:///photos/%FF%22%3E%3Cb%3E.jpg",
        "https://example.com/a.jpg?b=1&amp;c=2",
    ]
    assert "<b>" not in found


def test_what_a_browser_would_run_is_not_a_link():
    for path in (
        "javascript:alert(1)",
        "JAVASCRIPT:alert(1)",
        "data:text/html,<script>",
        "javascript://x/%0aalert(1)",
    ):
        found = page([hit(path, "<script>")], ["no such file"])
        assert not re.search('href="(?!file://)', found)
        assert "<script" not in found


def test_a_photograph_says_what_found_it_in_words_and_each_line_has_its_own_direction():
    by = {
        "meaning and text": {"cosine": 0.25, "words": ("cat",)},
        "meaning": {"cosine": 0.25},
        "text": {"words": ("cat",)},
    }
    for said, found in by.items():
        shown = page([replace(hit("/a.jpg", "قطة (2019)"), id=7, **found)], [b"jpeg"], why=True)
        assert f"<small><bdi>#7, score 1.0000, found by {said}</bdi></small>" in shown
        assert "<bdi>قطة (2019)</bdi>" in shown
    by_filter = page([hit("/a.jpg")], [b"jpeg"], why=True)
    assert by_filter.count("meets the filter") == 1
    assert "<small><bdi></bdi></small>" not in by_filter
