"""Boxes as regions in photographs: what rules deny or a person rejects is not written."""

from __future__ import annotations

import json
import re
import sys

import pytest

from autotag.albums import WriterChoice, apply_plan, tag_folder
from autotag.albums.rules import AlbumRules
from autotag.pipeline.presets import from_config, with_language
from autotag.review.from_album import open_review

WRITERS = (WriterChoice("xmp", options={"regions": True}),)
STAGES = [{"stage": "colour_stages:NameColours"}, {"stage": "colour_stages:BoxColours"}]


@pytest.fixture
def boxed(photos):
    """Run the album with boxes, and with keywords in these languages."""

    def boxed(*languages, **more):
        config = {"stages": STAGES}
        with from_config(with_language(config, languages) if languages else config) as pipeline:
            return tag_folder(photos, pipeline=pipeline, writers=WRITERS, **more)

    yield boxed
    sys.modules.pop("colour_stages", None)


def regions(photos):
    return re.findall('mwg-rs:Name="(.*?)"', (photos / "b.jpg.xmp").read_text())


def without(plan, *texts):
    """Remove tags from each line of a plan."""
    header, *rows = map(json.loads, plan.read_text().splitlines())
    for row in rows:
        row["tags"] = [tag for tag in row["tags"] if tag["text"] not in texts]
    plan.write_text("".join(json.dumps(row) + "\n" for row in (header, *rows)))


def test_boxes_that_rules_deny_are_removed_by_the_next_run(photos, boxed):
    boxed()
    assert regions(photos) == ["blue", "picture"]
    boxed(rules=AlbumRules(deny=("picture",)))
    assert regions(photos) == ["blue"]


def test_a_plan_is_carried_out_with_the_rules_that_it_was_made_with(photos, boxed, tmp_path):
    plan = tmp_path / "plan.jsonl"
    rules = AlbumRules(deny=("picture",), replacements={"blue": "azure"})
    boxed(rules=rules, plan_file=plan)
    without(plan, "azure")
    apply_plan(plan)
    assert regions(photos) == []
    (photos / "b.jpg.xmp").unlink()
    boxed(rules=rules, redo=True)
    assert regions(photos) == ["azure"]


def test_a_review_of_an_album_keeps_the_rules_that_it_was_written_with(photos, boxed):
    boxed(rules=AlbumRules(deny=("picture",)))
    plan = open_review(photos).review.plan
    header, *rows = map(json.loads, plan.read_text().splitlines())
    for row in rows:
        row["tags"].append("Anna")
    plan.write_text("".join(json.dumps(row) + "\n" for row in (header, *rows)))
    assert apply_plan(plan).written == 7
    assert regions(photos) == ["blue"]


@pytest.mark.parametrize(("languages", "rejected"), [((), "blue"), (("de",), "Blau")])
def test_boxes_of_a_tag_that_a_person_rejected_are_not_written_now_or_later(
    photos, boxed, languages, rejected
):
    boxed(*languages)
    plan = open_review(photos).review.plan
    without(plan, rejected)
    apply_plan(plan)
    assert regions(photos) == ["picture"]
    boxed(*languages, redo=True)
    assert regions(photos) == ["picture"]


def test_a_box_stays_while_a_tag_in_another_language_names_it(photos, boxed, tmp_path):
    boxed("de", "en", plan_file=tmp_path / "plan.jsonl")
    without(tmp_path / "plan.jsonl", "Blau")
    apply_plan(tmp_path / "plan.jsonl")
    assert regions(photos) == ["blue", "picture"]
