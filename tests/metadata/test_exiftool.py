"""What the real exiftool says about what we wrote, and what it writes for us."""

import io
import json
import shutil
import subprocess

import pytest
from PIL import Image, ImageSequence

from autotag.images.reading import read_image
from autotag.metadata import Keywords, apply_change, plan_tags, undo_change
from autotag.metadata.exiftool import Exiftool
from autotag.metadata.existing import read_existing
from autotag.metadata.xmp import MachineTag
from tests.metadata.conftest import after_start, iptc

needs_exiftool = pytest.mark.skipif(
    shutil.which("exiftool") is None, reason="exiftool is not installed (Debian: libimage-exiftool-perl)"
)
TAGS = [
    MachineTag("dog", 0.5, "clip", "1.0", path=("Animal", "dog")),
    MachineTag("Straße ☃", 0.4, "clip", "1.0"),
]
SPLICED = (
    "jpeg", "jpeg_full", "jpeg_progressive", "jpeg_motion", "mpo", "png", "png_full", "png_compressed",
    "webp",
    "webp_lossless", "webp_full", "webp_animated",
)  # fmt: skip
THROUGH_EXIFTOOL = (
    "jpeg_iptc",
    "jpeg_iptc_utf8",
    "jpeg_iptc_unsaid",
    "jpeg_preview",
    "tiff",
    "tiff_iptc",
    "tiff_pages",
    "gif",
    "avif",
    "heic",
)
NOT_METADATA = ("System", "ExifTool", "Composite")
OURS = {"Subject", "HierarchicalSubject", "TagsList", "Description"}


@pytest.fixture(scope="module")
def exiftool():
    with Exiftool() as running:
        yield running


@pytest.fixture
def put(tmp_path, photograph):
    def make(name):
        path = tmp_path / f"a.{name.partition('_')[0]}"
        path.write_bytes(photograph(name))
        return path

    return make


def said(exiftool, path):
    """Every field: "Group:Name" -> value."""
    (row,) = json.loads(
        exiftool.run(["-j", "-G1", "-a", "-u", "-struct", "-charset", "iptc=utf8", str(path)])
    )
    return {
        key: value for key, value in row.items() if key.partition(":")[0] not in NOT_METADATA and ":" in key
    }


def complaints(exiftool, path):
    """The errors, warnings and minor warnings that ``-validate`` finds."""
    text = exiftool.run(["-validate", "-warning", "-error", "-a", "-s3", str(path)])
    return [line for line in text.splitlines() if line.strip() not in ("OK", "")]


def as_list(value):
    return value if isinstance(value, list) else [str(value)]


def check_fields(exiftool, path, people):
    fields = said(exiftool, path)
    assert as_list(fields["XMP-dc:Subject"]) == [*people, "dog", "Straße ☃"]
    hierarchy = as_list(fields["XMP-lr:HierarchicalSubject"])
    assert [entry for entry in hierarchy if entry not in people] == ["Animal", "Animal|dog", "Straße ☃"]
    tags_list = as_list(fields["XMP-digiKam:TagsList"])
    assert [entry for entry in tags_list if entry not in people] == ["Animal/dog", "Straße ☃"]
    assert set(people) <= set(hierarchy)
    assert set(people) <= set(tags_list)
    records = fields["XMP-autotag:Tags"]
    assert [
        (record["Tag"], float(record["Score"]), record["Model"], str(record["Version"])) for record in records
    ] == [
        ("dog", 0.5, "clip", "1.0"),
        ("Straße ☃", 0.4, "clip", "1.0"),
    ]
    assert all(record["Date"] for record in records)
    return fields


def pixels(name, content):
    """Of every page or frame."""
    if name == "heic":
        return [read_image(content).image.tobytes()]
    with Image.open(io.BytesIO(content)) as image:
        return [frame.convert("RGB").tobytes() for frame in ImageSequence.Iterator(image)]


