import pytest

from autotag.metadata.existing import read_existing
from autotag.metadata.iptc import read_iptc
from autotag.metadata.kinds import kind_of
from autotag.metadata.xmp import MachineTag, with_machine_tags

PEOPLE = ("Old One", "New York, NY")


@pytest.mark.parametrize(
    ("name", "kind", "keywords"),
    [
        ("jpeg", "jpeg", ()),
        ("jpeg_full", "jpeg", (*PEOPLE, "Fenster", "Straße")),
        ("jpeg_iptc", "jpeg", (*PEOPLE, "Köln")),
        ("jpeg_iptc_utf8", "jpeg", ("Köln",)),
        ("jpeg_extended", "jpeg", (*PEOPLE, "Far Away")),
        ("mpo", "jpeg", ()),
        ("png_full", "png", (*PEOPLE, "Fenster", "Straße")),
        ("png_compressed", "png", PEOPLE),
        ("webp_full", "webp", (*PEOPLE, "Fenster", "Straße")),
        ("tiff", "tiff", PEOPLE),
        ("tiff_iptc", "tiff", ("Haus",)),
        ("gif", "gif", ()),
        ("bmp", "bmp", ()),
        ("avif", "avif", PEOPLE),
    ],
)
def test_every_keyword_is_found_whatever_the_format(photograph, name, kind, keywords):
    existing = read_existing(photograph(name))
    assert existing.kind == kind
    assert existing.keywords.flat == keywords
    assert existing.by_people.flat == keywords
    assert existing.damage == ""


def test_latin_1_without_a_character_set_and_utf_8_with_one():
    assert read_iptc(b"\x1c\x02\x19\x00\x04K\xf6ln").keywords == ("Köln",)
    utf8 = read_iptc(b"\x1c\x01\x5a\x00\x03\x1b%G\x1c\x02\x19\x00\x05K\xc3\xb6ln")
    assert utf8.keywords == ("Köln",)
    assert utf8.says_utf8
    assert not read_iptc(b"\x1c\x02\x19\x00\x04K\xf6ln").is_utf8
    assert read_iptc(b"\x1c\x02\x19\x80\x04\x00\x00\x00\x02Ab\x1c\x02\x19\x00\x99cut").keywords == ("Ab",)


def test_a_person_s_description_is_found_and_a_camera_s_is_none(photograph):
    assert read_existing(photograph("jpeg_iptc_utf8")).description == "by hand"
    from PIL import Image

    for text, expected in {
        "Our garden": "Our garden",
        "My first digital camera, a present": "My first digital camera, a present",
        "OLYMPUS DIGITAL CAMERA         ": "",
        "Maker": "",
        "cof": "",
    }.items():
        tags = Image.Exif()
        tags[0x010E] = text
        tags[0x010F] = "MAKER"
        jpeg = photograph("jpeg")
        body = tags.tobytes()
        segment = b"\xff\xe1" + (len(body) + 2).to_bytes(2) + body
        assert read_existing(jpeg[:2] + segment + jpeg[2:]).description == expected


def test_the_machine_s_tags_are_told_from_people_s(photograph, human_packet):
    packet = with_machine_tags(human_packet, [MachineTag("dog", 0.5)], date="2026")
    existing = read_existing(photograph("jpeg_full").replace(human_packet, human_packet))
    assert existing.machine_tags == ()
    from autotag.metadata.splicing import spliced

    existing = read_existing(spliced(photograph("jpeg_full"), packet))
    assert existing.keywords.flat == (*PEOPLE, "dog", "Fenster", "Straße")
    assert existing.by_people.flat == (*PEOPLE, "Fenster", "Straße")
    assert [tag.text for tag in existing.machine_tags] == ["dog"]


@pytest.mark.parametrize("name", ["jpeg_full", "png_full", "webp_full", "tiff", "avif"])
def test_a_file_that_is_cut_short_anywhere_is_read_without_an_exception(photograph, name):
    content = photograph(name)
    for end in range(0, len(content), max(1, len(content) // 150)):
        read_existing(content[:end])


def test_damaged_xmp_is_named(photograph, human_packet):
    existing = read_existing(photograph("jpeg_full").replace(b"</rdf:RDF>", b"</rdf:RDX>"))
    assert "well-formed" in existing.damage
    assert existing.keywords.flat == ("Fenster", "Straße")


def test_a_kind_is_told_by_the_content(photograph):
    assert kind_of(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic") == "heif"
    assert kind_of(b"\0\0\0\x1cftypmif1\0\0\0\0avifmif1") == "avif"
    assert kind_of(b"no picture") == "other"


def test_a_tag_that_is_gone_from_the_iptc_keywords_is_deleted(photograph):
    from autotag.metadata.splicing import spliced

    packet = with_machine_tags(
        None, [MachineTag("dog", 0.5, in_iptc=True), MachineTag("sea", 0.4)], date="2026"
    )
    assert read_existing(spliced(photograph("jpeg_iptc"), packet)).refusals.tags == ("dog",)
    assert read_existing(spliced(photograph("jpeg"), packet)).refusals.tags == ()
