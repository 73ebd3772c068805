from __future__ import annotations

import io
import json
import logging

from autotag.server.json_log import JsonLines


def test_every_line_is_one_json_object_and_those_of_requests_are_as_they_were() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    requests, library = logging.Logger("autotag.server"), logging.Logger("python_multipart")
    for logger in (requests, library):
        logger.addHandler(handler)
    requests.info("%s", '{"status": 200}')
    library.warning("Skipping data\nafter %s\n", "the end")
    try:
        int("no")
    except ValueError:
        library.exception("failed")
    first, second, third = map(json.loads, stream.getvalue().splitlines())
    assert first == {"status": 200}
    assert second == {
        "level": "warning", "logger": "python_multipart", "message": "Skipping data\nafter the end",
    }  # fmt: skip
    assert third["traceback"].endswith("with base 10: 'no'")
