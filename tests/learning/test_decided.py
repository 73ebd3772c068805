from __future__ import annotations

import json
import os

import pytest

from autotag.albums.state.identity import claim_state
from autotag.albums.state.ledger import state_folder
from autotag.errors import ConfigError
from autotag.learning.decided import in_decisions, with_decisions
from autotag.learning.photographs import KeywordedPhoto, in_files
from autotag.learning.written import with_runs
from autotag.metadata.keywords import Keywords
from autotag.metadata.pixel_digest import pixel_digest
from autotag.review.decisions import Decision
from autotag.review.session import Review
from autotag.testing import make_image


@pytest.fixture
def album(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        make_image("red", size=(32, 32)).save(folder / name)
    return folder


def written(path, album):
    """A plan with the tags dog, sea and automobile for every photograph."""
    heading = {
        "autotag_plan": 1,
        "album": str(album),
        "writers": {"xmp": {}},
        "outputs": {},
        "settings": "",
        "wanted": "",
    }
    rows = [heading]
    for photo in sorted(album.glob("*.jpg")):
        content, facts = photo.read_bytes(), photo.stat()
        words = ("dog", "sea", "automobile")
        rows.append(
            {
                "file": photo.name,
                "bytes": facts.st_size,
                "mtime_ns": facts.st_mtime_ns,
                "digest": pixel_digest(content),
                "pixels": [32, 32],
                "caption": "",
                "prompt": "",
                "tags": [{"text": word, "score": 0.3} for word in words],
                "rename_to": None,
                "write": ["xmp"],
            }
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def decide(plan, decisions, *several):
    review = Review(plan, decisions)
    first = (review.table.ids[0],)
    for action, tag, to in several:
        review.decide(Decision(action, tag, to, first), review.revision)
    review.close()


ALL = (
    ("confirm", "sea", None),
    ("reject", "dog", None),
    ("rename", "automobile", "car"),
    ("confirm", "car", None),
    ("add", "Anna", None),
)


def test_decisions_about_a_plan_are_keywords_and_removals(album, tmp_path):
    plan = written(tmp_path / "plan.jsonl", album)
    decide(plan, tmp_path / "plan.jsonl.decisions", *ALL)
    [photo] = in_decisions(plan).photos
    assert photo.image == album / "a.jpg"
    assert set(photo.keywords.flat) == {"sea", "car", "Anna"}
    assert set(photo.removed) == {"dog", "automobile"}


def test_what_was_taken_back_teaches_nothing(album, tmp_path):
    plan = written(tmp_path / "plan.jsonl", album)
    decide(plan, tmp_path / "plan.jsonl.decisions", ("reject", "dog", None), ("reset", "dog", None))
    assert in_decisions(plan).photos == []


def test_a_photograph_that_was_changed_or_deleted_since_is_left_out(album, tmp_path):
    plan = written(tmp_path / "plan.jsonl", album)
    decide(plan, tmp_path / "plan.jsonl.decisions", *ALL)
    make_image("blue", size=(64, 64)).save(album / "a.jpg")
    assert in_decisions(plan).photos == []
    (album / "a.jpg").unlink()
    assert in_decisions(plan).photos == []


def test_a_plan_that_nobody_reviewed_is_refused(album, tmp_path):
    plan = written(tmp_path / "plan.jsonl", album)
    with pytest.raises(ConfigError, match="review it first"):
        in_decisions(plan)
    assert not (tmp_path / "plan.jsonl.decisions").exists()


def edited(plan, **changes):
    """The plan with the tags of some photographs as a person wants them, by the name of the file."""
    heading, *rows = map(json.loads, plan.read_text(encoding="utf-8").splitlines())
    for row in rows:
        row["was"] = [tag["text"] for tag in row["tags"]]
        row["tags"] = changes.get(row["file"].removesuffix(".jpg"), row["tags"])
    plan.write_text("".join(json.dumps(row) + "\n" for row in (heading, *rows)), encoding="utf-8")


def test_tags_that_a_person_edited_in_a_plan_are_keywords_and_removals(album, tmp_path):
    plan = written(tmp_path / "plan.jsonl", album)
    rome = {"text": "Rome", "path": "Italy|Rome"}
    edited(plan, a=["Sea", "my dog", rome], b=[])
    found = in_decisions(plan)
    one, two = found.photos
    assert (one.image, two.image) == (album / "a.jpg", album / "b.jpg")
    assert (one.keywords.single, one.keywords.paths) == (("my dog",), (("Italy", "Rome"),))
    assert one.removed == ("dog", "automobile")
    assert (two.keywords, two.removed) == (Keywords(), ("dog", "sea", "automobile"))
    assert found.left == {"dog": 1, "sea": 2, "automobile": 1}
    assert not (tmp_path / "plan.jsonl.decisions").exists()


def test_a_plan_that_was_edited_and_reviewed_teaches_both(album, tmp_path):
    plan = written(tmp_path / "plan.jsonl", album)
    edited(plan, b=["sea"])
    decide(plan, tmp_path / "plan.jsonl.decisions", *ALL)
    assert {photo.image.name: photo.removed for photo in in_decisions(plan).photos} == {
        "a.jpg": ("dog", "automobile"),
        "b.jpg": ("dog", "automobile"),
    }


def test_a_plan_that_nobody_edited_is_refused(album, tmp_path):
    plan = written(tmp_path / "plan.jsonl", album)
    edited(plan)
    with pytest.raises(ConfigError, match="no tag in it was edited; review it first"):
        in_decisions(plan)


def test_an_album_has_the_decisions_of_its_last_review(album, tmp_path):
    state = tmp_path / "state"
    assert in_decisions(album, state=state).photos == []
    folder = state_folder(album.resolve(), state)
    folder.mkdir(parents=True)
    claim_state(folder, album.resolve())
    decide(written(folder / "review.jsonl", album), folder / "decisions.jsonl", *ALL)
    [photo] = in_decisions(album, state=state).photos
    assert set(photo.removed) == {"dog", "automobile"}


def test_a_tag_that_was_rejected_in_a_review_was_not_left_in_by_the_plan(album, tmp_path):
    plan = written(tmp_path / "plan.jsonl", album)
    edited(plan)
    decide(plan, tmp_path / "plan.jsonl.decisions", ("reject", "dog", None), ("confirm", "sea", None))
    assert in_decisions(plan).left == {"dog": 2, "sea": 2, "automobile": 3}


def test_a_decision_does_not_bring_back_what_a_run_wrote_into_the_file(album, tmp_path):
    """The record of it was dropped by another program; the journal knew it for a run's."""
    plan = written(tmp_path / "plan.jsonl", album)
    decide(plan, tmp_path / "plan.jsonl.decisions", ("reject", "dog", None))
    (album / "a.jpg.xmp").write_text(
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject>'
        "<rdf:Bag><rdf:li>horse</rdf:li></rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>",
        encoding="utf-8",
    )
    known = with_runs(in_files([album / "a.jpg"]), {os.path.realpath(album / "a.jpg"): ("horse",)})
    [photo] = with_decisions(known, in_decisions(plan).photos)
    assert (photo.keywords.flat, photo.left, photo.removed) == ((), ("horse",), ("dog",))


def test_what_is_in_the_file_counts_more_than_a_decision(album):
    path = os.path.realpath("a.jpg")
    before = KeywordedPhoto(path, path, Keywords.of(["dog"]), ("sea",), taken="2020-01-01T00:00:00")
    decided = KeywordedPhoto(path, path, Keywords.of(["Sea", "sand"]), ("Dog", "cat"))
    alone = KeywordedPhoto(str(album / "b.jpg"), album / "b.jpg", Keywords.of(["tree"]))
    gone = KeywordedPhoto(str(album / "d.jpg"), album / "d.jpg", Keywords.of(["tree"]))
    [joined, other] = with_decisions([before], [decided, alone, gone])
    assert set(joined.keywords.flat) == {"dog", "sand"}
    assert joined.removed == ("sea", "cat")
    assert joined.taken == before.taken
    assert (other.name, other.keywords, other.folder) == (alone.name, alone.keywords, str(album))
