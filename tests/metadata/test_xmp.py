from __future__ import annotations

import random

import pytest

from autotag.metadata.keywords import Keywords
from autotag.metadata.xmp import MachineTag, Packet, read_packet, with_machine_tags, without_machine_tags

DOG = MachineTag("dog", 0.31234, "clip", "1.0", path=("Animal", "dog"))
TREE = MachineTag("tree", 0.2, "clip", "1.0")


def written(packet: bytes | None, *tags: MachineTag, **options: object) -> bytes:
    after = with_machine_tags(packet, tags, **{"date": "2026-01-01", **options})
    assert after is not None
    return after


def test_every_field_gets_people_s_keywords_first_and_then_the_machine_s(human_packet):
    text = written(human_packet, DOG, TREE).decode()
    subject = text[text.index("<exoticdc:subject>") : text.index("</exoticdc:subject>")]
    assert [line.strip() for line in subject.splitlines() if "rdf:li" in line] == [
        "<rdf:li>Old One</rdf:li>",
        "<rdf:li>New York, NY</rdf:li>",
        "<rdf:li>dog</rdf:li>",
        "<rdf:li>tree</rdf:li>",
    ]
    hierarchy = text[text.index("<lr:hier") : text.index("</lr:hier")]
    assert [line.strip()[8:-9] for line in hierarchy.splitlines() if "rdf:li" in line] == [
        "Old One", "New York, NY", "Animal", "Animal|dog", "tree",
    ]  # fmt: skip
    tags_list = text[text.index("<digiKam:") : text.index("</digiKam:")]
    assert [line.strip()[8:-9] for line in tags_list.splitlines() if "rdf:li" in line] == [
        "Old One", "New York, NY", "Animal/dog", "tree",
    ]  # fmt: skip


def test_the_record_has_score_model_version_and_date(human_packet):
    packet = read_packet(written(human_packet, DOG))
    assert packet.machine_tags == (
        MachineTag("dog", 0.3123, "clip", "1.0", "2026-01-01", path=("Animal", "dog")),
    )
    assert packet.by_people.flat == ("Old One", "New York, NY")


def test_what_is_not_understood_keeps_every_byte(human_packet):
    after = written(human_packet, DOG, description="a dog")
    assert human_packet[: human_packet.index(b"New York")] == after[: after.index(b"New York")]
    rest = human_packet[human_packet.index(b"</rdf:Bag>") : human_packet.index(b"</rdf:Description>")]
    assert rest in after
    assert after.endswith(human_packet[human_packet.index(b"</rdf:RDF>") :])


def test_removing_the_machine_s_tags_gives_the_packet_back_byte_for_byte(human_packet):
    assert without_machine_tags(written(human_packet, DOG, TREE, description="a dog")) == human_packet
    assert without_machine_tags(human_packet) == human_packet


def test_nothing_is_left_of_a_packet_that_autotag_began():
    assert without_machine_tags(written(None, DOG, description="x", sidecar_for="CR2")) is None
    assert with_machine_tags(written(None, DOG), ()) is None
    assert with_machine_tags(None, ()) is None


def test_a_second_run_changes_no_byte_not_even_the_date(human_packet):
    once = written(human_packet, DOG, TREE, description="a dog", date="2026-01-01")
    assert written(once, DOG, TREE, description="a dog", date="2027-07-07") == once


def test_a_packet_that_another_program_rewrote_in_another_order_is_left_as_it_is(human_packet):
    once = written(human_packet, DOG, TREE)
    lines = [b"<rdf:li>dog</rdf:li>", b"<rdf:li>tree</rdf:li>"]
    turned = once.replace(lines[0], b"@", 1).replace(lines[1], lines[0], 1).replace(b"@", lines[1], 1)
    assert turned != once
    assert written(turned, DOG, TREE, date="2027") == turned


def test_new_settings_replace_the_machine_s_tags_only_and_keep_the_dates_of_those_that_stay(human_packet):
    once = written(human_packet, DOG, TREE, description="a dog", date="2026")
    again = written(once, TREE, MachineTag("sea", 0.5), description="the sea", date="2027")
    packet = read_packet(again)
    assert packet.keywords.flat == ("Old One", "New York, NY", "tree", "sea")
    assert packet.description == "the sea"
    assert [(tag.text, tag.date) for tag in packet.machine_tags] == [("tree", "2026"), ("sea", "2027")]


