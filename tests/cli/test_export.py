"""Plans to Label Studio and back, to `autotag apply`."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import pytest

from autotag.albums.label_studio import INTERFACE, plan_from_annotations
from autotag.albums.plan_reader import read_plan


@pytest.fixture
def plan(run, preset, photos, tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("AUTOTAG_STATE", str(tmp_path / "state"))
    done = run("album", photos, "--preset", preset, "--write", "xmp", "--plan", tmp_path / "plan.jsonl")
    assert done.exit_code == 0, done.stderr
    return tmp_path / "plan.jsonl"


def annotated(task: dict, result: list, **more) -> dict:
    """A task as Label Studio exports it."""
    return {"id": 1, "data": task["data"], "annotations": [{"id": 5, "result": result, **more}], "meta": {}}


def chosen(name: str, kind: str, **value) -> dict:
    return {
        "id": "x",
        "from_name": name,
        "to_name": "image",
        "type": kind,
        "origin": "manual",
        "value": value,
    }


def test_tasks_have_the_photographs_address_and_the_tags_as_a_prediction(run, plan, tmp_path) -> None:
    done = run(
        "export", plan, "--label-studio", tmp_path / "tasks.json", "--interface", tmp_path / "view.xml"
    )
    assert (done.exit_code, "3 tasks" in done.stderr) == (0, True)
    tasks = {task["data"]["file"]: task for task in json.loads((tmp_path / "tasks.json").read_text())}
    task = tasks["a red.png"]
    assert task["data"]["image"] == "/data/local-files/?d=a%20red.png"
    assert unquote(task["data"]["image"]).endswith("a red.png")
    [prediction] = task["predictions"]
    tags, caption = prediction["result"]
    planned = next(photo.result for photo in read_plan(plan).photos if photo.file == "a red.png")
    assert tags["value"]["choices"] == list(planned.tag_texts)
    assert [choice["value"] for choice in task["data"]["choices"]] == list(planned.tag_texts)
    assert caption["value"]["text"] == ["a red picture"]
    assert 0 <= prediction["score"] <= 1

    fields = {element.get("name"): element.tag for element in ET.fromstring(INTERFACE)}  # noqa: S314
    for answer in prediction["result"]:
        assert fields[answer["from_name"]].lower() == answer["type"]
        assert fields[answer["to_name"]] == "Image"
    assert (tmp_path / "view.xml").read_text() == INTERFACE


def test_answers_become_a_plan_that_apply_writes(run, plan, photos, tmp_path) -> None:
    run("export", plan, "--label-studio", tmp_path / "tasks.json")
    tasks = {task["data"]["file"]: task for task in json.loads((tmp_path / "tasks.json").read_text())}
    kept = tasks["a red.png"]["data"]["choices"][0]["value"]
    old = annotated(
        tasks["a red.png"], [chosen("tags", "choices", choices=["wrong"])], updated_at="2026-01-01"
    )
    new = {"result": [
        chosen("tags", "choices", choices=[kept]), chosen("more", "textarea", text=["my holiday", " "]),
        chosen("caption", "textarea", text=["red all over"]),
    ], "updated_at": "2026-02-01"}  # fmt: skip
    old["annotations"].insert(0, new)
    skipped = annotated(tasks["blue.png"], [], was_cancelled=True)
    (tmp_path / "answers.json").write_text(json.dumps([old, skipped]))
    done = run(
        "import", plan, "--label-studio", tmp_path / "answers.json", "--output", tmp_path / "corrected.jsonl"
    )
    assert (done.exit_code, "1 photographs" in done.stderr) == (0, True)
    [photo] = read_plan(tmp_path / "corrected.jsonl").photos
    assert photo.result.tag_texts == (kept, "my holiday")
    assert photo.result.caption == "red all over"
    before = next(one.result for one in read_plan(plan).photos if one.file == "a red.png")
    assert photo.result.tags[0].score == next(tag.score for tag in before.tags if tag.text == kept)
    assert run("apply", tmp_path / "corrected.jsonl").exit_code == 0
    assert "my holiday" in next(photos.glob("a red*.xmp")).read_text()
    assert list(photos.glob("blue*.xmp")) == []


def test_what_is_wrong_is_named(run, plan, tmp_path) -> None:
    tasks, answers = tmp_path / "tasks.json", tmp_path / "answers.json"
    tasks.touch()
    assert "exists already" in run("export", plan, "--label-studio", tasks).stderr
    new = ("--output", tmp_path / "new.jsonl")
    answers.write_text('{"no": "list"}')
    assert "not an export of Label Studio" in run("import", plan, "--label-studio", answers, *new).stderr
    answers.write_text(json.dumps([annotated({"data": {"file": "gone.jpg"}}, [])]))
    refused = run("import", plan, "--label-studio", answers, *new)
    assert (refused.exit_code, "'gone.jpg', which the plan lacks" in refused.stderr) == (2, True)
    assert not (tmp_path / "new.jsonl").exists()


def corrected(plan: Path, tmp_path: Path, answers: list, **fields) -> dict:
    """The line of "a red.png" after the answers; ``fields`` are changed in the plan before."""
    header, *lines = plan.read_text().splitlines()
    row = next(row for row in map(json.loads, lines) if row["file"] == "a red.png")
    plan.write_text(header + "\n" + json.dumps({**row, **fields}) + "\n")
    (tmp_path / "answers.json").write_text(json.dumps([annotated({"data": {"file": "a red.png"}}, answers)]))
    plan_from_annotations(plan, tmp_path / "answers.json", tmp_path / "new.jsonl")
    read_plan(tmp_path / "new.jsonl")
    return json.loads((tmp_path / "new.jsonl").read_text().splitlines()[1])


def test_a_correction_is_written_by_writers_that_had_nothing_to_do(plan, tmp_path) -> None:
    row = corrected(plan, tmp_path, [chosen("more", "textarea", text=["x"])], write=[], prompt="old")
    assert (row["write"], row["prompt"]) == (["xmp"], "")


def test_writers_that_the_rules_left_out_stay_left_out(plan, tmp_path) -> None:
    answers = [chosen("more", "textarea", text=["x"])]
    row = corrected(plan, tmp_path, answers, write=[], left_out=["xmp"])
    assert row["write"] == []


def test_texts_are_taken_whole_by_line_and_once(plan, tmp_path) -> None:
    answers = [
        chosen("tags", "choices", choices=["dog"]),
        chosen("more", "textarea", text="Dog\nmy cat\n\n"),
        chosen("caption", "textarea", text="a dog"),
    ]
    row = corrected(plan, tmp_path, answers)
    assert (row["tags"], row["caption"]) == (["dog", "my cat"], "a dog")
