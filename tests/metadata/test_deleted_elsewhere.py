"""What a person deletes in another program does not come back; what a person wrote is never taken away."""

from __future__ import annotations

import re

import pytest

from autotag.metadata import apply_change, plan_tags, undo_change
from autotag.metadata.existing import read_existing
from autotag.metadata.keywords import Keywords
from autotag.metadata.splicing import embedded_packet, spliced
from autotag.metadata.xmp import KEYWORD_FIELDS, MachineTag, read_packet, with_machine_tags

TAGS = [MachineTag("running", 0.5), MachineTag("dog", 0.4, path=("Animal", "dog"))]
ADOBE = ("dc:subject", "lr:hierarchicalSubject")
HEAD = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'xmlns:lr="http://ns.adobe.com/lightroom/1.0/" xmlns:digiKam="http://www.digikam.org/ns/1.0/">'
)


def packet_of(field, *values):
    """XMP by a person with one field."""
    container = "Seq" if field == "digiKam:TagsList" else "Bag"
    entries = "".join(f"<rdf:li>{value}</rdf:li>" for value in values)
    properties = f"<{field}><rdf:{container}>{entries}</rdf:{container}></{field}>"
    return f"{HEAD}{properties}</rdf:Description></rdf:RDF></x:xmpmeta>".encode()


def written(packet, tags=TAGS, **options):
    after = with_machine_tags(packet, tags, date="2026", **options)
    assert after is not None
    return after


def edited(packet, fields, entry, instead=""):
    """The packet as a program leaves it that knows these fields only: without an entry, or with another."""
    text = packet.decode()
    for field in fields:
        inside = re.search(rf"<{field}>.*?</{field}>", text, re.DOTALL)
        if inside is not None:
            new = "".join(f"<rdf:li>{value}</rdf:li>" for value in instead.split(";") if value)
            changed = inside[0].replace(f"<rdf:li>{entry}</rdf:li>", new)
            text = text.replace(inside[0], changed)
    return text.encode()


@pytest.mark.parametrize("fields", [KEYWORD_FIELDS, ADOBE, ("dc:subject",), ("digiKam:TagsList",), ADOBE[1:]])
def test_a_machine_tag_that_is_missing_in_any_field_is_deleted(fields):
    deleted = edited(written(None), fields, "running")
    again = written(deleted)
    assert read_packet(again).keywords.flat == ("dog",)
    assert read_packet(again).refused == ("running",)
    assert written(again) == again


def test_a_nested_machine_tag_is_deleted_by_its_path():
    deleted = edited(written(None), ("lr:hierarchicalSubject",), "Animal|dog")
    assert read_packet(written(deleted)).refused == ("dog",)
    kept = edited(written(None), ("lr:hierarchicalSubject",), "Animal")
    assert read_packet(written(kept)).refused == ()


def test_a_program_that_does_not_know_a_field_deletes_nothing():
    text = written(None).decode()
    dropped = re.sub(r"<digiKam:TagsList>.*?</digiKam:TagsList>", "", text, flags=re.DOTALL).encode()
    assert read_packet(written(dropped)).keywords.flat == ("running", "dog")


def test_a_person_s_keyword_goes_with_its_original():
    once = written(packet_of("dc:subject", "Anna", "garden"))
    again = written(edited(once, ADOBE, "Anna"))
    assert read_packet(again).keywords.flat == ("garden", "running", "dog")
    assert b"Anna" not in again


def test_a_copy_that_a_person_deletes_is_not_made_again_and_the_original_stays():
    once = written(packet_of("digiKam:TagsList", "People/Anna", "garden"))
    again = written(edited(edited(once, ADOBE, "Anna"), ADOBE, "People|Anna"))
    assert again.count(b"People/Anna") == 1
    assert "Anna" not in again.decode().partition("<dc:subject>")[2].partition("</dc:subject>")[0]
    assert written(again) == again
    assert "garden" in again.decode().partition("<dc:subject>")[2].partition("</dc:subject>")[0]


def test_a_machine_tag_that_a_person_files_elsewhere_is_theirs():
    moved = edited(written(None), ("lr:hierarchicalSubject",), "running", "Sports;Sports|running")
    again = written(moved)
    assert read_packet(again).by_people.paths == (("Sports", "running"),)
    assert "running" in read_packet(again).keywords.flat
    assert [tag.text for tag in read_packet(again).machine_tags] == ["dog"]
    deleted = edited(again, KEYWORD_FIELDS, "Sports|running")
    assert "running" not in read_packet(written(edited(deleted, KEYWORD_FIELDS, "running"))).keywords.flat