def test_a_tag_that_a_person_gave_is_never_the_machine_s(human_packet):
    tags = (MachineTag("OLD one", 0.9), MachineTag("Straße", 0.5), MachineTag("strasse", 0.4))
    after = written(human_packet, *tags, elsewhere=Keywords.of(["beach"]))
    assert [tag.text for tag in read_packet(after).machine_tags] == ["Straße"]
    known = with_machine_tags(human_packet, [MachineTag("beach", 0.9)], elsewhere=Keywords.of(["Beach"]))
    assert known == human_packet


def test_accents_written_in_two_ways_are_the_same_keyword():
    assert with_machine_tags(None, [MachineTag("cafe\u0301", 1)], elsewhere=Keywords.of(["CAFÉ"])) is None


def test_keywords_from_elsewhere_are_copied_and_a_copy_goes_with_its_original():
    elsewhere = Keywords.of(["Oma"], [("Ort", "Köln")])
    after = written(None, TREE, elsewhere=elsewhere)
    assert read_packet(after).keywords.flat == ("Oma", "Köln", "tree")
    assert read_packet(after).by_people == Keywords()
    assert read_packet(after).by_people_or_copied.flat == ("Oma", "Köln")
    assert b"<rdf:li>Ort|K\xc3\xb6ln</rdf:li>" in after
    assert read_packet(written(after, TREE, elsewhere=Keywords.of(["Oma"]))).keywords.flat == ("Oma", "tree")
    assert without_machine_tags(after) is None


def test_copies_stay_where_their_originals_cannot_be_read():
    left = without_machine_tags(
        written(None, TREE, elsewhere=Keywords.of(["Oma"])), keep=Keywords.of(["Oma"])
    )
    assert left is not None
    assert read_packet(left).keywords.flat == ("Oma",)
    assert read_packet(left).machine_tags == ()


def test_a_tag_that_a_person_deleted_is_not_added_again(human_packet):
    once = written(human_packet, DOG, TREE)
    deleted = once.replace(b"\n     <rdf:li>tree</rdf:li>", b"", 1).replace(b"<rdf:li>tree</rdf:li>", b"")
    after = written(deleted, DOG, TREE)
    assert read_packet(after).refused == ("tree",)
    assert "tree" not in read_packet(after).keywords.flat
    assert written(after, DOG, TREE, date="2028") == after


def test_a_tag_that_a_person_adds_between_two_runs_stays(human_packet):
    once = written(human_packet, DOG)
    edited = once.replace(b"<rdf:li>dog</rdf:li>", b"<rdf:li>dog</rdf:li><rdf:li>Rex</rdf:li>", 1)
    assert "Rex" in read_packet(written(edited, TREE)).by_people.flat
    left = without_machine_tags(edited)
    assert left is not None
    assert read_packet(left).keywords.flat == ("Old One", "New York, NY", "Rex")


def test_a_person_s_description_stays_and_so_does_the_machine_s_once_edited(human_packet):
    alt = b"<exoticdc:description><rdf:Alt><rdf:li xml:lang='x-default'>%s</rdf:li></rdf:Alt></exoticdc:description>"  # noqa: E501
    described = human_packet.replace(b"<foo:deep>", alt % b"By hand" + b"<foo:deep>")
    assert read_packet(written(described, DOG, description="machine")).description == "By hand"
    ours = written(human_packet, DOG, description="machine")
    edited = ours.replace(b'x-default">machine<', b'x-default">mended<')
    again = written(edited, DOG, description="machine 2")
    assert read_packet(again).description == "mended"
    assert read_packet(again).description_by_people
    blank = human_packet.replace(b"<foo:deep>", alt % b" " + b"<foo:deep>")
    assert read_packet(written(blank, DOG, description="machine")).description == "machine"


def test_a_new_sidecar_says_which_file_it_is_for():
    assert read_packet(written(None, DOG, sidecar_for="CR2")).sidecar_for == "CR2"


@pytest.mark.parametrize("text", ["AC/DC", "a|b", "<&>\"'", "Ünï ☃ 🎈", "x\0y\ud800z", "  two \n lines "])
def test_every_text_reads_back_as_one_keyword(text):
    packet = written(None, MachineTag(text, 1.0), description=text)
    read = read_packet(packet)
    assert len(read.machine_tags) == 1
    assert read.machine_tags[0].text in read.keywords.flat
    assert written(packet, MachineTag(text, 1.0), description=text) == packet
    assert without_machine_tags(packet) is None


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"no xml",
        b"<a/>",
        b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF/></x:xmpmeta>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/>',
        b"<a>" * 200 + b"</a>" * 200,
        b'<?xml version="1.0" encoding="klingon"?><a/>',
    ],
)
def test_what_is_no_xmp_is_refused(packet):
    with pytest.raises(ValueError, match="^its? "):
        read_packet(packet)


