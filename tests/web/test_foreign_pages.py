from __future__ import annotations

import pytest

from autotag.web.foreign_pages import asks_by_name, is_of_another_page, names_of


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("localhost:8118", True),
        ("LOCALHOST", True),
        ("127.0.0.1:8118", True),
        ("[::1]:8118", True),
        ("127.0.0.5:8118", True),
        ("", False),
        ("evil.example:8118", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("192.168.1.4", False),
    ],
)
def test_a_server_answers_under_names_of_this_machine_and_its_own(host: str, is_ours: bool) -> None:
    assert asks_by_name({"host": host}, names_of("127.0.0.5")) is is_ours
    assert not asks_by_name({}, names_of("127.0.0.5"))


@pytest.mark.parametrize(
    ("headers", "is_foreign", "linked"),
    [
        ({}, False, False),
        ({"origin": "http://localhost:1", "sec-fetch-site": "same-origin"}, False, False),
        ({"origin": "https://localhost:1"}, False, False),
        ({"origin": "http://localhost:2"}, True, True),
        ({"origin": "null"}, True, True),
        ({"sec-fetch-site": "none"}, False, False),
        ({"sec-fetch-site": "same-site"}, True, False),
        ({"sec-fetch-site": "cross-site"}, True, False),
    ],
)
def test_a_request_of_another_page_is_recognised(
    headers: dict[str, str], is_foreign: bool, linked: bool
) -> None:
    given = {"host": "localhost:1", **headers}
    assert is_of_another_page(given, linked=False) is is_foreign
    assert is_of_another_page(given, linked=True) is linked


@pytest.mark.parametrize(
    ("host", "origin", "is_foreign"),
    [
        ("localhost:80", "http://localhost", False),
        ("localhost", "http://localhost:80", False),
        ("localhost:443", "https://LOCALHOST", False),
        ("[::1]:80", "http://[::1]", False),
        ("localhost:443", "http://localhost", True),
        ("localhost:80", "https://localhost", True),
        ("localhost:8080", "http://localhost", True),
        ("localhost:80", "http://evil.example", True),
        ("localhost", "ftp://localhost", True),
    ],
)
def test_a_default_port_may_be_said_or_left_out(host: str, origin: str, is_foreign: bool) -> None:
    assert is_of_another_page({"host": host, "origin": origin}, linked=True) is is_foreign
