"""Tags as XMP beside photographs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from autotag.albums.writers.xmp_writer import XmpChange, XmpWriter
from autotag.errors import ConfigError
from autotag.metadata import read_packet
from autotag.records import Detection, Result, Tag


def result(*tags: str, **paths: str) -> Result:
    found = (Tag.proposed(tag, 0.5, "test") for tag in tags)
    placed = (
        replace(tag, path=tuple(paths[tag.text].split("|")) if tag.text in paths else ()) for tag in found
    )
    return Result("a.jpg", (1, 1), tags=tuple(placed))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (8, 8)).save(path)
    return path


def written(writer: XmpWriter, photo: Path, found: Result) -> str:
    [change] = writer.changes(photo, found)
    again = XmpChange.from_dict(json.loads(json.dumps(change.to_dict())))
    assert again.apply() == ()
    return photo.with_name(photo.name + ".xmp").read_text(encoding="utf-8")


def test_every_keyword_field_is_written(photo):
    text = written(XmpWriter(), photo, result("dog", dog="Animal|dog"))
    assert "<lr:hierarchicalSubject>" in text
    assert "<rdf:li>Animal/dog</rdf:li>" in text
    assert read_packet(text.encode()).keywords.flat == ("dog",)


@pytest.mark.parametrize("fields", [["dc:subject"], ("dc:subject",)])
def test_only_the_fields_that_are_chosen_are_written_also_from_a_plan_in_json(photo, fields):
    text = written(XmpWriter(fields=fields), photo, result("dog", dog="Animal|dog"))
    assert "<dc:subject>" in text
    assert "hierarchicalSubject" not in text
    assert "TagsList" not in text
    assert XmpWriter(fields=fields).changes(photo, result("dog", dog="Animal|dog")) == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (("dc:subjct",), "Did you mean 'dc:subject'"),
        ("dc:subject", "it takes an array of"),
        ((), "fields is empty; choose from dc:subject"),
    ],
)
def test_fields_that_do_not_exist_are_refused(fields, said):
    with pytest.raises(ConfigError, match=said):
        XmpWriter(fields=fields)


def test_boxes_are_written_as_regions_only_when_asked_and_undone(photo):
    found = replace(result("dog"), size=(8, 8), detections=(Detection("dog", 0.75, (0, 0, 4, 8)),))
    sidecar = photo.with_name("a.jpg.xmp")
    assert "mwg-rs" not in written(XmpWriter(), photo, found)
    writer = XmpWriter(regions=True)
    without = sidecar.read_bytes()
    [change] = writer.changes(photo, found)
    text = written(writer, photo, found)
    assert 'mwg-rs:Name="dog"' in text
    assert 'stArea:x="0.25000" stArea:y="0.50000" stArea:w="0.50000" stArea:h="1.00000"' in text
    assert writer.changes(photo, found) == []
    change.undo()
    assert sidecar.read_bytes() == without


def test_keywords_that_would_be_removed_are_named(photo):
    written(XmpWriter(), photo, result("dog", "tree"))
    [change] = XmpWriter().changes(photo, result("cat"))
    assert change.describe() == "adds to a.jpg.xmp: cat; removes from a.jpg.xmp: dog, tree"
    [change] = XmpWriter().changes(photo, result("dog"))
    assert change.describe() == "removes from a.jpg.xmp: tree"
