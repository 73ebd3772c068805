"""The endpoints: lists, pictures, decisions, undo, apply, and what they refuse."""

from __future__ import annotations

import io
import json
import os

import pytest
from PIL import Image
from review_client import PHOTOS, Asking, rows, write_plan

from autotag.albums import undo_album
from autotag.errors import ConfigError
from autotag.metadata import MachineTag, apply_change, plan_tags, read_packet
from autotag.review.photographs import Thumbnails


def keywords(album, file):
    sidecar = album / f"{file}.xmp"
    return set(read_packet(sidecar.read_bytes()).keywords.flat) if sidecar.exists() else set()


def files(found):
    return [photo["file"] for photo in found["photos"]]


# Lists


def test_the_summary_says_what_is_under_review(asking, album):
    found = asking.get("summary")
    assert (found["plan"], found["album"], found["photographs"]) == ("plan.jsonl", str(album), 6)
    assert found["tags"] == {"undecided": 12, "confirmed": 0, "rejected": 0}
    assert {one["folder"]: one["photographs"] for one in found["folders"]} == {
        "": 1, "2023": 2, "2023/trip": 1, "2024": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, list(PHOTOS)),
        ({"tag": "dog"}, ["2023/beach.jpg", "2023/park.jpg"]),
        ({"folder": "2023"}, ["2023/beach.jpg", "2023/park.jpg", "2023/trip/harbour.png"]),
        ({"folder": "2023/trip"}, ["2023/trip/harbour.png"]),
        ({"folder": "202"}, []),
        ({"min_score": 0.3}, ["2023/beach.jpg", "2023/trip/harbour.png", "2024/street.jpg"]),
        ({"max_score": 0.11}, ["2024/garden.jpg"]),
        ({"text": "HARB"}, ["2023/trip/harbour.png"]),
        ({"text": "yellow"}, ["2023/beach.jpg"]),
        ({"text": "Boat"}, ["2023/trip/harbour.png"]),
        ({"tag": "dog", "min_score": 0.25}, ["2023/park.jpg"]),
        ({"tag": "sea", "order": "best"}, ["2023/trip/harbour.png", "2023/beach.jpg"]),
        ({"tag": "sea", "order": "worst"}, ["2023/beach.jpg", "2023/trip/harbour.png"]),
        ({"state": "confirmed"}, []),
    ],
)  # fmt: skip
def test_photographs_are_filtered_and_ordered(asking, where, expected):
    assert files(asking.get("photos", **where)) == expected


def test_a_cursor_leads_through_a_list_that_stays_as_it_was(asking):
    first = asking.get("photos", state="undecided", limit=2)
    assert (first["total"], len(first["photos"])) == (5, 2)
    asking.decide("reject", tag="dog")
    asking.decide("reject", tag="tree")
    second = asking.get("photos", cursor=first["next"], limit=2)
    third = asking.get("photos", cursor=second["next"], limit=2)
    assert files(first) + files(second) + files(third) == [
        "2023/beach.jpg", "2023/park.jpg", "2023/trip/harbour.png", "2024/street.jpg", "2024/garden.jpg",
    ]  # fmt: skip
    assert third["next"] is None
    assert asking.get("photos", state="undecided")["total"] == 4


def test_a_list_that_is_not_kept_any_more_is_gone(asking):
    old = asking.get("photos", limit=1)["next"]
    for _ in range(20):
        asking.get("photos")
    answer = asking.http.get("/review/api/photos", params={"cursor": old})
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "gone")


def test_cuts_count_tags_and_photographs(asking):
    found = asking.get("scores")
    at = {score: place for place, score in enumerate(found["scores"])}
    assert (found["tags"][0], found["photographs"][0]) == (12, 5)
    assert (found["tags"][at[0.3]], found["photographs"][at[0.3]]) == (4, 3)
    assert asking.get("scores", tag="dog")["tags"][0] == 2
    assert asking.get("scores", tag="nothing") == {"scores": [], "tags": [], "photographs": []}


def test_tags_are_counted_by_state(asking):
    asking.decide("confirm", tag="dog", photos=[asking.id("2023/park.jpg")])
    [dog] = asking.get("tags", part="DO")["tags"]
    assert dog == {"tag": "dog", "undecided": 1, "confirmed": 1, "rejected": 0}
    assert [one["tag"] for one in asking.get("tags", folder="2024")["tags"]] == [
        "tree",
        "automobile",
        "car",
        "<b>bold</b>",
    ]


