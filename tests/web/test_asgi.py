from __future__ import annotations

from typing import Any

import pytest

from autotag.web.asgi import take_path


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/v1/tag", "/v1/tag"),
        ("//v1/tag", "//v1/tag"),
        ("http://me:secret@host:1/demo/x", "/demo/x"),
        ("HTTPS://host", "/"),
        ("http:///demo", "/demo"),
        ("*", "/"),
        ("me:secret@host:1", "/"),
    ],
)
def test_of_a_whole_url_the_path_is_left(target: str, path: str) -> None:
    scope: dict[str, Any] = {"path": target, "raw_path": target.encode()}
    take_path(scope)
    assert scope == {"path": path, "raw_path": path.encode()}