@needs_exiftool
@pytest.mark.parametrize("name", SPLICED)
def test_exiftool_reads_every_field_of_a_splice_and_finds_the_file_no_worse(exiftool, put, name):
    path = put(name)
    people = read_existing(path.read_bytes()).keywords.flat
    before, complained = said(exiftool, path), complaints(exiftool, path)
    change = plan_tags(path, TAGS, "a dög", embed=True)
    apply_change(change)
    after = check_fields(exiftool, path, people)
    assert after["XMP-dc:Description"] == "a dög"
    changed = {key for key, value in before.items() if after.get(key) != value}
    allowed = {
        "XMP-x:XMPToolkit",
        "XMP-dc:Subject",
        "RIFF:WebP_Flags",
        "File:FileType",
        "MPImage1:MPImageLength",
        "MPImage2:MPImageStart",
    }
    assert changed <= allowed
    assert len(complaints(exiftool, path)) <= len(complained)
    undo_change(change)
    assert said(exiftool, path) == before


@needs_exiftool
@pytest.mark.parametrize("name", [*THROUGH_EXIFTOOL, "jpeg_full", "jpeg_extended", "jpeg_motion"])
def test_sidecars_read_back_by_exiftool(exiftool, put, name):
    path = put(name)
    people = read_existing(path.read_bytes()).keywords.flat
    apply_change(plan_tags(path, TAGS))
    sidecar = path.with_name(path.name + ".xmp")
    check_fields(exiftool, sidecar, people)
    assert complaints(exiftool, sidecar) == []


@needs_exiftool
@pytest.mark.parametrize("name", THROUGH_EXIFTOOL)
def test_what_is_not_spliced_is_embedded_through_exiftool_and_undone(exiftool, put, name):
    path = put(name)
    content = path.read_bytes()
    people = read_existing(content).keywords.flat
    complained = complaints(exiftool, path)
    change = plan_tags(path, TAGS, embed=True, exiftool=exiftool)
    assert change.warnings == ()
    assert change.kind == "embedded"
    apply_change(change)
    fields = check_fields(exiftool, path, people)
    if "iptc" in name:
        before = list(read_existing(content).iptc.keywords)
        assert as_list(fields["IPTC:Keywords"]) == [*before, "dog", "Straße ☃"]
    assert len(complaints(exiftool, path)) <= len(complained)
    assert pixels(name, content) == pixels(name, path.read_bytes())
    assert plan_tags(path, TAGS, embed=True, exiftool=exiftool).kind == "unchanged"
    undo_change(change)
    assert path.read_bytes() == content


@needs_exiftool
@pytest.mark.parametrize("name", ["jpeg_iptc", "tiff", "gif"])
def test_after_a_person_s_edit_only_the_machine_s_tags_go(exiftool, put, name):
    path = put(name)
    people = read_existing(path.read_bytes()).keywords.flat
    change = plan_tags(path, TAGS, embed=True, exiftool=exiftool)
    apply_change(change)
    field = "-IPTC:Keywords+=Rex" if "iptc" in name else "-XMP-dc:Subject+=Rex"
    exiftool.run([field, "-overwrite_original", str(path)])
    undo_change(change, exiftool=exiftool)
    keywords = read_existing(path.read_bytes()).keywords.flat
    assert set(keywords) == {*people, "Rex"}
    assert "dog" not in exiftool.run(["-a", "-G1", "-Keywords", "-Subject", str(path)])


@needs_exiftool
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_files_that_exiftool_wrote_are_spliced_and_their_keywords_kept(
    exiftool, tmp_path, photograph, suffix
):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(photograph({"jpg": "jpeg_full"}.get(suffix, suffix)))
    exiftool.run(
        [
            "-XMP-dc:Subject=by exiftool",
            "-XMP-lr:HierarchicalSubject=Ort|Köln",
            "-overwrite_original",
            str(path),
        ]
    )
    complained = complaints(exiftool, path)
    content = path.read_bytes()
    change = plan_tags(path, TAGS, embed=True)
    assert change.kind == "embedded"
    apply_change(change)
    fields = said(exiftool, path)
    assert {"by exiftool", "Köln", "dog", "Straße ☃"} <= set(fields["XMP-dc:Subject"])
    assert {"Ort|Köln", "Animal|dog"} <= set(fields["XMP-lr:HierarchicalSubject"])
    assert len(complaints(exiftool, path)) <= len(complained)
    undo_change(change)
    assert path.read_bytes() == content