def test_a_keyword_that_xmp_does_not_allow_there_is_read_but_not_written_to(human_packet):
    odd = human_packet.replace(b"foo:rating", b"exoticdc:subject='alone' foo:rating").replace(
        human_packet[human_packet.index(b"   <exoticdc:subject>") : human_packet.index(b"   <foo:deep>")], b""
    )
    assert read_packet(odd).keywords.flat == ("alone",)
    with pytest.raises(ValueError, match="subject"):
        written(odd, DOG)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
def test_other_encodings_stay_what_they_are(human_packet, encoding):
    text = human_packet.decode().replace("Old One", "Höhe")
    text = text[text.index("<x:xmp") : text.index("</x:xmpmeta>") + len("</x:xmpmeta>")]
    declared = '<?xml version="1.0" encoding="ISO-8859-1"?>\n' if encoding == "latin-1" else ""
    packet = (declared + text).encode(encoding)
    after = written(packet, MachineTag("Straße ☃", 0.5))
    assert read_packet(after).keywords.flat == ("Höhe", "New York, NY", "Straße ☃")
    assert after.decode(encoding)
    assert without_machine_tags(after) == packet


SHAPES = {
    "closed RDF": b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#" />',
    "closed block": b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description r:about=""/></r:RDF>',  # noqa: E501
    "closed bag": b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:d="http://purl.org/dc/elements/1.1/">'
    b'<r:Description r:about=""><d:subject><r:Bag/></d:subject></r:Description></r:RDF>',
    "empty property": b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:d="http://purl.org/dc/elements/1.1/">'
    b'<r:Description r:about=""><d:subject/></r:Description></r:RDF>',
    "taken prefixes": b'<lr:RDF xmlns:lr="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:dc="http://example.org/" '  # noqa: E501
    b'xmlns:autotag="urn:other"><lr:Description/></lr:RDF>',
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_rdf_takes_tags_and_gives_them_back(shape):
    after = written(SHAPES[shape], DOG, TREE, description="a dog")
    assert read_packet(after).keywords.flat == ("dog", "tree")
    assert read_packet(after).description == "a dog"
    assert written(after, DOG, TREE, description="a dog", date="2028") == after
    left = without_machine_tags(after)
    assert left is not None
    assert read_packet(left) == Packet()


def test_a_record_is_read_in_every_shape_of_a_structure():
    packet = written(None, DOG).decode()
    start = packet.index("    <rdf:li autotag:tag=")
    end = packet.index("/>", start) + 2
    fields = "<autotag:tag>dog</autotag:tag><autotag:score>0.3123</autotag:score>"
    for inside in (
        f"<rdf:li rdf:parseType='Resource'>{fields}</rdf:li>",
        f"<rdf:li><rdf:Description>{fields}</rdf:Description></rdf:li>",
        "<rdf:li><rdf:Description autotag:tag='dog' autotag:score='0.3123'/></rdf:li>",
    ):
        assert read_packet((packet[:start] + inside + packet[end:]).encode()).machine_tags == (
            MachineTag("dog", 0.3123),
        )


def test_random_runs_one_after_the_other_lose_no_keyword_of_a_person(human_packet):
    chance = random.Random(20)  # noqa: S311 - the same every time
    words = ["dog", "tree", "sea", "Old One", "Köln", "AC/DC", "old ONE", "night sky", "a|b", "x & y"]
    for _ in range(30):
        packet = human_packet
        for _ in range(chance.randint(1, 4)):
            tags = [
                MachineTag(word, chance.random(), path=chance.choice([(), ("Top", word)]))
                for word in chance.sample(words, chance.randint(0, 6))
            ]
            after = with_machine_tags(packet, tags, description=chance.choice(["", "text"]), date="2026")
            assert after is not None
            assert with_machine_tags(after, tags, description="", date="2027") is not None
            assert read_packet(after).keywords.flat[:2] == ("Old One", "New York, NY")
            packet = after
        assert without_machine_tags(packet) == human_packet


def test_no_namespace_gets_a_second_prefix(human_packet):
    """Adobe's XMP Toolkit, and exiv2 with it, would read nothing of such a packet."""
    packet = with_machine_tags(human_packet, [MachineTag("dog", 1.0)], description="a dog", date="2026")
    assert packet.count(b'"http://purl.org/dc/elements/1.1/"') == 2
    assert packet.count(b'xmlns:exoticdc="http://purl.org/dc/elements/1.1/"') == 2
    assert b"<exoticdc:description>" in packet
