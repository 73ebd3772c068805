"""The rules of never losing anything, on whole files."""

import json
import os
import threading

import pytest

from autotag.errors import FileChangedError, MetadataError
from autotag.files.system_calls import SystemCalls
from autotag.metadata import Keywords, MetadataChange, apply_change, plan_tags, undo_change
from autotag.metadata.existing import read_existing
from autotag.metadata.xmp import MachineTag, read_packet, with_machine_tags

TAGS = [MachineTag("dog", 0.5, "clip", "1", path=("Animal", "dog")), MachineTag("Straße", 0.4, "clip", "1")]
OTHER_TAGS = [MachineTag("sea", 0.9, "clip", "2")]
EMBEDDABLE = (
    "jpeg", "jpeg_full", "jpeg_motion", "mpo", "png", "png_full", "png_compressed",
    "webp", "webp_lossless", "webp_full", "webp_animated",
)  # fmt: skip
BESIDE = ("jpeg_iptc", "jpeg_extended", "jpeg_preview", "tiff", "tiff_iptc", "gif", "bmp", "avif")


@pytest.fixture
def put(tmp_path, photograph):
    def make(name, file_name=None):
        path = tmp_path / (file_name or f"{name}.{name.partition('_')[0]}")
        path.write_bytes(photograph(name))
        os.utime(path, ns=(10**18, 10**18 + 5))
        return path

    return make


def tag(path, tags=TAGS, **options):
    change = plan_tags(path, tags, options.pop("description", ""), **{"date": "2026", **options})
    apply_change(change)
    return change


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", [*EMBEDDABLE, *BESIDE])
@pytest.mark.parametrize("embed", [True, False])
def test_rule_1_the_union_is_written_and_people_s_keywords_come_first(put, name, embed):
    path = put(name)
    people = read_existing(path.read_bytes()).keywords.flat
    change = tag(path, embed=embed)
    target = path if change.kind == "embedded" else path.with_name(path.name + ".xmp")
    content = target.read_bytes()
    found = read_existing(content).keywords if target == path else read_packet(content).keywords
    assert found.flat[: len(people)] == people
    assert {word.lower() for word in found.flat} == {word.lower() for word in (*people, "dog", "Straße")}
    assert change.keywords_after == found.flat
    assert change.keywords_before == people


def test_rule_2_a_photograph_is_whole_before_it_takes_its_place(put):
    path = put("jpeg_full")
    before = path.read_bytes()

    class NeverWhole(SystemCalls):
        def read(self, path):
            content = super().read(path)
            return content[:-1] if path.name.endswith("part") else content

    with pytest.raises(MetadataError):
        apply_change(plan_tags(path, TAGS, embed=True), calls=NeverWhole())
    assert files(path.parent) == {path.name: before}


@pytest.mark.parametrize("name", EMBEDDABLE)
def test_rule_3_the_time_and_mode_of_a_photograph_stay(put, name):
    path = put(name)
    path.chmod(0o604)
    assert tag(path, embed=True).kind == "embedded"
    found = path.stat()
    assert (found.st_mtime_ns, found.st_mode & 0o777) == (10**18 + 5, 0o604)
    apply_change(plan_tags(path, OTHER_TAGS, embed=True), touch=True)
    assert path.stat().st_mtime_ns != 10**18 + 5


def test_rule_4_links_are_followed_and_hard_links_reported(put, tmp_path):
    path = put("jpeg")
    (tmp_path / "album").mkdir()
    link = tmp_path / "album" / "link.jpg"
    link.symlink_to(path)
    tag(link, embed=True)
    assert link.is_symlink()
    assert "dog" in read_existing(path.read_bytes()).keywords.flat
    (tmp_path / "album" / "hard.jpg").hardlink_to(path)
    (warning,) = apply_change(plan_tags(path, OTHER_TAGS, embed=True))
    assert "hard links" in warning


def test_rule_5_a_person_s_description_in_any_field_keeps_the_machine_s_out(put):
    described = put("jpeg_iptc_utf8", "a.jpg")
    tag(described, description="machine")
    assert read_packet((described.parent / "a.jpg.xmp").read_bytes()).description == ""
    plain = put("jpeg", "b.jpg")
    tag(plain, description="machine")
    tag(plain, description="machine, once more")
    assert read_packet((plain.parent / "b.jpg.xmp").read_bytes()).description == "machine, once more"


def test_rule_6_a_read_only_photograph_gets_a_sidecar(put):
    path = put("jpeg")
    path.chmod(0o444)
    change = tag(path, embed=True)
    assert change.kind == "sidecar"
    assert "it is read-only" in change.warnings[0]
    assert path.stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize("name", [*EMBEDDABLE, *BESIDE])