def test_suggestions_come_from_the_album_peoples_keywords_and_the_vocabulary(plan, album, opened):
    from autotag.vocabularies.vocabulary import Vocabulary

    (album / "plain.jpg.xmp").write_text(
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag>'
        "<rdf:li>Dog of Anna</rdf:li></rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    desk = opened(plan, vocabulary=Vocabulary(("dogwood", "hot dog", "dog")))
    desk.suggestions.read_keywords(desk.review.album, desk.review.table.files).join()
    assert Asking(desk).get("suggestions", part="Dog") == ["dog", "Dog of Anna", "dogwood", "hot dog"]


# Pictures


def test_a_picture_is_small_upright_and_kept_by_the_browser(asking):
    photo = asking.photos()["2023/beach.jpg"]
    answer = asking.http.get(photo["small"])
    assert Image.open(io.BytesIO(answer.content)).size == (40, 60)
    assert answer.headers["content-type"] == "image/jpeg"
    assert "immutable" in answer.headers["cache-control"]
    again = asking.http.get(photo["small"], headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_large_photograph_becomes_a_bounded_picture(asking, album):
    Image.new("RGB", (3000, 2000), "red").save(album / "2023/park.jpg")
    photo = asking.photos()["2023/park.jpg"]
    for size, most in (("small", 320), ("large", 960)):
        assert max(Image.open(io.BytesIO(asking.http.get(photo[size]).content)).size) == most


def test_a_changed_a_missing_and_a_broken_photograph_are_said(asking, album):
    Image.new("RGB", (60, 40), "purple").save(album / "2023/park.jpg")
    (album / "2024/street.jpg").unlink()
    (album / "plain.jpg").write_bytes(b"not a picture")
    found = asking.photos()
    assert [found[name]["status"] for name in ("2023/park.jpg", "2024/street.jpg", "2023/beach.jpg")] == [
        "changed", "missing", "as planned",
    ]  # fmt: skip
    assert found["2024/street.jpg"]["small"] == ""
    assert asking.http.get(found["plain.jpg"]["small"]).status_code == 415
    gone = asking.http.get(f"/review/api/photos/{found['2024/street.jpg']['id']}/picture")
    assert gone.status_code == 404


def test_new_metadata_is_not_a_change_of_the_picture(asking, album):
    apply_change(plan_tags(album / "2023/park.jpg", [MachineTag("mine", 1.0)], embed=True))
    assert asking.photos()["2023/park.jpg"]["status"] == "as planned"


def test_a_folder_that_leads_out_of_the_album_is_not_read(asking, album, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (60, 40)).save(tmp_path / "elsewhere" / "harbour.png")
    (album / "2023/trip/harbour.png").unlink()
    (album / "2023/trip").rmdir()
    (album / "2023/trip").symlink_to(tmp_path / "elsewhere")
    assert asking.photos()["2023/trip/harbour.png"]["status"] == "missing"


def test_a_picture_that_a_power_failure_cut_short_is_made_again(tmp_path, asking):
    photo = asking.desk.review.photographs.located(0)
    whole = Thumbnails(tmp_path / "kept").make(photo, "small")
    [file] = (tmp_path / "kept").rglob("*.jpg")
    for cut in (whole[:100], b"", whole[:-2] + b"\0\0"):
        file.write_bytes(cut)
        assert Thumbnails(tmp_path / "kept").kept(photo, "small") is None
        assert Thumbnails(tmp_path / "kept").make(photo, "small") == whole
    assert file.read_bytes() == whole


def test_pictures_on_the_disk_stay_below_the_bound(tmp_path, asking):
    found = [asking.desk.review.photographs.located(place) for place in range(6)]
    size = len(Thumbnails(tmp_path / "one").make(found[0], "small"))
    thumbnails = Thumbnails(tmp_path / "few", most_bytes=3 * size)
    for photo in found:
        thumbnails.make(photo, "small")
    kept = list((tmp_path / "few").glob("*/*.jpg"))
    assert 0 < sum(path.stat().st_size for path in kept) <= 3 * size
    assert thumbnails.kept(found[5], "small")


# Decisions


def test_a_request_about_another_plan_is_refused_and_decides_nothing(asking, opened, album, tmp_path):
    old = asking.http.get("/review/api/summary").json()["review"]
    other = write_plan(tmp_path / "other.jsonl", album, {"2023/beach.jpg": ("yellow", {"dog": 0.5})})
    new = Asking(opened(other))
    decision = {"revision": 0, "action": "reject", "tag": "dog"}
    for act in (
        lambda: new.http.post("/review/api/decisions", json=decision, headers={"Autotag-Review": old}),
        lambda: new.http.post("/review/api/undo", json={"revision": 0}, headers={"Autotag-Review": old}),
        lambda: new.http.post("/review/api/apply", json={"revision": 0}, headers={"Autotag-Review": old}),
        lambda: new.http.get("/review/api/changes?since=0", headers={"Autotag-Review": old}),
    ):
        answer = act()
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "another_review")
    assert (new.desk.review.revision, new.desk.applying.progress.status) == (0, "never")
    own = new.http.get("/review/api/summary").json()["review"]
    answer = new.http.post("/review/api/decisions", json=decision, headers={"Autotag-Review": own})
    assert answer.json()["tags"] == 1


def test_a_review_that_begins_again_has_the_same_key(asking, opened, plan, album):
    first = asking.desk.review.key
    asking.desk.review.close()
    second = opened(plan).review
    second.close()
    assert second.key == first
    plan.unlink()
    write_plan(plan, album, {"plain.jpg": ("white", {"dog": 0.5})})
    assert opened(plan).review.key != first


def test_a_tag_is_decided_about_on_one_photograph_and_everywhere(asking):
    asking.decide("confirm", tag="dog", photos=[asking.id("2023/park.jpg")])
    assert asking.tags("2023/park.jpg") == {"dog": "confirmed", "tree": "undecided"}
    outcome = asking.decide("reject", tag="dog")
    assert (outcome["tags"], len(outcome["photos"])) == (2, 2)
    assert asking.tags("2023/beach.jpg")["dog"] == "rejected"
    asking.decide("reset", tag="dog")
    assert asking.tags("2023/beach.jpg")["dog"] == "undecided"


def test_a_selection_is_decided_about(asking):
    asking.decide("reject", where={"max_score": 0.2, "state": "undecided", "folder": "2024"})
    assert asking.tags("2024/garden.jpg") == {"tree": "rejected", "<b>bold</b>": "rejected"}
    assert asking.tags("2023/beach.jpg")["sea"] == "undecided"


def test_a_tag_is_renamed_everywhere_and_meets_its_namesake(asking):
    asking.decide("reject", tag="automobile", photos=[asking.id("2024/street.jpg")])
    asking.decide("rename", tag="automobile", to="car")
    assert asking.tags("2024/street.jpg") == {"car": "rejected"}
    assert asking.tags("2023/trip/harbour.png")["car"] == "undecided"
    tags = asking.photos()["2023/trip/harbour.png"]["tags"]
    assert [tag["was"] for tag in tags if tag["text"] == "car"] == ["automobile"]
    assert not any(one["tag"] == "automobile" for one in asking.get("tags")["tags"])
    asking.post("undo")
    assert asking.tags("2024/street.jpg") == {"automobile": "rejected", "car": "undecided"}


def test_a_tag_is_added_where_it_is_not_and_confirmed_where_it_is(asking):
    both = [asking.id("plain.jpg"), asking.id("2023/park.jpg")]
    outcome = asking.decide("add", tag="dog", photos=both)
    assert outcome["tags"] == 2
    assert asking.tags("plain.jpg") == {"dog": "confirmed"}
    assert asking.tags("2023/park.jpg")["dog"] == "confirmed"
    asking.post("undo")
    assert asking.tags("plain.jpg") == {}
    assert asking.tags("2023/park.jpg")["dog"] == "undecided"
    asking.decide("add", tag="dog", photos=both)
    assert asking.tags("plain.jpg") == {"dog": "confirmed"}


def test_undo_takes_back_one_decision_after_another(asking):
    asking.decide("reject", tag="sea")
    asking.decide("confirm", tag="sea", photos=[asking.id("2023/beach.jpg")])
    assert asking.post("undo")["undo"] == "rejected “sea” everywhere"
    assert asking.tags("2023/beach.jpg")["sea"] == "rejected"
    assert asking.post("undo")["undo"] is None
    assert asking.tags("2023/beach.jpg")["sea"] == "undecided"
    assert asking.post("undo", status=404)["error"]["code"] == "not_found"


def test_decisions_survive_a_restart_and_can_still_be_undone(plan, opened):
    asking = Asking(opened(plan))
    asking.decide("rename", tag="automobile", to="car")
    asking.decide("add", tag="holiday", photos=[asking.id("plain.jpg")])
    asking.decide("reject", tag="dog")
    asking.post("undo")
    before = asking.photos()
    asking.desk.review.close()
    again = Asking(opened(plan))
    assert again.photos() == before
    assert again.get("summary")["revision"] == 4
    again.revision = 4
    again.post("undo")
    assert again.tags("plain.jpg") == {}


def test_a_line_that_a_crash_cut_short_is_cut_off(plan, opened):
    asking = Asking(opened(plan))
    asking.decide("reject", tag="dog")
    asking.desk.review.close()
    file = plan.with_name("plan.jsonl.decisions")
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"decision": {"action": "rej')
    again = Asking(opened(plan))
    assert again.tags("2023/beach.jpg")["dog"] == "rejected"
    assert file.read_bytes() == whole


def test_a_decision_that_cannot_be_kept_is_not_made(asking, monkeypatch):
    from autotag.files.system_calls import SystemCalls

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SystemCalls, "fsync", full)
    asking.decide("reject", tag="dog", status=507)
    monkeypatch.undo()
    assert asking.get("summary")["revision"] == 0
    assert asking.tags("2023/beach.jpg")["dog"] == "undecided"
    asking.decide("confirm", tag="dog")
    assert [
        row for row in rows(asking.desk.review.plan.with_name("plan.jsonl.decisions")) if "decision" in row
    ] == [{"decision": {"action": "confirm", "tag": "dog"}}]


def test_two_windows_do_not_lose_each_others_decisions(asking):
    other = Asking(asking.desk)
    asking.decide("confirm", tag="dog", photos=[asking.id("2023/park.jpg")])
    refused = other.decide("reject", tag="dog", status=409)
    assert "another window" in refused["error"]["message"]
    assert asking.tags("2023/park.jpg")["dog"] == "confirmed"
    outcome = other.decide("reject", tag="boat")  # of another photograph: nothing is lost by that
    assert other.revision == 2
    assert len(outcome["photos"]) == 2  # what the first window did is told, too
    assert asking.post("undo", status=409)["error"]["code"] == "conflict"
    changes = asking.get("changes", since=asking.revision)
    assert (changes["revision"], changes["photos"]) == (2, [asking.id("2023/trip/harbour.png")])


def test_a_plan_is_reviewed_by_one_server_at_a_time(plan, opened):
    opened(plan)
    with pytest.raises(ConfigError, match="another review"):
        opened(plan)


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        ({"action": "reject"}, "everything"),
        ({"action": "rename", "tag": "dog"}, "new spelling"),
        ({"action": "rename", "tag": "dog", "to": " cat"}, "spaces"),
        ({"action": "add", "tag": "", "photos": []}, "empty"),
        ({"action": "add", "tag": "x" * 201, "photos": []}, "longer"),
        ({"action": "shout", "tag": "dog"}, "action"),
        ({"action": "reject", "tag": "dog", "where": {"path": "/etc"}}, "path"),
        ({"action": "reject", "tag": "dog", "revision": 7}, "revision"),
    ],
)
def test_a_wrong_decision_is_refused_and_nothing_changes(asking, decision, words):
    error = asking.post("decisions", status=422, **decision)["error"]
    assert words in error["message"]
    assert asking.get("summary")["revision"] == 0


