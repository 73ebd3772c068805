import io
import random

import pytest
from PIL import Image, ImageSequence

from autotag.metadata.deltas import delta_between, own_bytes, rebuilt
from autotag.metadata.existing import read_existing
from autotag.metadata.splicing import embedded_packet, objection_to_splicing, spliced
from autotag.metadata.xmp import MachineTag, with_machine_tags

SPLICED = (
    "jpeg", "jpeg_full", "jpeg_progressive", "jpeg_motion", "jpeg_filled", "mpo", "png", "png_full",
    "png_compressed", "webp", "webp_lossless", "webp_full", "webp_animated", "webp_trailer",
)  # fmt: skip
TAGS = [MachineTag("dog", 0.5, "clip", "1"), MachineTag("Straße", 0.4)]


def packet_for(content):
    return with_machine_tags(embedded_packet(content), TAGS, date="2026", wrapped=True)


def frames(content):
    with Image.open(io.BytesIO(content)) as image:
        return [
            (frame.size, frame.convert("RGBA").tobytes(), frame.info.get("icc_profile"))
            for frame in ImageSequence.Iterator(image)
        ]


@pytest.mark.parametrize("name", SPLICED)
def test_pixels_profile_and_exif_stay_and_the_packet_reads_back(photograph, name):
    before = photograph(name)
    assert objection_to_splicing(before, read_existing(before)) is None
    packet = packet_for(before)
    after = spliced(before, packet)
    assert embedded_packet(after) == packet
    assert frames(after) == frames(before)
    with Image.open(io.BytesIO(before)) as old, Image.open(io.BytesIO(after)) as new:
        assert dict(new.getexif()) == dict(old.getexif())
        assert new.getexif().get_ifd(0x8769) == old.getexif().get_ifd(0x8769)
        assert new.info["xmp"] == packet


@pytest.mark.parametrize("name", SPLICED)
def test_only_the_packet_differs(photograph, name):
    before = photograph(name)
    old = embedded_packet(before)
    after = spliced(before, packet_for(before))
    delta = delta_between(after, before)
    assert rebuilt(after, delta) == before
    assert own_bytes(delta) <= len(old or b"") + 600


@pytest.mark.parametrize("name", sorted(set(SPLICED) - {"png_compressed"}))
def test_the_old_packet_put_back_gives_the_old_file(photograph, name):
    before = photograph(name)
    back = spliced(spliced(before, packet_for(before)), embedded_packet(before))
    if name in ("webp", "webp_lossless", "webp_trailer"):
        assert len(back) == len(before) + 18  # the extended header stays; undo knows the bytes it had
    else:
        assert back == before


def test_random_packets_go_in_and_out_without_a_trace(photograph):
    chance = random.Random(7)  # noqa: S311 - the same every time
    for name in sorted(set(SPLICED) - {"png_compressed"}):
        before = photograph(name)
        start = spliced(before, None) if name.startswith("webp") else before
        content, old = start, embedded_packet(start)
        for _ in range(25):
            packet = chance.randbytes(chance.randint(0, 5000))
            content = spliced(content, packet)
            assert embedded_packet(content) == packet
            assert rebuilt(content, delta_between(content, before)) == before
        content = spliced(content, old)
        expected = spliced(spliced(start, b"any"), old) if name.startswith("webp") else before
        assert content == expected


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("jpeg_iptc", "IPTC"),
        ("jpeg_iptc_utf8", "IPTC"),
        ("jpeg_extended", "extended XMP"),
        ("jpeg_preview", "preview"),
        ("tiff", "TIFF"),
        ("gif", "GIF"),
        ("avif", "AVIF"),
        ("bmp", "BMP"),
    ],
)
def test_what_cannot_be_done_without_loss_is_not_done(photograph, name, reason):
    content = photograph(name)
    objection = objection_to_splicing(content, read_existing(content))
    assert objection is not None
    assert reason in objection


@pytest.mark.parametrize("name", ["jpeg_full", "png_full", "webp_full"])
def test_two_packets_or_a_damaged_one_are_left_alone(photograph, name, human_packet):
    content = photograph(name)
    damaged = content.replace(b"</rdf:RDF>", b"</rdf:RDX>")
    assert "XMP" in str(objection_to_splicing(damaged, read_existing(damaged)))
    cut = content[: len(content) // 2]
    if name != "jpeg_full":
        assert objection_to_splicing(cut, read_existing(cut)) is not None


def test_a_packet_that_is_too_long_for_a_jpeg_is_refused(photograph):
    with pytest.raises(ValueError, match="one JPEG segment"):
        spliced(photograph("jpeg"), b"x" * 70_000)


def test_a_motion_photo_keeps_its_film_at_the_end(photograph):
    before = photograph("jpeg_motion")
    after = spliced(before, packet_for(before))
    film = before[before.index(b"\0\0\0\x18ftyp") :]
    assert after.endswith(b"\xff\xd9" + film)


def test_a_webp_says_that_it_has_xmp_only_while_it_has(photograph):
    before = photograph("webp_lossless")
    after = spliced(before, b"packet")
    assert after[12:16] == b"VP8X"
    assert after[20] & 0x14 == 0x14  # XMP and transparency
    without = spliced(after, None)
    assert without[20] & 0x14 == 0x10
    assert without[30:] == before[12:]
