"""A client of the review's endpoints for tests, and plans to review."""

from __future__ import annotations

import json
from pathlib import Path

from starlette.testclient import TestClient

from autotag.albums.album_writers import make_writers
from autotag.albums.plan_writer import PlanWriter
from autotag.albums.sources import find_album
from autotag.albums.state.ledger import Entry
from autotag.metadata.pixel_digest import pixel_digest
from autotag.records import Caption, Result, Tag
from autotag.review.app import create_app
from autotag.review.endpoints import Desk

ADDRESS = "http://127.0.0.1:8119"
PHOTOS: dict[str, tuple[str, dict[str, float]]] = {
    "2023/beach.jpg": ("yellow", {"beach": 0.31, "dog": 0.22, "sea": 0.12}),
    "2023/park.jpg": ("green", {"dog": 0.28, "tree": 0.2}),
    "2023/trip/harbour.png": ("blue", {"sea": 0.3, "boat": 0.25, "automobile": 0.11}),
    "2024/street.jpg": ("black", {"automobile": 0.33, "car": 0.3}),
    "2024/garden.jpg": ("green", {"tree": 0.15, "<b>bold</b>": 0.1}),
    "plain.jpg": ("white", {}),
}


def write_plan(path: Path, album: Path, photos: dict[str, tuple[str, dict[str, float]]]) -> Path:
    """Write a plan as `autotag album --plan` does."""
    found = find_album([album])
    with PlanWriter(path, found, make_writers(["xmp"], found)) as plan:
        plan.begin("settings", "wanted", {})
        for name, (colour, tags) in photos.items():
            photo = found.photo(name)
            facts = (album / name).stat()
            entry = Entry(
                facts.st_size, facts.st_mtime_ns, pixel_digest((album / name).read_bytes()), "settings", ""
            )
            caption = (Caption(f"a {colour} picture", "test"),)
            result = Result(
                name, (60, 40), caption, tags=tuple(Tag(text, score, "test") for text, score in tags.items())
            )
            plan.write(photo, entry, result, {"xmp": [object()]}, [])  # type: ignore[list-item]
    return path


class Asking:
    """A client that knows the review's endpoints, and the revision that it saw last."""

    def __init__(self, desk: Desk, **options: object) -> None:
        self.desk = desk
        self.http = TestClient(create_app(desk, **options), base_url=ADDRESS)  # type: ignore[arg-type]
        self.revision = 0

    def get(self, path: str, **query: object) -> dict:
        answer = self.http.get(f"/review/api/{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def photos(self, **where: object) -> dict[str, dict]:
        return {photo["file"]: photo for photo in self.get("photos", **where)["photos"]}

    def tags(self, file: str) -> dict[str, str]:
        return {tag["text"]: tag["state"] for tag in self.photos()[file]["tags"]}

    def id(self, file: str) -> str:
        return self.photos()[file]["id"]

    def post(self, path: str, *, status: int = 200, **body: object) -> dict:
        answer = self.http.post(f"/review/api/{path}", json={"revision": self.revision, **body})
        assert answer.status_code == status, answer.text
        if status == 200:
            self.revision = answer.json()["revision"]
        return answer.json()

    def decide(self, action: str, *, status: int = 200, **decision: object) -> dict:
        return self.post("decisions", action=action, status=status, **decision)

    def apply(self, undecided: str = "write") -> dict:
        self.post("apply", undecided=undecided, status=202)
        self.desk.applying.wait()
        return self.get("apply")


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
