"""The page of what a search found."""

from __future__ import annotations

import re

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