def test_a_machine_tag_in_another_case_is_the_person_s():
    renamed = edited(written(None), ("dc:subject",), "running", "Running")
    again = written(renamed)
    assert read_packet(again).by_people.flat == ("Running",)
    assert written(again) == again


def test_an_echo_of_another_program_does_not_bring_a_deleted_tag_back():
    echo = (
        b'<MP:LastKeywordXMP xmlns:MP="http://ns.microsoft.com/photo/1.0/"><rdf:Bag><rdf:li>running</rdf:li>'
        b"</rdf:Bag></MP:LastKeywordXMP></rdf:Description></rdf:RDF>"
    )
    once = written(packet_of("dc:subject", "garden")).replace(b"</rdf:Description></rdf:RDF>", echo)
    once = once.replace(b"</rdf:Description>\n</rdf:RDF>", echo)
    assert b"LastKeywordXMP" in once
    for _ in range(3):
        once = written(edited(once, ADOBE, "running"))
        assert b"<rdf:li>running</rdf:li>" not in once.partition(b"<dc:subject>")[2].partition(b"</dc:")[0]


def test_an_echo_of_a_dropped_machine_tag_never_becomes_the_person_s(photograph, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(photograph("jpeg_full"))  # with keywords of Windows in EXIF
    people = read_existing(path.read_bytes()).by_people.flat
    apply_change(plan_tags(path, [MachineTag("Fenster", 1), MachineTag("dog", 1)], embed=True))
    content = path.read_bytes()
    windows = "Fenster;Straße".encode("utf-16-le")
    echo = "dog;Neu\0\0\0\0\0\0\0".encode("utf-16-le")
    assert windows in content
    path.write_bytes(content.replace(windows, echo))
    for tags in (["cat"], ["cow"], [], ["sea"]):
        apply_change(plan_tags(path, [MachineTag(tag, 1) for tag in tags], embed=True))
        found = read_existing(path.read_bytes())
        assert set(found.by_people.flat) == {*people, "Neu"} - {"Fenster", "Straße"}
        assert "dog" not in read_packet(found.packet).by_people.flat
        assert plan_tags(path, [MachineTag(tag, 1) for tag in tags], embed=True).kind == "unchanged"
    apply_change(plan_tags(path, [MachineTag("dog", 1)], embed=True))
    assert [tag.text for tag in read_existing(path.read_bytes()).machine_tags] == ["dog"]


def test_an_echo_in_the_packet_of_a_dropped_machine_tag_never_becomes_the_person_s():
    echo = (
        b'<MP:LastKeywordXMP xmlns:MP="http://ns.microsoft.com/photo/1.0/"><rdf:Bag><rdf:li>running</rdf:li>'
        b"</rdf:Bag></MP:LastKeywordXMP></rdf:Description></rdf:RDF>"
    )
    once = written(packet_of("dc:subject", "garden")).replace(b"</rdf:Description>\n</rdf:RDF>", echo)
    once = once.replace(b"</rdf:Description></rdf:RDF>", echo)
    assert b"LastKeywordXMP" in once
    for tags in ([MachineTag("cat", 1)], [], [MachineTag("cow", 1)]):
        once = written(once, tags)
        assert read_packet(once).by_people.flat == ("garden",)


def test_a_keyword_deleted_in_the_photograph_goes_from_its_sidecar(tmp_path, photograph):
    path = tmp_path / "a.jpg"
    path.write_bytes(spliced(photograph("jpeg"), packet_of("dc:subject", "Anna", "garden")))
    apply_change(plan_tags(path, TAGS))
    sidecar = tmp_path / "a.jpg.xmp"
    assert "Anna" in read_packet(sidecar.read_bytes()).keywords.flat
    path.write_bytes(spliced(path.read_bytes(), packet_of("dc:subject", "garden")))
    apply_change(plan_tags(path, TAGS))
    assert b"Anna" not in sidecar.read_bytes()


def test_a_tag_deleted_in_the_photograph_is_not_added_to_its_sidecar(tmp_path, photograph):
    path = tmp_path / "a.jpg"
    path.write_bytes(photograph("jpeg"))
    (tmp_path / "a.jpg.xmp").write_bytes(packet_of("dc:subject", "garden"))
    apply_change(plan_tags(path, TAGS, embed=True))
    packet = edited(embedded_packet(path.read_bytes()), KEYWORD_FIELDS, "running")
    path.write_bytes(spliced(path.read_bytes(), packet))
    for _ in range(2):
        apply_change(plan_tags(path, TAGS, embed=True))
        assert "running" not in read_existing(path.read_bytes()).keywords.flat
        assert "running" not in read_packet((tmp_path / "a.jpg.xmp").read_bytes()).keywords.flat


def test_copies_stay_while_the_photograph_cannot_be_read(tmp_path, photograph):
    path = tmp_path / "a.png"
    path.write_bytes(spliced(photograph("png"), packet_of("dc:subject", "Anna")))
    apply_change(plan_tags(path, TAGS))
    path.write_bytes(path.read_bytes()[:-10])
    apply_change(plan_tags(path, TAGS[:1]))
    assert "Anna" in read_packet((tmp_path / "a.png.xmp").read_bytes()).keywords.flat


def shared_pair(folder, photograph):
    """A photograph whose copy of Anna comes from a sidecar that it shares."""
    folder.mkdir(exist_ok=True)
    for name in ("pair.jpg", "pair.png"):
        (folder / name).write_bytes(photograph(name[-3:].replace("jpg", "jpeg")))
    shared = folder / "pair.xmp"
    shared.write_bytes(packet_of("digiKam:TagsList", "People/Anna", "garden"))
    return folder / "pair.jpg", shared


def people_of(path):
    """People's keywords in a photograph and in the sidecar with its whole name."""
    found = read_existing(path.read_bytes()).by_people
    beside = path.with_name(path.name + ".xmp")
    return found | read_packet(beside.read_bytes()).by_people if beside.exists() else found


def removed(path, shared):
    shared.unlink()
    return path


def renamed_away(path, shared):
    shared.rename(shared.with_name("a dog.xmp"))
    return path


def moved_to_where_the_name_is_used_again(path, shared):
    other, theirs = shared_pair(path.parent / "other", lambda _: path.with_name("pair.png").read_bytes())
    theirs.write_bytes(packet_of("dc:subject", "Rex"))
    for name in (path.name, f"{path.name}.xmp"):
        if path.with_name(name).exists():
            path.with_name(name).replace(other.with_name(name))
    return other


@pytest.mark.parametrize("embed", [True, False])
@pytest.mark.parametrize("lose", [removed, renamed_away, moved_to_where_the_name_is_used_again])
def test_a_copy_is_the_person_s_once_the_file_with_the_original_is_gone(tmp_path, photograph, embed, lose):
    path, shared = shared_pair(tmp_path / "album", photograph)
    apply_change(plan_tags(path, TAGS, embed=embed))
    assert people_of(path).flat == ()
    path = lose(path, shared)
    for tags in (TAGS[:1], [], TAGS):
        change = plan_tags(path, tags, embed=embed)
        assert "Anna" not in change.removed
        apply_change(change)
    assert people_of(path).paths == (("People", "Anna"),)
    assert people_of(path).flat == ("garden", "Anna")
    assert plan_tags(path, TAGS, embed=embed).kind == "unchanged"


@pytest.mark.parametrize("embed", [True, False])
def test_a_copy_goes_when_its_original_is_deleted_in_a_shared_sidecar_that_is_there(
    tmp_path, photograph, embed
):
    path, shared = shared_pair(tmp_path / "album", photograph)
    apply_change(plan_tags(path, TAGS, embed=embed))
    shared.write_bytes(packet_of("digiKam:TagsList", "garden"))
    change = plan_tags(path, TAGS, embed=embed)
    assert change.removed == ("Anna",)
    apply_change(change)
    target = path if embed else path.with_name("pair.jpg.xmp")
    assert b"Anna" not in target.read_bytes()
    assert b"garden" in target.read_bytes()


def test_copies_of_old_records_which_name_sources_otherwise_stay(tmp_path, photograph):
    path, sidecar = with_sidecar(tmp_path, photograph, "Oma")
    apply_change(plan_tags(path, TAGS, embed=True))
    copy = embedded_packet(path.read_bytes())
    old = re.sub(rb"<rdf:li>[0-9a-f]{16}</rdf:li>", b"<rdf:li>0123456789abcdef</rdf:li>", copy)
    path.write_bytes(spliced(path.read_bytes(), old))
    beside = re.sub(rb"\s*<autotag:Id>.*?</autotag:Id>", b"", sidecar.read_bytes(), flags=re.DOTALL)
    sidecar.write_bytes(beside.replace(b"<rdf:li>Oma</rdf:li>", b"", 1))  # a circle: each has copies only
    for embed in (False, True):
        apply_change(plan_tags(path, TAGS, embed=embed))
        assert people_of(path).flat == ("Oma",)


def test_copies_of_old_records_which_name_no_source_stay_when_their_original_is_nowhere(tmp_path, photograph):
    path, shared = shared_pair(tmp_path / "album", photograph)
    apply_change(plan_tags(path, TAGS))
    sidecar = path.with_name("pair.jpg.xmp")
    old = re.sub(rb"<autotag:CopiedFrom>.*?</autotag:CopiedFrom>", b"", sidecar.read_bytes(), flags=re.DOTALL)
    sidecar.write_bytes(old)
    apply_change(plan_tags(path, TAGS))
    assert people_of(path).flat == ()  # the original is there, so they are copies still
    sidecar.write_bytes(old)
    shared.write_bytes(packet_of("dc:subject", "Rex"))
    apply_change(plan_tags(path, TAGS[:1]))
    assert people_of(path).flat == ("garden", "Anna")


@pytest.mark.parametrize("embed", [True, False])
@pytest.mark.parametrize("is_there", [True, False])
def test_undo_in_an_edited_file_keeps_copies_whose_source_is_gone(tmp_path, photograph, embed, is_there):
    path, shared = shared_pair(tmp_path / "album", photograph)
    change = plan_tags(path, TAGS, embed=embed)
    apply_change(change)
    target = path if embed else path.with_name("pair.jpg.xmp")
    later = plan_tags(path, TAGS[:1], embed=embed)
    apply_change(later)  # an edit, as far as the first change knows
    if not is_there:
        shared.unlink()
    undo_change(change)
    found = read_existing(target.read_bytes()).keywords if embed else Keywords()
    if not embed and target.exists():
        found = read_packet(target.read_bytes()).keywords
    assert found.flat == (() if is_there else ("garden", "Anna"))


def without_description(packet, instead=""):
    return re.sub(rb"(<dc:description>.*?)<rdf:li [^>]*>.*?</rdf:li>", rb"\1" + instead.encode(), packet,
                  flags=re.DOTALL)  # fmt: skip


def test_a_deleted_caption_does_not_come_back():
    deleted = without_description(written(None, description="a rocket"))
    again = written(deleted, description="a rocket")
    assert read_packet(again).description == ""
    assert b"a rocket" in again.partition(b"DescriptionRefused")[2]
    assert written(again, description="a rocket in the air") == again
    assert read_packet(written(None, description="a rocket")).description == "a rocket"


def test_a_caption_deleted_in_the_photograph_is_not_written_beside_it(tmp_path, photograph):
    path = tmp_path / "a.jpg"
    path.write_bytes(photograph("jpeg"))
    apply_change(plan_tags(path, TAGS, "a rocket", embed=True))
    packet = without_description(embedded_packet(path.read_bytes()))
    path.write_bytes(spliced(path.read_bytes(), packet))
    apply_change(plan_tags(path, TAGS, "a rocket"))
    assert read_packet((tmp_path / "a.jpg.xmp").read_bytes()).description == ""


def test_fields_that_are_not_chosen_lose_what_the_machine_wrote_and_keep_what_people_wrote():
    once = written(packet_of("lr:hierarchicalSubject", "Places|Paris"))
    again = written(once, fields=("dc:subject",))
    assert b"TagsList" not in again
    assert again.count(b"<rdf:li>Places|Paris</rdf:li>") == 1
    assert b"Animal|dog" not in again.partition(b"<lr:hier")[2].partition(b"</lr:hier")[0]
    assert set(read_packet(again).keywords.flat) == {"running", "dog", "Paris"}
    assert written(again, fields=("dc:subject",)) == again


def test_a_tag_that_no_chosen_field_can_hold_is_not_recorded():
    fields = ("lr:hierarchicalSubject",)
    once = written(None, [MachineTag("a|b", 1), MachineTag("sea", 1)], fields=fields)
    assert [tag.text for tag in read_packet(once).machine_tags] == ["sea"]
    assert written(once, [MachineTag("a|b", 1), MachineTag("sea", 1)], fields=fields) == once


def with_sidecar(tmp_path, photograph, *words):
    path = tmp_path / "a.jpg"
    path.write_bytes(photograph("jpeg"))
    sidecar = tmp_path / "a.jpg.xmp"
    sidecar.write_bytes(packet_of("dc:subject", *words))
    return path, sidecar


def test_a_deleted_sidecar_that_autotag_makes_again_has_the_original_of_the_copy(tmp_path, photograph):
    path, sidecar = with_sidecar(tmp_path, photograph, "Oma")
    apply_change(plan_tags(path, TAGS, embed=True))
    sidecar.unlink()
    for _ in range(2):
        apply_change(plan_tags(path, TAGS))
        assert read_packet(sidecar.read_bytes()).by_people.flat == ("Oma",)
    assert plan_tags(path, TAGS).kind == "unchanged"
    apply_change(plan_tags(path, TAGS, embed=True))
    assert people_of(path).flat == ("Oma",)
    sidecar.write_bytes(edited(sidecar.read_bytes(), KEYWORD_FIELDS, "Oma"))
    for embed in (False, False, True):
        apply_change(plan_tags(path, TAGS, embed=embed))
        assert people_of(path).flat == ()
    assert "Oma" not in read_existing(path.read_bytes()).keywords.flat


def test_a_sidecar_that_another_program_made_again_is_not_the_one_that_copies_came_from(tmp_path, photograph):
    path, sidecar = with_sidecar(tmp_path, photograph, "Oma", "Opa")
    apply_change(plan_tags(path, TAGS, embed=True))
    sidecar.write_bytes(packet_of("dc:subject", "Opa"))
    apply_change(plan_tags(path, TAGS, embed=True))
    assert read_existing(path.read_bytes()).by_people.flat == ("Oma",)  # Opa is a copy still
    assert people_of(path).flat == ("Oma", "Opa")


@pytest.mark.parametrize("via_link", [False, True])
def test_copies_follow_their_originals_through_a_link_and_in_a_renamed_folder(tmp_path, photograph, via_link):
    folder = tmp_path / "album"
    folder.mkdir()
    path, sidecar = with_sidecar(folder, photograph, "Oma")
    apply_change(plan_tags(path, TAGS, embed=True))
    other = tmp_path / "other"
    if via_link:
        other.symlink_to(folder)
    else:
        folder.rename(other)
    path, sidecar = other / path.name, other / sidecar.name
    assert plan_tags(path, TAGS, embed=True).kind == "unchanged"
    sidecar.write_bytes(edited(sidecar.read_bytes(), KEYWORD_FIELDS, "Oma"))
    apply_change(plan_tags(path, TAGS, embed=True))
    assert people_of(path).flat == ()


@pytest.mark.parametrize("is_edited", [False, True])
def test_undo_keeps_a_copy_whose_sidecar_was_deleted(tmp_path, photograph, is_edited):
    path, sidecar = with_sidecar(tmp_path, photograph, "Oma")
    change = plan_tags(path, TAGS, embed=True)
    apply_change(change)
    sidecar.unlink()
    if is_edited:
        packet = embedded_packet(path.read_bytes())
        path.write_bytes(spliced(path.read_bytes(), packet.replace(b"running", b"walking", 1)))
    notes = undo_change(change)
    assert any("it keeps Oma" in note for note in notes)
    assert "Oma" in read_existing(path.read_bytes()).by_people.flat


def test_a_rejected_tag_which_a_person_has_in_a_field_of_another_program_stays_theirs():
    theirs = packet_of("dc:subject").replace(
        b"<dc:subject>", b"<m:LastKeywordXMP xmlns:m='http://ns.microsoft.com/photo/1.0/'><rdf:Bag>"
        b"<rdf:li>dog</rdf:li></rdf:Bag></m:LastKeywordXMP><dc:subject>",
    )  # fmt: skip
    once = written(theirs, TAGS[:1], refused=("dog",))
    assert read_packet(once).by_people.flat == ("dog",)
    assert written(once, TAGS[:1], refused=("dog",)) == once
    assert read_packet(written(once, TAGS)).by_people.flat == ("dog",)


def test_a_keyword_that_no_chosen_field_can_hold_goes_to_the_field_of_all_keywords():
    after = written(None, fields=("digiKam:TagsList",), keywords=Keywords.of(["AC/DC"]))
    assert read_packet(after).by_people.flat == ("AC/DC",)


def test_a_keyword_of_a_plan_which_is_there_already_changes_nothing_the_second_time(tmp_path, photograph):
    path, _ = with_sidecar(tmp_path, photograph, "Oma")
    path.with_suffix(".xmp").write_bytes(packet_of("dc:subject", "Opa"))
    apply_change(plan_tags(path, TAGS, embed=True, keywords=Keywords.of(["Oma"])))
    assert plan_tags(path, TAGS, embed=True).kind == "unchanged"