@pytest.mark.parametrize("embed", [True, False])
def test_rule_7_a_second_run_changes_no_byte(put, name, embed):
    path = put(name)
    tag(path, embed=embed, description="a caption")
    before = files(path.parent)
    again = plan_tags(path, TAGS, "a caption", embed=embed, date="2029")
    assert again.kind == "unchanged"
    assert again.files == ()
    assert apply_change(again) == ()
    assert files(path.parent) == before


@pytest.mark.parametrize("name", EMBEDDABLE)
def test_rule_8_the_record_says_which_tags_are_the_machine_s(put, name):
    path = put(name)
    people = read_existing(path.read_bytes()).keywords.flat
    tag(path, [*TAGS, *(MachineTag(word.upper(), 0.9) for word in people)], embed=True)
    existing = read_existing(path.read_bytes())
    recorded = {tag.text.casefold() for tag in existing.machine_tags}
    assert recorded == {"dog", "strasse"} - {word.casefold() for word in people}
    tag(path, OTHER_TAGS, embed=True)
    assert set(read_existing(path.read_bytes()).keywords.flat) == {*existing.by_people.flat, "sea"}


def test_rule_9_a_long_keyword_is_whole_in_xmp(put):
    path = put("jpeg_iptc")
    long = "a very long keyword " * 5
    tag(path, [MachineTag(long, 1)])
    assert long.strip() in read_packet((path.parent / (path.name + ".xmp")).read_bytes()).keywords.flat


