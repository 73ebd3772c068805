from __future__ import annotations

import json

import pytest

from autotag.albums.album_writers import make_writers
from autotag.albums.plan_reader import read_plan
from autotag.albums.plan_writer import PlanWriter
from autotag.albums.sources import find_album
from autotag.albums.state.ledger import Entry
from autotag.errors import ConfigError
from autotag.records import Result, Tag
from autotag.review.table import ReviewTable
from autotag.testing import make_image


@pytest.fixture
def plan(tmp_path):
    """A plan with the keywords beach, which only just reached its threshold, and sea."""
    album = tmp_path / "photos"
    album.mkdir()
    make_image("red").save(album / "a.png")
    found = find_album([album])
    tags = (Tag("beach", 0.5, "test"), Tag("sea", 0.9, "test"))
    result = Result("a.png", (64, 64), tags=tags, extras={"near_cut": ["beach"]})
    with PlanWriter(tmp_path / "plan.jsonl", found, make_writers(["xmp"], found)) as plan:
        plan.begin("settings", "wanted", {})
        plan.write(found.photo("a.png"), Entry(9, 9, "", "settings", ""), result, {"xmp": []}, [])
    return tmp_path / "plan.jsonl"


def test_suggestions_near_the_cut_are_marked_for_the_review(plan):
    row = json.loads(plan.read_text().splitlines()[1])
    assert row["tags"] == [{"text": "beach", "score": 0.5, "near_cut": True}, {"text": "sea", "score": 0.9}]
    tags = ReviewTable(read_plan(plan).photos).tags(0)
    assert [(tag.text, tag.is_near_cut) for tag in tags] == [("beach", True), ("sea", False)]


def test_a_mark_of_another_kind_is_refused(plan):
    plan.write_text(plan.read_text().replace("true", '"yes"'))
    with pytest.raises(ConfigError, match="line 2, field 'tags': entry 1: 'near_cut' is neither true nor"):
        read_plan(plan)