def test_photographs_are_known_by_id_only(asking):
    assert asking.decide("reject", tag="dog", photos=["2023/beach.jpg"], status=404)
    for path in ("..%2f..%2fetc%2fpasswd", "2023%2fbeach.jpg", "0" * 15, "0" * 16):
        assert asking.http.get(f"/review/api/photos/{path}/picture").status_code in (404, 422), path


# Apply


def test_apply_writes_what_was_decided_and_undo_takes_it_back(asking, album):
    asking.decide("reject", tag="dog")
    asking.decide("rename", tag="automobile", to="car")
    asking.decide("add", tag="holiday", photos=[asking.id("plain.jpg")])
    found = asking.apply()
    assert (found["status"], found["photographs"], found["written"], found["failed"]) == ("done", 6, 6, 0)
    assert keywords(album, "2023/beach.jpg") == {"beach", "sea"}
    assert keywords(album, "2024/street.jpg") == {"car"}
    assert keywords(album, "plain.jpg") == {"holiday"}
    assert {photo["status"] for photo in asking.photos().values()} == {"as planned"}
    assert undo_album(album).errors == []
    assert not list(album.rglob("*.xmp"))


def test_apply_can_leave_undecided_tags_out(asking, album):
    asking.decide("confirm", tag="sea")
    asking.apply("leave out")
    assert keywords(album, "2023/beach.jpg") == {"sea"}
    assert keywords(album, "2023/park.jpg") == set()