@needs_exiftool
@pytest.mark.parametrize("suffix", ["jpg", "xmp"])
def test_a_rewrite_by_exiftool_changes_nothing_for_the_next_run(exiftool, tmp_path, photograph, suffix):
    path = tmp_path / "a.jpg"
    path.write_bytes(photograph("jpeg_full"))
    embed = suffix == "jpg"
    apply_change(plan_tags(path, TAGS, embed=embed))
    target = path if embed else tmp_path / "a.jpg.xmp"
    exiftool.run(["-XMP-xmp:Rating=4", "-overwrite_original", str(target)])
    assert plan_tags(path, TAGS, embed=embed).kind == "unchanged"


LATIN = {"City": b"K\xf6ln", "By-line": b"J\xfcrgen M\xfcller", "ObjectName": b"\xd6" * 64}


def iptc_jpeg(path, jpeg, *keywords, **texts):
    """A JPEG whose IPTC records hold these bytes, without a character set."""
    numbers = {"ObjectName": 5, "By-line": 80, "City": 90}
    rows = [(25, word) for word in keywords] + [(numbers[name], text) for name, text in texts.items()]
    records = b"".join(bytes((0x1C, 2, number)) + len(text).to_bytes(2) + text for number, text in rows)
    block = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + len(records).to_bytes(4) + records
    path.write_bytes(after_start(jpeg, (0xED, block + bytes(len(records) % 2))))
    return path


@needs_exiftool
@pytest.mark.parametrize("keyword", [b"Oma", b"K\xe4the"])
@pytest.mark.parametrize("tag", ["dog", "Straße"])
def test_other_iptc_texts_in_latin_1_stay_whole(exiftool, tmp_path, photograph, keyword, tag):
    path = iptc_jpeg(tmp_path / "a.jpg", photograph("jpeg"), keyword, **LATIN)
    content = path.read_bytes()
    change = plan_tags(path, [MachineTag(tag, 1)], embed=True, exiftool=exiftool)
    assert (change.kind, change.warnings) == ("embedded", ())
    apply_change(change)
    (row,) = json.loads(exiftool.run(["-j", "-IPTC:all", str(path)]))
    assert {name: row[name] for name in LATIN} == {
        name: text.decode("cp1252") for name, text in LATIN.items()
    }
    assert row["Keywords"] == [keyword.decode("cp1252"), tag]
    undo_change(change)
    assert path.read_bytes() == content


@needs_exiftool
@pytest.mark.parametrize("keyword", [b"K\xe4the", "Käthe".encode()])
def test_iptc_texts_in_two_encodings_keep_their_bytes_or_the_tags_go_beside(
    exiftool, tmp_path, photograph, keyword
):
    city = "Köln".encode() if keyword == b"K\xe4the" else b"K\xf6ln"
    path = iptc_jpeg(tmp_path / "a.jpg", photograph("jpeg"), keyword, City=city)
    change = plan_tags(path, TAGS, embed=True, exiftool=exiftool)
    assert change.kind == "sidecar"
    assert "the character set of its IPTC texts is not known" in change.warnings[0]
    apply_change(plan_tags(path, TAGS[:1], embed=True, exiftool=exiftool))
    assert all(text in path.read_bytes() for text in (keyword, city, b"\x1c\x02\x19\x00\x03dog"))


