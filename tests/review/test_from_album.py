"""The review of an album afterwards: what its last run wrote."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from review_client import Asking

from autotag.albums import WriterChoice, apply_plan, tag_folder, undo_album
from autotag.errors import ConfigError
from autotag.metadata import read_existing, read_packet
from autotag.pipeline.presets import from_config
from autotag.review.from_album import open_review


@pytest.fixture(autouse=True)
def _colours(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).resolve().parent.parent / "cli")
    yield
    sys.modules.pop("colour_stages", None)


def tagged(folder, *writers, **options):
    with from_config({"stages": [{"stage": "colour_stages:NameColours", **options}]}) as pipeline:
        return tag_folder(folder, pipeline=pipeline, writers=writers or ("xmp",))


def keywords(path):
    return set(read_packet(path.read_bytes()).keywords.flat)


def test_what_was_written_is_reviewed_and_only_changes_are_written(album, opened):
    tagged(album)
    asking = Asking(opened(album))
    assert asking.tags("2023/park.jpg") == {"green": "undecided", "picture": "undecided"}
    asking.decide("reject", tag="picture", photos=[asking.id("2023/park.jpg")])
    asking.decide("rename", tag="yellow", to="sand")
    found = asking.apply()
    assert (found["photographs"], found["written"]) == (2, 2)
    assert keywords(album / "2023/park.jpg.xmp") == {"green"}
    assert keywords(album / "2023/beach.jpg.xmp") == {"sand", "picture"}
    assert tagged(album).unchanged == 6  # the next run keeps what a person decided
    undo_album(album, last=True)
    assert keywords(album / "2023/park.jpg.xmp") == {"green", "picture"}


def test_a_second_review_begins_with_what_the_first_one_left(album, opened):
    tagged(album)
    asking = Asking(opened(album))
    asking.decide("confirm", tag="green")
    asking.decide("reject", tag="picture")
    asking.apply()
    asking.desk.review.close()
    again = Asking(opened(album))
    assert again.tags("2023/park.jpg") == {"green": "confirmed"}
    again.revision = 2
    assert again.apply()["photographs"] == 0


def test_what_was_rejected_or_added_stays_so_after_a_run_with_other_settings(album, opened):
    tagged(album)
    asking = Asking(opened(album))
    asking.decide("reject", photos=[asking.id("2023/park.jpg")])
    asking.decide("add", tag="Anna", photos=[asking.id("2023/beach.jpg")])
    asking.apply()
    asking.desk.review.close()
    tagged(album, top_k=5)
    assert keywords(album / "2023/park.jpg.xmp") == set()
    assert keywords(album / "2023/beach.jpg.xmp") == {"yellow", "picture", "Anna"}
    assert read_packet((album / "2023/beach.jpg.xmp").read_bytes()).by_people.flat == ("Anna",)
    assert Asking(opened(album)).tags("2023/park.jpg") == {}


def test_a_tag_that_a_person_adds_is_theirs_also_where_the_machine_had_it(album, opened):
    tagged(album)
    asking = Asking(opened(album))
    asking.decide("add", tag="green")
    asking.apply()
    sidecar = album / "2023/park.jpg.xmp"
    assert read_packet(sidecar.read_bytes()).by_people.flat == ("green",)
    tagged(album, top_k=0)
    assert keywords(sidecar) == {"green"}


def test_an_added_tag_that_was_deleted_elsewhere_does_not_come_back_by_the_next_review(album, opened):
    tagged(album)
    asking = Asking(opened(album))
    asking.decide("add", tag="Anna", photos=[asking.id("2023/park.jpg")])
    asking.apply()
    asking.post("undo", status=404)  # autotag undo takes it back
    asking.desk.review.close()
    sidecar = album / "2023/park.jpg.xmp"
    packet = sidecar.read_text()
    sidecar.write_text(packet.replace("<rdf:li>Anna</rdf:li>", ""))
    again = Asking(opened(album))
    again.revision = 1
    assert "Anna" not in again.tags("2023/park.jpg")
    again.decide("reject", tag="picture", photos=[again.id("2023/park.jpg")])
    again.apply()
    assert keywords(sidecar) == {"green"}


def test_what_a_plan_without_xmp_added_is_the_person_s_in_the_review_of_the_album(album, opened, tmp_path):
    plan = tmp_path / "plan.jsonl"
    with from_config({"stages": [{"stage": "colour_stages:NameColours"}]}) as pipeline:
        tag_folder(album, pipeline=pipeline, writers=["txt"], plan_file=plan)
    header, *lines = map(json.loads, plan.read_text().splitlines())
    lines = [line | {"tags": [*line["tags"], "Anna"]} for line in lines]
    plan.write_text("".join(json.dumps(line) + "\n" for line in (header, *lines)))
    apply_plan(plan)
    asking = Asking(opened(album))
    asking.decide("reject", tag="picture", photos=[asking.id("2023/park.jpg")])
    asking.apply()
    assert read_packet((album / "2023/park.jpg.xmp").read_bytes()).by_people.flat == ("Anna",)


def test_tags_in_photographs_are_found_and_written_there(album, opened):
    tagged(album, WriterChoice("xmp", options={"embed": True, "description": "none"}))
    asking = Asking(opened(album))
    asking.decide("reject", tag="picture", photos=[asking.id("2023/park.jpg")])
    asking.apply()
    existing = read_existing((album / "2023/park.jpg").read_bytes())
    assert [tag.text for tag in existing.machine_tags] == ["green"]
    assert not list(album.rglob("*.xmp"))
    assert b"a green picture" not in (album / "2023/park.jpg").read_bytes()


def test_what_an_edit_elsewhere_left_is_what_is_reviewed(album, opened):
    """The ledger says what was found, the sidecar what is there: after rules, or an edit elsewhere."""
    tagged(album)
    sidecar = album / "2023/park.jpg.xmp"
    sidecar.write_bytes(sidecar.read_bytes().replace(b"green", b"grass"))
    assert set(Asking(opened(album)).tags("2023/park.jpg")) == {"grass", "picture"}


def test_photographs_of_an_unfinished_run_are_left_out_and_said(album):
    tagged(album)
    (album / "new.jpg").write_bytes((album / "plain.jpg").read_bytes())
    with from_config({"stages": [{"stage": "colour_stages:NameColours"}]}) as pipeline:
        tag_folder(album, pipeline=pipeline, plan_file=album.with_name("plan.jsonl"))
    opened = open_review(album)
    try:
        assert len(opened.review.table) == 6
        assert "1 photograph was tagged or written otherwise" in opened.notes[0]
    finally:
        opened.review.close()


def test_an_album_that_was_never_tagged_is_refused(album, tmp_path):
    with pytest.raises(ConfigError, match="tag it first"):
        open_review(album)
    with pytest.raises(ConfigError, match="neither a plan nor"):
        open_review(tmp_path / "nothing")


def test_a_plan_with_a_mistake_is_refused_by_line(plan):
    lines = plan.read_text().splitlines()
    row = json.loads(lines[2]) | {"tags": [3]}
    plan.write_text("\n".join([*lines[:2], json.dumps(row), *lines[3:]]))
    with pytest.raises(ConfigError, match="line 3, field 'tags'"):
        open_review(plan)