def test_what_was_added_is_a_keyword_of_the_person_and_what_was_rejected_is_refused(asking, album):
    asking.decide("add", tag="holiday", photos=[asking.id("2023/beach.jpg")])
    asking.decide("rename", tag="dog", to="Bella", photos=[asking.id("2023/beach.jpg")])
    asking.decide("reject", tag="sea")
    asking.apply("leave out")
    packet = read_packet((album / "2023/beach.jpg.xmp").read_bytes())
    assert set(packet.by_people.flat) == {"holiday"}  # nobody confirmed Bella
    assert (packet.machine_tags, set(packet.refused)) == ((), {"dog", "sea"})  # nor rejected beach


def test_the_edited_plan_lies_beside_the_plan_which_stays(asking, plan):
    before = plan.read_bytes()
    asking.decide("reject", tag="dog")
    assert asking.apply()["plan"] == "plan.reviewed.jsonl"
    assert asking.apply()["plan"] == "plan.reviewed (2).jsonl"
    assert plan.read_bytes() == before
    header, *lines = rows(plan.with_name("plan.reviewed.jsonl"))
    assert header == rows(plan)[0]
    assert lines[0]["tags"] == [{"text": "beach", "score": 0.31}, {"text": "sea", "score": 0.12}]


def test_a_renamed_tag_keeps_its_place_in_the_hierarchy(album, plan, opened):
    header, first, *others = rows(plan)
    first["tags"] = [{"text": "dog", "score": 0.2, "path": "animal|dog"}, "mine"]
    plan.write_text("".join(json.dumps(row) + "\n" for row in (header, first, *others)))
    asking = Asking(opened(plan))
    asking.decide("rename", tag="dog", to="Bella")
    asking.apply()
    packet = read_packet((album / "2023/beach.jpg.xmp").read_bytes())
    assert ("animal", "Bella") in packet.keywords.paths
    assert "mine" in packet.keywords.flat