@needs_exiftool
def test_keywords_that_a_person_gives_go_to_iptc_too(exiftool, put):
    path = put("jpeg_iptc")
    content = path.read_bytes()
    change = plan_tags(path, TAGS, keywords=Keywords.of(["Anna"]), embed=True, exiftool=exiftool)
    apply_change(change)
    found = read_existing(path.read_bytes())
    assert found.iptc.keywords == ("Köln", "Old One", "dog", "Straße ☃", "Anna")
    assert "Anna" in found.by_people.flat
    later = plan_tags(path, TAGS[:1], embed=True, exiftool=exiftool)
    apply_change(later)  # exiftool puts the keyword that goes and comes where it was
    assert read_existing(path.read_bytes()).iptc.keywords == ("Köln", "Old One", "dog", "Anna")
    undo_change(later)
    undo_change(change)
    assert path.read_bytes() == content


@needs_exiftool
def test_the_index_of_a_jpeg_of_several_pictures_has_the_new_size_of_the_first(
    exiftool, tmp_path, photograph
):
    path = tmp_path / "a.jpg"
    jpeg = after_start(photograph("mpo"), (0xED, iptc(b"Oma")))
    grown = len(jpeg) - len(photograph("mpo"))  # for which the index was not made
    path.write_bytes(jpeg)
    apply_change(plan_tags(path, TAGS, embed=True, exiftool=exiftool))
    fields = said(exiftool, path)
    assert fields["IPTC:Keywords"] == ["Oma", "dog", "Straße ☃"]
    assert fields["MPImage1:MPImageLength"] + grown == fields["MPImage2:MPImageStart"]


@needs_exiftool
def test_damaged_iptc_records_are_not_rewritten(exiftool, tmp_path, photograph):
    path = iptc_jpeg(tmp_path / "a.jpg", photograph("jpeg"), b"Oma", City=b"Bonn")
    path.write_bytes(path.read_bytes().replace(b"\x00\x04Bonn", b"\x00\x40Bonn"))
    change = plan_tags(path, TAGS[:1], embed=True, exiftool=exiftool)
    assert change.kind == "sidecar"


@needs_exiftool
def test_a_long_keyword_stays_out_of_iptc_with_a_word_about_it(exiftool, put):
    path = put("jpeg_iptc")
    change = plan_tags(path, [MachineTag("long " * 20 + "tag", 1)], embed=True, exiftool=exiftool)
    assert "too long for IPTC" in change.warnings[0]
    apply_change(change)
    fields = said(exiftool, path)
    assert read_existing(path.read_bytes()).iptc.keywords == ("Köln", "Old One")
    assert any(len(word) > 64 for word in fields["XMP-dc:Subject"])


@needs_exiftool
def test_what_exiftool_refuses_goes_beside_with_its_own_words(exiftool, put):
    path = put("tiff")
    path.write_bytes(path.read_bytes()[:60])
    change = plan_tags(path, TAGS, embed=True, exiftool=exiftool)
    assert change.kind == "sidecar"
    assert "not into the file" in change.warnings[0]


@needs_exiftool
def test_what_exiftool_does_not_write_goes_beside_with_one_clear_line(exiftool, put):
    path = put("tiff_large")
    content = path.read_bytes()
    change = plan_tags(path, TAGS, embed=True, exiftool=exiftool)
    assert change.kind == "sidecar"
    words = "exiftool says: ExifTool does not support writing of BigTIFF images."
    assert change.warnings == (f"{path}: tags go to a sidecar, not into the file: {words}",)
    assert path.read_bytes() == content


def test_without_exiftool_one_line_says_so(put):
    change = plan_tags(put("tiff"), TAGS, embed=True)
    assert change.kind == "sidecar"
    (warning,) = change.warnings
    assert warning.endswith("install exiftool to embed them.")
    with pytest.raises(FileNotFoundError):
        Exiftool("no-such-program")


@pytest.mark.slow
@needs_exiftool
def test_a_process_that_ended_is_started_again_and_close_ends_it(exiftool):
    own = Exiftool()
    assert (
        own.run(["-ver"]).strip()
        == subprocess.check_output([shutil.which("exiftool"), "-ver"], text=True).strip()
    )
    own.close()
    assert own.run(["-ver"]).strip()
    own.close()
    own.close()
