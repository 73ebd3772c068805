"""Boxes as regions in XMP: right for other programs, never instead of a person's, and undone like tags."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autotag.errors import ConfigError
from autotag.images.orientation import _TURNS
from autotag.metadata import (
    MachineTag,
    MetadataChange,
    Region,
    Regions,
    apply_change,
    plan_tags,
    read_existing,
    read_packet,
    undo_change,
    with_machine_tags,
    without_machine_tags,
)

SIZE = (80, 40)
BOX = (8.0, 4.0, 32.0, 20.0)  # of the upright picture
TAGS = [MachineTag("dog", 0.9)]
EXIFTOOL = shutil.which("exiftool") or ""
needs_exiftool = pytest.mark.skipif(not EXIFTOOL, reason="exiftool is not installed")


def regions(*labels: str, box: tuple[float, float, float, float] = BOX) -> Regions:
    found = Regions.of_boxes(SIZE, [(label, 0.9, box) for label in labels])
    assert found is not None
    return found


def photograph(folder: Path, orientation: int = 1, kind: str = "jpg") -> Path:
    """A black picture of 80 x 40 with a white box, stored with an orientation."""
    upright = Image.new("RGB", SIZE)
    upright.paste("white", tuple(map(int, BOX)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    turns = {**_TURNS, 6: _TURNS[8], 8: _TURNS[6]}  # backwards
    stored = upright.transpose(turns[orientation]) if orientation > 1 else upright
    path = folder / f"a{orientation}.{kind}"
    stored.save(path, exif=exif.tobytes(), **({"quality": 100} if kind == "jpg" else {}))
    return path


def read_by_exiftool(path: Path) -> dict[str, object]:
    said = subprocess.run(
        [EXIFTOOL, "-j", "-n", "-struct", "-XMP-mwg-rs:all", str(path)],
        capture_output=True,
        check=True,
        text=True,
    )
    [row] = json.loads(said.stdout)
    found: dict[str, object] = row["RegionInfo"]
    return found


def write(path: Path, found: Regions | None, *, embed: bool = True) -> MetadataChange:
    change = plan_tags(path, TAGS, embed=embed, regions=found)
    apply_change(change)
    return change


@needs_exiftool
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exiftool_reads_the_area_in_the_picture_as_it_is_stored(tmp_path: Path, orientation: int) -> None:
    path = photograph(tmp_path, orientation)
    write(path, regions("dog & <cat>"))
    found = read_by_exiftool(path)
    with Image.open(path) as stored:
        wide, high = stored.size
        rows, columns = np.nonzero(np.asarray(stored.convert("L")) > 128)
    assert found["AppliedToDimensions"] == {"W": wide, "H": high, "Unit": "pixel"}
    [region] = found["RegionList"]  # type: ignore[misc]
    assert region["Name"] == "dog & <cat>"
    assert region["Description"] == "detected by autotag, 0.90"
    left, right = columns.min() / wide, (columns.max() + 1) / wide
    top, bottom = rows.min() / high, (rows.max() + 1) / high
    expected = {
        "X": (left + right) / 2,
        "Y": (top + bottom) / 2,
        "W": right - left,
        "H": bottom - top,
        "Unit": "normalized",
    }
    assert region["Area"] == {
        name: value if isinstance(value, str) else pytest.approx(value, abs=1e-4)
        for name, value in expected.items()
    }


@needs_exiftool
def test_a_sidecar_has_them_too(tmp_path: Path) -> None:
    path = photograph(tmp_path, 6, "png")
    write(path, regions("dog", "cat"), embed=False)
    found = read_by_exiftool(path.with_name(path.name + ".xmp"))
    assert [one["Name"] for one in found["RegionList"]] == ["dog", "cat"]  # type: ignore[attr-defined]
    assert found["AppliedToDimensions"] == {"W": 40, "H": 80, "Unit": "pixel"}


@pytest.mark.parametrize("embed", [True, False])
def test_a_second_run_changes_nothing_and_other_boxes_replace_them(tmp_path: Path, embed: bool) -> None:
    path = photograph(tmp_path)
    before = path.read_bytes()
    first = write(path, regions("dog"), embed=embed)
    assert plan_tags(path, TAGS, embed=embed, regions=regions("dog")).files == ()
    second = write(path, regions("cat", "bird"), embed=embed)
    target = path if embed else path.with_name(path.name + ".xmp")
    content = target.read_bytes()
    assert content.count(b"mwg-rs:Name=") == 2
    assert content.count(b"<mwg-rs:Regions ") == 1
    third = write(path, None, embed=embed)
    assert b"mwg-rs" not in target.read_bytes()
    for change in (third, second, first):
        assert undo_change(change) == ()
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_a_change_survives_json_and_older_journals_have_no_regions(tmp_path: Path) -> None:
    path = photograph(tmp_path, 6)
    change = plan_tags(path, TAGS, regions=regions("dog"))
    again = MetadataChange.from_dict(json.loads(json.dumps(change.to_dict())))
    assert again == change
    assert apply_change(again) == ()
    assert "regions" not in plan_tags(path, TAGS, date="2026").to_dict()
    row = change.to_dict()
    row["regions"]["regions"][0]["box"] = [0, 1]
    with pytest.raises(ConfigError, match="box of a region"):
        MetadataChange.from_dict(row)


OF_PEOPLE = {
    "mwg-rs": 'xmlns:m="http://www.metadataworkinggroup.com/schemas/regions/">'
    '<m:Regions rdf:parseType="Resource"><m:RegionList><rdf:Bag><rdf:li rdf:parseType="Resource">'
    "<m:Name>Anna</m:Name></rdf:li></rdf:Bag></m:RegionList></m:Regions>",
    "Microsoft": 'xmlns:m="http://ns.microsoft.com/photo/1.2/"><m:RegionInfo rdf:parseType="Resource"/>',
    "IPTC": 'xmlns:m="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"><m:ImageRegion><rdf:Bag/></m:ImageRegion>',
}


def packet_with(regions_of_people: str) -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {regions_of_people}</rdf:Description></rdf:RDF></x:xmpmeta>'
    ).encode()


@pytest.mark.parametrize("standard", OF_PEOPLE)
def test_where_people_have_regions_none_are_written(tmp_path: Path, standard: str) -> None:
    theirs = packet_with(OF_PEOPLE[standard])
    path = photograph(tmp_path)
    sidecar = path.with_name(path.name + ".xmp")
    sidecar.write_bytes(theirs)
    for embed in (True, False):
        change = plan_tags(path, TAGS, embed=embed, regions=regions("dog"))
        assert any("it has regions of a person" in warning for warning in change.warnings)
        assert all(b"dog" in (one.content or b"") for one in change.files)
        assert all(b"detected by autotag" not in (one.content or b"") for one in change.files)
    after = with_machine_tags(theirs, TAGS, regions=regions("dog"))
    assert after is not None
    assert without_machine_tags(after) == theirs


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('mwg-rs:Name="dog"', 'mwg-rs:Name="Rex"'),
        ('stArea:x="0.25000"', 'stArea:x="0.30000"'),
        ("    </rdf:Bag>\n   </mwg-rs:RegionList>", "<rdf:li/></rdf:Bag></mwg-rs:RegionList>"),
    ],
)
def test_regions_that_a_person_changed_are_theirs(tmp_path: Path, old: str, new: str) -> None:
    path = photograph(tmp_path)
    change = write(path, regions("dog"), embed=False)
    sidecar = path.with_name(path.name + ".xmp")
    text = sidecar.read_text(encoding="utf-8")
    assert old in text
    sidecar.write_text(text.replace(old, new), encoding="utf-8")
    write(path, regions("bird"), embed=False)
    packet = read_packet(sidecar.read_bytes())
    assert (packet.has_regions_by_people, packet.regions_refused) == (True, True)
    assert "bird" not in sidecar.read_text(encoding="utf-8")
    assert plan_tags(path, TAGS, regions=regions("bird")).files == ()
    assert "only the machine's tags are removed" in " ".join(undo_change(change))
    left = sidecar.read_text(encoding="utf-8")
    assert new in left
    assert "autotag:" not in left


def test_regions_that_a_person_removed_are_not_written_again(tmp_path: Path) -> None:
    path = photograph(tmp_path)
    write(path, regions("dog"), embed=False)
    sidecar = path.with_name(path.name + ".xmp")
    text = sidecar.read_text(encoding="utf-8")
    start, end = text.index("  <mwg-rs:Regions"), text.index("</mwg-rs:Regions>") + len("</mwg-rs:Regions>")
    sidecar.write_text(text[:start] + text[end:], encoding="utf-8")
    for _ in range(2):
        write(path, regions("dog"), embed=False)
        assert "<mwg-rs:Regions" not in sidecar.read_text(encoding="utf-8")
    assert plan_tags(path, TAGS, embed=True, regions=regions("dog")).warnings[-1].endswith("earlier ones.")


@needs_exiftool
def test_another_program_that_rewrites_xmp_leaves_them_the_machine_s(tmp_path: Path) -> None:
    path = photograph(tmp_path)
    write(path, regions("dog", "cat"))
    subprocess.run([EXIFTOOL, "-q", "-overwrite_original", "-XMP:Rating=3", str(path)], check=True)
    existing = read_existing(path.read_bytes())
    assert not existing.has_regions_by_people
    assert not existing.regions_refused
    assert existing.packet is not None
    left = without_machine_tags(existing.packet)
    assert left is not None
    assert b"Regions" not in left
    assert b"Rating" in left


def test_boxes_are_cut_at_the_edges_and_the_best_hundred_stay() -> None:
    found = Regions.of_boxes((100, 50), [("a", 0.2, (-20, 0, 50, 70)), ("b", 0.8, (0, 0, 100, 50))])
    assert found == Regions(100, 50, (Region("b", 0.8, (0, 0, 1, 1)), Region("a", 0.2, (0, 0, 0.5, 1))))
    nothing = [("a", 1.0, (60.0, 0.0, 60.0, 9.0)), ("b", 1.0, (120.0, 0.0, 130.0, 9.0)), ("", 1.0, BOX)]
    assert Regions.of_boxes((100, 50), nothing) is None
    many = Regions.of_boxes(SIZE, [(str(n), n / 200, BOX) for n in range(200)])
    assert many is not None
    assert [one.label for one in many.regions] == [str(n) for n in range(199, 99, -1)]
    packet = with_machine_tags(None, TAGS, regions=many)
    assert packet is not None
    read_packet(packet)
