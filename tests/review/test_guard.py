"""Who may ask: hosts, origins, tokens, and what a browser may do with the answers."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from review_client import ADDRESS, Asking

from autotag.cli.main import main

TOKEN = "a-token-of-more-than-16-characters"  # noqa: S105 - of a test
REJECT = {"revision": 0, "action": "reject", "tag": "dog"}


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8119", "127.0.0.1.evil.example", "192.168.1.4", ""]
)
def test_a_name_that_a_stranger_pointed_here_is_refused(asking, host):
    for path in ("/review/", "/review/api/summary"):
        assert asking.http.get(path, headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost:8119", "127.0.0.1:8119", "[::1]:8119", "LOCALHOST"])
def test_names_of_this_machine_are_answered(asking, host):
    assert asking.http.get("/review/api/summary", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_page_can_neither_decide_nor_look(asking, headers):
    answer = asking.http.post("/review/api/decisions", json=REJECT, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_page")
    assert asking.http.get("/review/api/photos", headers=headers).status_code == 403
    assert asking.get("summary")["revision"] == 0


def test_the_page_itself_may(asking):
    headers = {"Origin": ADDRESS, "Sec-Fetch-Site": "same-origin"}
    assert asking.http.post("/review/api/decisions", json=REJECT, headers=headers).status_code == 200


def test_a_form_of_another_page_cannot_decide(asking):
    """Browsers send forms and plain text elsewhere without asking first; JSON they do not."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = asking.http.post("/review/api/undo", content=b"{}", headers={"Content-Type": kind})
        assert answer.status_code == 415


def test_large_bodies_and_those_of_unknown_length_are_refused(asking):
    json = {"Content-Type": "application/json"}
    assert asking.http.post("/review/api/undo", content=b" " * (9 * 2**20), headers=json).status_code == 413
    assert asking.http.post("/review/api/undo", content=iter([b"{}"]), headers=json).status_code == 413


def test_scripts_come_from_files_only_and_nobody_frames_the_page(asking):
    page = asking.http.get("/review/")
    policy = page.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "<script>" not in page.text
    assert " style=" not in page.text
    assert page.headers["x-content-type-options"] == "nosniff"
    assert asking.http.get("/review/api/summary").headers["cross-origin-resource-policy"] == "same-origin"


def test_with_tokens_nothing_is_told_without_one(plan, opened):
    asking = Asking(opened(plan, tokens=(TOKEN,)))
    for path in ("summary", "photos", "tags", "apply", f"photos/{'0' * 16}/picture"):
        assert asking.http.get(f"/review/api/{path}").status_code == 401
    assert asking.http.get("/openapi.json").status_code == 401
    assert asking.http.post("/review/api/decisions", json=REJECT).status_code == 401
    assert asking.http.get("/review/").status_code == 200  # it asks for the token
    for wrong in ("Bearer no", f"Basic {TOKEN}", TOKEN, "Bearer \u00fc"):
        headers = {"Authorization": wrong.encode("utf-8")}
        assert asking.http.get("/review/api/summary", headers=headers).status_code == 401


def test_a_token_is_exchanged_for_a_cookie_that_scripts_cannot_read(plan, opened):
    asking = Asking(opened(plan, tokens=(TOKEN,)))
    assert asking.http.post("/review/api/session", json={}).status_code == 401
    answer = asking.http.post("/review/api/session", json={}, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in cookie
    assert len(asking.photos()) == 6
    assert asking.http.post("/review/api/session", json={}).status_code == 401  # a cookie makes no other


def test_a_bearer_token_alone_will_do_for_programs(plan, opened):
    asking = Asking(opened(plan, tokens=(TOKEN,)), host="0.0.0.0")  # noqa: S104 - nothing listens
    headers = {"Authorization": f"Bearer {TOKEN}", "Host": "photos.example"}
    assert asking.http.get("/review/api/summary", headers=headers).status_code == 200


def test_other_machines_need_a_token(plan):
    answer = CliRunner().invoke(main, ["review", str(plan), "--host", "0.0.0.0", "--no-open"])  # noqa: S104
    assert answer.exit_code == 2
    assert "--token-file" in answer.output