def test_apply_reports_what_changed_meanwhile_and_does_the_rest(asking, album):
    Image.new("RGB", (60, 40), "purple").save(album / "2023/park.jpg")
    found = asking.apply()
    assert (found["written"], found["failed"]) == (5, 1)
    [error] = found["errors"]
    assert error["file"] == "2023/park.jpg"
    assert "changed" in error["reason"]
    assert not (album / "2023/park.jpg.xmp").exists()


def test_apply_is_refused_when_something_was_decided_in_another_window(asking):
    Asking(asking.desk).decide("reject", tag="dog")
    assert asking.post("apply", undecided="write", status=409)["error"]["code"] == "conflict"


def test_apply_is_refused_when_the_plan_was_edited_meanwhile(asking, plan):
    plan.write_text(plan.read_text() + "\n")
    assert "start the review again" in asking.post("apply", status=409)["error"]["message"]


def test_apply_says_why_it_could_not_run(asking, album):
    album.rename(album.with_name("moved"))
    found = asking.apply()
    assert found["status"] == "failed"
    assert "does not exist" in found["message"]


def test_file_names_that_are_not_utf_8_are_shown(album, tmp_path, opened):
    name = os.fsdecode(b"caf\xe9.jpg")
    Image.new("RGB", (60, 40)).save(album / name)
    plan = write_plan(tmp_path / "odd.jsonl", album, {name: ("black", {"cup": 0.3})})
    asking = Asking(opened(plan))
    assert list(asking.photos()) == ["caf\ufffd.jpg"]
    asking.decide("rename", tag="cup", to="mug")
    assert asking.apply()["written"] == 1


def test_every_endpoint_is_in_the_description(asking):
    paths = asking.http.get("/openapi.json").json()["paths"]
    lists = ("summary", "photos", "photos/{photo}", "photos/{photo}/picture", "tags", "scores", "suggestions")
    acts = ("decisions", "undo", "changes", "apply", "apply/stop", "session")
    for path in (*lists, *acts):
        assert all(method["summary"] for method in paths[f"/review/api/{path}"].values())
