"""Plans: written, edited by a person, checked, and carried out to the letter."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import pytest

from autotag.albums import WriterChoice, apply_plan, undo_album
from autotag.albums.plan_reader import read_plan
from autotag.errors import ConfigError
from autotag.metadata import Exiftool, MachineTag, apply_change, plan_tags, read_packet
from autotag.testing import make_image


@pytest.fixture
def plan(photos, tagged, tmp_path):
    """A plan for seven photographs: tags, text files and new names."""
    path = tmp_path / "plan.jsonl"
    tagged(photos, "xmp", WriterChoice("txt", options={"naming": "full"}), "rename", plan_file=path)
    return path


def lines(plan):
    return [json.loads(line) for line in plan.read_text().splitlines()]


def put(plan, rows):
    plan.write_text("".join(json.dumps(row) + "\n" for row in rows))


def keywords(sidecar):
    return read_packet(sidecar.read_bytes()).keywords


def test_making_a_plan_changes_nothing_else(photos, tagged, tree, tmp_path):
    before = tree(photos)
    summary = tagged(photos, plan_file=tmp_path / "plan.jsonl")
    assert tree(photos) == before
    assert summary.written == 7
    assert [row["file"] for row in lines(tmp_path / "plan.jsonl")[1:]][:2] == ["a red.png", "b.jpg"]


def test_a_plan_carried_out_as_it_is_does_what_the_run_would_have_done(photos, plan, tagged, tree, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(photos, copy)
    tagged(copy, "xmp", WriterChoice("txt", options={"naming": "full"}), "rename")
    summary = apply_plan(plan)
    assert (summary.written, summary.failed) == (7, 0)
    assert tree(photos).keys() == tree(copy).keys()


def test_what_a_person_edits_is_what_is_done(photos, plan):
    header, *rows = lines(plan)
    by_file = {row["file"]: row for row in rows}
    by_file["b.jpg"] |= {"tags": ["sea", {"text": "duck", "path": "animal|duck"}], "rename_to": "my duck.jpg"}
    by_file["c.webp"]["write"] = ["txt"]
    del by_file["d.jpg"]
    put(plan, [header, *by_file.values()])
    apply_plan(plan)
    found = keywords(photos / "my duck.jpg.xmp")
    assert set(found.flat) == {"sea", "duck"}
    assert ("animal", "duck") in found.paths
    assert (photos / "my duck.jpg.txt").read_text() == "sea, duck\n"
    assert (photos / "c.webp").exists()
    assert not (photos / "c.webp.xmp").exists()
    assert (photos / "d.jpg").exists()
    assert not (photos / "d.jpg.xmp").exists()


def test_after_a_plan_the_run_that_made_it_finds_nothing_to_do(photos, plan, tagged, tree):
    header, *rows = lines(plan)
    for row in rows:
        row["tags"] = ["mine"]
    put(plan, [header, *rows])
    apply_plan(plan)
    before = tree(photos)
    summary = tagged(photos, "xmp", WriterChoice("txt", options={"naming": "full"}), "rename")
    assert summary.unchanged == 7
    assert tree(photos) == before


def edited_tags(plan, file, tags):
    header, *rows = lines(plan)
    put(plan, [header, *(row | {"tags": tags} if row["file"] == file else row for row in rows)])


def test_tags_that_a_person_added_and_rejected_stay_so_whatever_runs_later(photos, tagged, tmp_path, tree):
    before = tree(photos)
    path = tmp_path / "plan.jsonl"
    tagged(photos, plan_file=path)
    assert {"blue", "picture"} == {tag["text"] for tag in lines(path)[2]["tags"]}
    bella = {"text": "Bella", "path": "pet|Bella"}
    edited_tags(path, "b.jpg", [lines(path)[2]["tags"][0], "Anna", "pet", bella])
    apply_plan(path)
    kept = lines(path)[2]["tags"][0]["text"]
    for more in ({"redo": True}, {"options": {"top_k": 2}}, {"options": {"top_k": 5}, "redo": True}):
        packet = read_packet((photos / "b.jpg.xmp").read_bytes())
        assert set(packet.by_people.flat) == {"Anna", "pet", "Bella"}
        assert packet.by_people.paths == (("pet", "Bella"),)
        assert [tag.text for tag in packet.machine_tags] == [kept]
        assert packet.refused == tuple({"blue", "picture"} - {kept})
        tagged(photos, **more)
    assert keywords(photos / "d.jpg.xmp").flat == ("red", "picture")
    assert read_packet((photos / "d.jpg.xmp").read_bytes()).by_people.flat == ()
    undo_album(photos)
    assert tree(photos) == before


@pytest.mark.parametrize("options", [{}, {"embed": True}, {"description": "prompt"}])
def test_a_caption_that_a_person_wrote_into_a_plan_is_not_replaced_later(
    photos, tagged, tmp_path, tree, options
):
    before, path = tree(photos), tmp_path / "plan.jsonl"
    writer = WriterChoice("xmp", options=options)
    tagged(photos, writer, plan_file=path)
    header, *rows = lines(path)
    for row in rows:
        if row["file"] == "b.jpg":
            row |= {"caption": "Anna at the sea", "prompt": "Anna at the sea"}
    put(path, [header, *rows])
    apply_plan(path)
    for more in ({"redo": True}, {"options": {"top_k": 2}}):
        tagged(photos, writer, **more)
        here, other = (photos / name for name in ("b.jpg", "d.jpg"))
        contents = [one if "embed" in options else one.with_name(f"{one.name}.xmp") for one in (here, other)]
        assert b"Anna at the sea" in contents[0].read_bytes()
        assert b"DescriptionAdded" not in contents[0].read_bytes()
        assert b"DescriptionAdded" in contents[1].read_bytes()
    undo_album(photos)
    assert tree(photos) == before


def deleted(sidecar, *words):
    """The sidecar as a program leaves it in which a person deleted these entries."""
    for word in words:
        text = sidecar.read_text()
        for entry in (f"<rdf:li>{word}</rdf:li>", f'<rdf:li xml:lang="x-default">{word}</rdf:li>'):
            head, found, records = text.partition("<autotag:")
            text = head.replace(entry, "") + found + records
        sidecar.write_text(text)


def planned_edit(photos, tagged, plan, options=None, **edit):
    """Make a plan of ``b.jpg``, edit and apply it; return the sidecar."""
    tagged(photos, plan_file=plan, include=["b.jpg"], options=options)
    header, row = lines(plan)
    put(plan, [header, row | edit])
    apply_plan(plan)
    return photos / "b.jpg.xmp"


def test_a_caption_of_a_plan_is_a_person_s_also_when_another_run_came_between(photos, tagged, tmp_path):
    plan = tmp_path / "plan.jsonl"
    tagged(photos, plan_file=plan, include=["b.jpg"])
    header, row = lines(plan)
    tagged(photos, include=["b.jpg"], options={"top_k": 1})
    put(plan, [header, row | {"caption": "Anna"}])
    apply_plan(plan)
    packet = read_packet((photos / "b.jpg.xmp").read_bytes())
    assert (packet.description, packet.description_by_people) == ("Anna", True)


@pytest.mark.parametrize("redo", [False, True])
def test_what_a_person_gave_in_a_plan_and_deleted_elsewhere_does_not_come_back(
    photos, tagged, tmp_path, redo
):
    sidecar = planned_edit(photos, tagged, tmp_path / "plan.jsonl", tags=["Oma", "blue"], caption="Anna")
    assert read_packet(sidecar.read_bytes()).by_people.flat == ("Oma",)
    deleted(sidecar, "Oma", "Anna")
    for _ in range(2):
        tagged(photos, include=["b.jpg"], redo=redo)
        packet = read_packet(sidecar.read_bytes())
        assert "Oma" not in packet.keywords.flat
        assert packet.description != "Anna"
    again = tmp_path / "again.jsonl"
    tagged(photos, WriterChoice("xmp", options={"touch": True}), "txt", plan_file=again, include=["b.jpg"])
    apply_plan(again)
    assert "Oma" not in read_packet(sidecar.read_bytes()).keywords.flat


def test_a_caption_that_a_person_emptied_in_a_plan_does_not_come_back(photos, tagged, tmp_path):
    tagged(photos, include=["b.jpg"])
    sidecar = planned_edit(photos, tagged, tmp_path / "plan.jsonl", {"top_k": 1}, caption="")
    assert read_packet(sidecar.read_bytes()).description == ""
    tagged(photos, include=["b.jpg"], redo=True)
    assert read_packet(sidecar.read_bytes()).description == ""


def test_an_edit_gets_into_xmp_also_where_the_run_would_not_have_changed_it(photos, tagged, tmp_path):
    tagged(photos, include=["b.jpg"])
    plan = tmp_path / "plan.jsonl"
    words = WriterChoice("txt", options={"mode": "overwrite"})
    tagged(photos, "xmp", words, plan_file=plan, include=["b.jpg"])
    header, row = lines(plan)
    put(plan, [header, row | {"tags": [*row["tags"][1:], "Oma"]}])
    apply_plan(plan)
    packet = read_packet((photos / "b.jpg.xmp").read_bytes())
    assert packet.by_people.flat == ("Oma",)
    assert packet.refused == (row["tags"][0]["text"],)


def test_a_photograph_whose_tags_were_all_rejected_gets_none_later(photos, tagged, tmp_path):
    path = tmp_path / "plan.jsonl"
    tagged(photos, plan_file=path)
    edited_tags(path, "b.jpg", [])
    apply_plan(path)
    tagged(photos, redo=True)
    assert keywords(photos / "b.jpg.xmp").flat == ()


def test_a_plan_of_an_older_version_which_does_not_say_what_was_edited_is_written_as_it_is(
    photos, tagged, tmp_path
):
    path = tmp_path / "plan.jsonl"
    tagged(photos, plan_file=path)
    header, *rows = lines(path)
    put(path, [header, *({**row, "tags": ["Anna"]} for row in rows if row.pop("was"))])
    apply_plan(path)
    packet = read_packet((photos / "b.jpg.xmp").read_bytes())
    assert [tag.text for tag in packet.machine_tags] == ["Anna"]
    assert packet.refused == ()


@pytest.mark.parametrize("field", ["tags", "caption", "prompt"])
def test_a_plan_that_was_saved_in_another_encoding_is_refused_by_line(photos, plan, tree, field):
    before = tree(photos)
    header, *rows = lines(plan)
    rows[1][field] = ["Möwe \U0001f600"] if field == "tags" else "Möwe \U0001f600"
    put(plan, [header, *rows])
    assert read_plan(plan).photos[1].number == 3
    saved = plan.read_bytes().replace(rb"\u00f6", b"\xf6")
    for content in (saved, saved.replace(b"\xf6", rb"\udcf6")):
        plan.write_bytes(content)
        with pytest.raises(
            ConfigError, match=f"line 3, field '{field}': it is not UTF-8; save the plan as UTF-8"
        ):
            apply_plan(plan)
    assert tree(photos) == before


def test_a_plan_is_taken_back_by_undo(photos, plan, tree):
    before = tree(photos)
    apply_plan(plan)
    assert tree(photos) != before
    undo_album(photos)
    assert tree(photos) == before


def test_a_photograph_that_changed_since_is_left_alone(photos, plan):
    make_image("green", (9, 9)).save(photos / "b.jpg")
    content = (photos / "b.jpg").read_bytes()
    summary = apply_plan(plan)
    assert summary.errors == [("b.jpg", "it changed since the plan was made; plan again")]
    assert (photos / "b.jpg").read_bytes() == content
    assert summary.written == 6


def test_a_keyword_added_by_hand_since_is_no_change_of_the_photograph(photos, plan):
    apply_change(plan_tags(photos / "b.jpg", [MachineTag("by hand", 1.0)], embed=True), touch=True)
    assert apply_plan(plan).failed == 0


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
def test_a_tiff_that_a_killed_run_wrote_is_as_planned_and_one_that_a_person_edited_is_not(
    tmp_path, tagged, monkeypatch
):
    photos = tmp_path / "tiffs"
    photos.mkdir()
    make_image("red").save(photos / "a.tif")
    content, path = (photos / "a.tif").read_bytes(), tmp_path / "plan.jsonl"
    tagged(photos, WriterChoice("xmp", options={"embed": True}), plan_file=path)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("autotag.albums.applying._Applying._put_down", killed)
        with pytest.raises(KeyboardInterrupt):
            apply_plan(path)
    assert (photos / "a.tif").read_bytes() != content
    assert apply_plan(path).failed == 0
    assert apply_plan(path).failed == 0
    undo_album(photos)
    assert (photos / "a.tif").read_bytes() == content
    with Exiftool() as exiftool:
        exiftool.run(["-overwrite_original", "-XMP-dc:Subject=Anna", str(photos / "a.tif")])
    [(_, why)] = apply_plan(path).errors
    assert "in its format any change counts, also of keywords" in why


def rows_of(folder, name):
    with (folder / name).open(newline="") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def test_files_of_results_hold_what_the_edited_plan_says(photos, tagged, tmp_path, tree):
    before = tree(photos)
    path = tmp_path / "plan.jsonl"
    tagged(photos, "xmp", "rename", "csv", "jsonl", plan_file=path)
    assert tree(photos) == before
    header, *rows = lines(path)
    by_file = {row["file"]: row for row in rows}
    by_file["b.jpg"] |= {"tags": ["sea"], "rename_to": "my sea.jpg"}
    by_file["c.webp"]["write"].remove("csv")
    del by_file["d.jpg"]
    put(path, [header, *by_file.values()])
    summary = apply_plan(path)
    assert [Path(file).name for file in summary.outputs] == ["tags.csv", "metadata.jsonl"]
    table = rows_of(photos, "tags.csv")
    assert (table["my sea.jpg"]["tags"], len(table)) == ("sea", 5)
    found = [json.loads(line) for line in (photos / "metadata.jsonl").read_text().splitlines()]
    assert len(found) == 6
    assert {"my sea.jpg", "d.jpg"} & {row["file_name"] for row in found} == {"my sea.jpg"}
    undo_album(photos)
    assert tree(photos) == before


def test_a_plan_for_files_of_results_alone_has_a_line_for_each_photograph_also_when_all_is_done(
    photos, tagged, tmp_path
):
    tagged(photos, "csv")
    table = (photos / "tags.csv").read_bytes()
    tagged(photos, "csv", plan_file=tmp_path / "plan.jsonl")
    assert len(lines(tmp_path / "plan.jsonl")) == 8
    summary = apply_plan(tmp_path / "plan.jsonl")
    assert (summary.outputs, summary.failed) == ([], 0)
    assert (photos / "tags.csv").read_bytes() == table


def test_a_file_of_results_that_is_not_ours_is_refused_when_planning_and_when_applying(
    photos, tagged, tmp_path, tree
):
    (photos / "tags.csv").write_text("mine")
    with pytest.raises(ConfigError, match="autotag did not write this version"):
        tagged(photos, "csv", plan_file=tmp_path / "plan.jsonl")
    (photos / "tags.csv").unlink()
    tagged(photos, "xmp", "csv", plan_file=tmp_path / "plan.jsonl")
    (photos / "tags.csv").write_text("mine")
    before = tree(photos)
    with pytest.raises(ConfigError, match="autotag did not write this version"):
        apply_plan(tmp_path / "plan.jsonl")
    assert tree(photos) == before


@pytest.mark.slow
def test_applying_goes_on_where_it_was_stopped(photos, tagged, tmp_path, tree):
    for number in range(30):
        make_image(size=(8 + number, 8)).save(photos / f"{number:02}.{('jpg', 'gif')[number % 2]}")
    before = tree(photos)
    path = tmp_path / "plan.jsonl"
    embed = WriterChoice("xmp", options={"embed": True})
    tagged(photos, embed, "rename", "csv", plan_file=path)
    assert apply_plan(path, stop=lambda: True).stopped == "interrupted"
    assert len(rows_of(photos, "tags.csv")) == 16
    summary = apply_plan(path)
    assert (summary.written, summary.nothing_to_do, summary.failed) == (21, 16, 0)
    assert len(rows_of(photos, "tags.csv")) == 37
    again = apply_plan(path)
    assert (again.written, again.failed, again.outputs) == (0, 0, [])
    undo_album(photos)
    assert tree(photos) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tagz": []}, r"line 3, field 'tagz': the field is unknown. Did you mean 'tags'\?"),
        ({"tags": "sea"}, "line 3, field 'tags': 'sea' is not a list"),
        ({"tags": [7]}, "line 3, field 'tags': entry 1, 7, must be a text, or a table"),
        ({"tags": [{"text": "duck", "path": "animal|goose"}]}, "does not end in 'duck'"),
        ({"caption": None}, "line 3, field 'caption': None is not text"),
        (
            {"write": ["xnp"]},
            r"line 3, field 'write': 'xnp' is not a writer of this plan. Did you mean 'xmp'\?",
        ),
        ({"rename_to": "b.png"}, "line 3, field 'rename_to': 'b.png' does not have the extension '.jpg'"),
        ({"rename_to": "con.jpg"}, "line 3, field 'rename_to': 'con.jpg' is not valid on every file system"),
        ({"rename_to": "../b.jpg"}, "line 3, field 'rename_to'"),
        ({"file": "../../etc/passwd"}, "line 3, field 'file': .* leads out of the album"),
        ({"file": "a red.png", "rename_to": None}, "line 3, field 'file': line 2 names 'a red.png' too"),
    ],
)
def test_a_mistake_in_a_plan_is_named_by_line_and_field_and_nothing_is_done(photos, plan, tree, change, said):
    before = tree(photos)
    rows = lines(plan)
    assert rows[2]["file"] == "b.jpg"
    rows[2] |= change
    put(plan, rows)
    with pytest.raises(ConfigError, match=said):
        apply_plan(plan)
    assert tree(photos) == before


def test_a_name_that_a_hard_link_has_is_taken(photos, tagged, tmp_path, tree):
    os.link(photos / "d.jpg", photos / "hard.jpg")
    before = tree(photos)
    tagged(photos, "rename", plan_file=tmp_path / "hard.jsonl")
    header, *rows = lines(tmp_path / "hard.jsonl")
    [row] = [row for row in rows if row["file"] == "d.jpg"]
    put(tmp_path / "hard.jsonl", [header, row | {"rename_to": "hard.jpg"}])
    summary = apply_plan(tmp_path / "hard.jsonl")
    assert "another file is called hard.jpg" in summary.errors[0][1]
    assert tree(photos) == before


def test_a_plan_from_an_editor_on_windows_is_read(photos, plan):
    plan.write_bytes(b"\xef\xbb\xbf" + plan.read_bytes().replace(b"\n", b"\r\n"))
    assert apply_plan(plan).written == 7


def test_two_photographs_cannot_be_given_one_name(plan):
    rows = lines(plan)
    for row in rows[2:5:2]:
        row["rename_to"] = "same.jpg"
    assert {row["file"] for row in rows[2:5:2]} == {"b.jpg", "d.jpg"}
    put(plan, rows)
    with pytest.raises(ConfigError, match="'rename_to': line 3 uses this name too"):
        read_plan(plan)


def test_text_that_is_no_json_is_named_by_its_line(plan):
    plan.write_text(plan.read_text() + "{oops\n")
    with pytest.raises(ConfigError, match="line 9: it is not JSON"):
        read_plan(plan)


def test_a_plan_that_may_have_been_edited_is_not_overwritten(photos, plan, tagged):
    with pytest.raises(ConfigError, match="exists already"):
        tagged(photos, plan_file=plan)


def test_a_file_that_is_no_plan_is_refused(tmp_path):
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(ConfigError, match="is not a plan"):
        read_plan(tmp_path / "other.jsonl")


@pytest.mark.parametrize("by", ["album", "apply"])
def test_a_plan_holds_files_of_results_in_the_album_or_beside_it_only(photos, tagged, tmp_path, by):
    (tmp_path / "plans").mkdir()
    plan = tmp_path / "plans" / "plan.jsonl"
    outside = WriterChoice("csv", file=tmp_path / "tags.csv")
    if by == "album":
        with pytest.raises(ConfigError, match="neither in the album nor beside the plan"):
            tagged(photos, outside, plan_file=plan)
        assert list(plan.parent.iterdir()) == []
        return
    tagged(photos, WriterChoice("csv", file=tmp_path / "plans" / "tags.csv"), plan_file=plan)
    header, *rows = lines(plan)
    header["outputs"]["csv"]["file"] = str(tmp_path / "tags.csv")
    put(plan, [header, *rows])
    with pytest.raises(ConfigError, match="line 1, field 'outputs'"):
        apply_plan(plan)
    assert not (tmp_path / "tags.csv").exists()


def test_a_plan_does_not_lead_out_of_its_album_by_links(photos, plan, tmp_path):
    (photos / "away").symlink_to(tmp_path / "other")
    (tmp_path / "other").mkdir()
    make_image("blue").save(tmp_path / "other" / "x.jpg")
    header, *rows = lines(plan)
    put(plan, [header, rows[0] | {"file": "away/x.jpg", "rename_to": None}])
    assert apply_plan(plan).errors == [
        ("away/x.jpg", "its path goes through a link that leads out of the album")
    ]
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["x.jpg"]


def test_names_that_others_have_are_refused_also_for_what_goes_along(photos, plan, tree):
    (photos / "new.txt").write_text("another")
    header, *rows = lines(plan)
    [row] = [row for row in rows if row["file"] == "b.jpg"]
    put(plan, [header, row | {"rename_to": "new.jpg", "write": ["rename"]}])
    before = tree(photos)
    summary = apply_plan(plan)
    assert "another file is called new.txt" in summary.errors[0][1]
    assert tree(photos) == before


def test_the_album_of_a_plan_is_a_whole_path(plan):
    header, *rows = lines(plan)
    put(plan, [header | {"album": "photos"}, *rows])
    with pytest.raises(ConfigError, match="line 1, field 'album'"):
        read_plan(plan)