def test_rule_10_two_threads_that_tag_one_photograph_leave_it_whole(put):
    path = put("jpeg_full")
    outcomes = []

    def run(word):
        for _ in range(6):
            try:
                tag(path, [MachineTag(word, 1)], embed=True)
                outcomes.append("written")
            except MetadataError:
                outcomes.append("refused")

    threads = [threading.Thread(target=run, args=(word,)) for word in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 12
    assert "written" in outcomes
    existing = read_existing(path.read_bytes())
    assert existing.by_people.flat == ("Old One", "New York, NY", "Fenster", "Straße")
    assert len(existing.machine_tags) == 1
    assert list(files(path.parent)) == [path.name]


def test_rule_11_a_file_that_changed_since_it_was_planned_for_is_not_touched(put):
    path = put("jpeg_full")
    change = plan_tags(path, TAGS, embed=True)
    path.write_bytes(path.read_bytes() + b"edited")
    before = files(path.parent)
    with pytest.raises(FileChangedError):
        apply_change(change)
    assert files(path.parent) == before
    sidecar = plan_tags(path, TAGS)
    path.with_name(path.name + ".xmp").write_bytes(b"somebody was quicker")
    with pytest.raises(FileChangedError):
        apply_change(sidecar)


@pytest.mark.parametrize("name", [*EMBEDDABLE, *BESIDE])
@pytest.mark.parametrize("embed", [True, False])
def test_undo_brings_every_byte_back_also_from_json(put, name, embed):
    path = put(name)
    before = files(path.parent)
    first = tag(path, embed=embed, description="a caption")
    between = files(path.parent)
    second = tag(path, OTHER_TAGS, embed=embed)
    assert undo_change(MetadataChange.from_dict(json.loads(json.dumps(second.to_dict())))) == ()
    assert files(path.parent) == between
    assert undo_change(first) == ()
    assert files(path.parent) == before
    assert path.stat().st_mtime_ns == 10**18 + 5
    assert undo_change(first) == ()


@pytest.mark.parametrize("name", ["jpeg_full", "png_full", "webp_full", "webp"])
@pytest.mark.parametrize("embed", [True, False])
def test_undo_after_a_person_s_edit_removes_the_machine_s_tags_only(put, name, embed):
    path = put(name)
    people = read_existing(path.read_bytes()).keywords.flat
    change = tag(path, embed=embed, description="a caption")
    target = path if embed else path.with_name(path.name + ".xmp")
    from autotag.metadata.splicing import embedded_packet, spliced

    packet = embedded_packet(target.read_bytes()) if embed else target.read_bytes()
    edited = packet.replace(b"<rdf:li>dog</rdf:li>", b"<rdf:li>dog</rdf:li><rdf:li>Rex</rdf:li>", 1)
    target.write_bytes(spliced(target.read_bytes(), edited) if embed else edited)
    (note,) = undo_change(change)
    assert "edited since" in note
    content = target.read_bytes()
    keywords = read_existing(content).keywords if embed else read_packet(content).keywords
    assert set(keywords.flat) == {"Rex", *(people if embed else ())}
    assert b"autotag:" not in content


def test_a_plan_from_json_writes_what_was_planned_or_nothing(put):
    path = put("png_full")
    change = plan_tags(path, TAGS, "a caption", embed=True)
    again = MetadataChange.from_dict(json.loads(json.dumps(change.to_dict())))
    assert again == change
    assert again.files[0].content is None
    apply_change(again)
    assert path.read_bytes() == change.files[0].content
    with pytest.raises(FileChangedError):
        apply_change(again)


def test_what_is_embedded_is_also_written_to_a_sidecar_that_is_there(put):
    path = put("jpeg_full")
    sidecar = path.with_name(path.name + ".xmp")
    sidecar.write_bytes(with_machine_tags(None, [MachineTag("x", 1)], date="2020"))
    change = tag(path, embed=True)
    assert [one.path for one in change.files] == [str(sidecar), str(path)]
    assert "dog" in read_packet(sidecar.read_bytes()).keywords.flat
    assert "dog" in read_existing(path.read_bytes()).keywords.flat


def test_both_sidecars_are_updated_and_get_each_other_s_keywords(put, human_packet):
    path = put("jpeg", "a.jpg")
    one, two = path.with_name("a.jpg.xmp"), path.with_name("a.xmp")
    one.write_bytes(human_packet)
    two.write_bytes(human_packet.replace(b"Old One", b"Second"))
    tag(path)
    for sidecar in (one, two):
        assert set(read_packet(sidecar.read_bytes()).by_people_or_copied.flat) == {
            "Old One",
            "New York, NY",
            "Second",
        }


def test_same_stems_do_not_share_tags(put, tmp_path, human_packet):
    for name, file_name in (("jpeg", "a.jpg"), ("png", "a.png"), ("tiff", "a.cr2")):
        put(name, file_name)
    (tmp_path / "a.xmp").write_bytes(human_packet)
    for number, file_name in enumerate(("a.jpg", "a.png", "a.cr2")):
        tag(tmp_path / file_name, [MachineTag(f"tag{number}", 1)])
    assert set(files(tmp_path)) == {"a.jpg", "a.png", "a.cr2", "a.xmp", "a.jpg.xmp", "a.png.xmp"}
    for number, sidecar in enumerate(("a.jpg.xmp", "a.png.xmp", "a.xmp")):
        packet = read_packet((tmp_path / sidecar).read_bytes())
        assert [tag.text for tag in packet.machine_tags] == [f"tag{number}"]
        assert packet.by_people_or_copied.flat == ("Old One", "New York, NY")


def test_raw_files_are_never_written_into(put):
    path = put("tiff", "a.NEF")
    change = tag(path, embed=True)
    assert [one.path for one in change.files] == [str(path.with_name("a.xmp"))]
    assert "RAW" in change.warnings[0]


def test_a_wrong_extension_is_not_believed(put):
    path = put("png", "a.jpg")
    assert tag(path, embed=True).kind == "embedded"
    assert "dog" in read_existing(path.read_bytes()).keywords.flat


def test_a_damaged_sidecar_is_an_error_and_left_as_it_is(put):
    path = put("jpeg", "a.jpg")
    sidecar = path.with_name("a.jpg.xmp")
    sidecar.write_bytes(b"<x:xmpmeta>")
    with pytest.raises(MetadataError, match="repair or delete it"):
        plan_tags(path, TAGS)
    assert sidecar.read_bytes() == b"<x:xmpmeta>"


def test_no_tags_leave_no_trace(put):
    path = put("jpeg")
    assert plan_tags(path, []).kind == "unchanged"
    before = files(path.parent)
    tag(path)
    taken = tag(path, [])
    assert files(path.parent) == before
    undo_change(taken)
    assert set(files(path.parent)) == {path.name, path.name + ".xmp"}


@pytest.mark.parametrize("embed", [True, False])
def test_keywords_that_a_person_gives_are_originals_in_one_file_and_copies_elsewhere(
    tmp_path, photograph, embed
):
    path = tmp_path / "a.jpg"
    path.write_bytes(photograph("jpeg"))
    sidecar = tmp_path / "a.jpg.xmp"
    sidecar.write_bytes(with_machine_tags(None, [MachineTag("old", 1)]))
    given = Keywords.of(["Anna"], [("pet", "Bella")])
    tags = [MachineTag("dog", 1), MachineTag("sea", 1)]
    change = plan_tags(path, tags, keywords=given, refused=["sea"], embed=embed)
    again = MetadataChange.from_dict(json.loads(json.dumps(change.to_dict())))
    assert again == change
    apply_change(again)
    beside, inside = read_packet(sidecar.read_bytes()), read_existing(path.read_bytes())
    first, second = (inside, beside) if embed else (beside, inside)
    assert first.by_people == given
    assert second.by_people.flat == ()
    assert beside.keywords.flat == ("Anna", "Bella", "dog")
    assert beside.refused == ("sea",)
    assert plan_tags(path, tags, keywords=given, refused=["sea"], embed=embed).kind == "unchanged"
    assert plan_tags(path, tags, embed=embed).kind == "unchanged"
