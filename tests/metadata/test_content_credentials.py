"""Files whose signature covers every byte get a sidecar; files of several pictures stay right."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image

from autotag.metadata import apply_change, plan_tags, undo_change
from autotag.metadata.content_credentials import has_content_credentials
from autotag.metadata.kinds import kind_of
from autotag.metadata.pixel_digest import pixel_digest
from autotag.metadata.splicing import embedded_packet
from autotag.metadata.xmp import MachineTag

TAGS = [MachineTag("dog", 0.5)]
BOX = struct.pack(">I4s", 60, b"jumb") + struct.pack(">I4s", 52, b"jumd") + b"c2pa" + bytes(44)


def jpeg(content):
    return (
        content[:2] + b"\xff\xeb" + struct.pack(">H", len(BOX) + 10) + b"JP\0\1\0\0\0\1" + BOX + content[2:]
    )


def png(content):
    place = content.index(b"IDAT") - 4
    chunk = struct.pack(">I", len(BOX)) + b"caBX" + BOX + struct.pack(">I", zlib.crc32(b"caBX" + BOX))
    return content[:place] + chunk + content[place:]


def webp(content):
    chunk = b"C2PA" + struct.pack("<I", len(BOX)) + BOX
    return b"RIFF" + struct.pack("<I", len(content) - 8 + len(chunk)) + content[8:] + chunk


def gif(content):
    return content[:-1] + b"\x21\xff\x0bC2PA_GIF\1\0\0" + b"\4abcd\0" + content[-1:]


def iso_media(content):
    uuid = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
    return content + struct.pack(">I", 24 + len(BOX)) + b"uuid" + uuid + BOX


def tiff(content):
    stream = io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        image.save(stream, "TIFF", tiffinfo={0xCD41: BOX})
    return stream.getvalue()


SIGNED = {"jpeg": jpeg, "png": png, "webp": webp, "gif": gif, "avif": iso_media, "tiff": tiff}


class NeverAsked:
    """An exiftool that must not be used."""


@pytest.mark.parametrize("name", SIGNED)
def test_a_signed_file_gets_a_sidecar_and_a_line(tmp_path, photograph, name):
    plain = photograph(name)
    assert not has_content_credentials(plain, kind_of(plain))
    path = tmp_path / f"a.{name}"
    path.write_bytes(SIGNED[name](plain))
    assert has_content_credentials(path.read_bytes(), kind_of(plain))
    change = plan_tags(path, TAGS, embed=True, exiftool=NeverAsked())
    assert change.kind == "sidecar"
    assert "Content Credentials" in change.warnings[0]
    assert "exiftool" not in change.warnings[0]


def test_credentials_that_lie_elsewhere_count_too(tmp_path, photograph, human_packet):
    path = tmp_path / "a.jpg"
    named = human_packet.replace(
        b"foo:rating",
        b"xmlns:t='http://purl.org/dc/terms/' t:provenance='https://example.org/a.c2pa' foo:rating",
    )
    path.write_bytes(photograph("jpeg_full").replace(human_packet, human_packet))
    from autotag.metadata.splicing import spliced

    path.write_bytes(spliced(photograph("jpeg"), named))
    assert plan_tags(path, TAGS, embed=True).kind == "sidecar"
    path.write_bytes(photograph("jpeg"))
    assert plan_tags(path, TAGS, embed=True).kind == "embedded"
    path.with_suffix(".c2pa").write_bytes(BOX)
    assert plan_tags(path, TAGS, embed=True).kind == "sidecar"


def first_length(content):
    """MPImageLength of the first picture."""
    start = content.index(b"MPF\0") + 4
    order = "<" if content[start : start + 2] == b"II" else ">"
    place = start + content[start:].index(struct.pack(order + "H", 0xB002))
    (offset,) = struct.unpack_from(order + "L", content, place + 8)
    return struct.unpack_from(order + "L", content, start + offset + 4)[0]


def test_the_length_of_the_first_of_several_pictures_is_kept_right(tmp_path, photograph):
    path = tmp_path / "a.jpg"
    before = photograph("mpo")
    path.write_bytes(before)
    change = plan_tags(path, TAGS, embed=True)
    apply_change(change)
    after = path.read_bytes()
    assert first_length(after) - first_length(before) == len(after) - len(before)
    assert after[first_length(after) - 2 : first_length(after)] == b"\xff\xd9"
    with Image.open(io.BytesIO(before)) as old, Image.open(io.BytesIO(after)) as new:
        for number in range(2):
            old.seek(number)
            new.seek(number)
            assert old.tobytes() == new.tobytes()
    assert pixel_digest(after) == pixel_digest(before)
    undo_change(change)
    assert path.read_bytes() == before


def test_a_damaged_index_of_pictures_is_left_alone(tmp_path, photograph):
    path = tmp_path / "a.jpg"
    content = photograph("mpo")
    start = content.index(b"MPF\0") + 4
    path.write_bytes(content[: start + 4] + b"\xff\xff\xff\xff" + content[start + 8 :])
    change = plan_tags(path, TAGS, embed=True)
    assert change.kind == "sidecar"
    assert "picture index (MPF) is damaged" in change.warnings[0]


@pytest.mark.parametrize("padding", [b"", bytes(16), b"\xff\xd8\xff\xe0junk", bytes(5000)])
def test_a_preview_behind_the_end_is_noticed_after_any_padding(tmp_path, photograph, padding):
    path = tmp_path / "a.jpg"
    path.write_bytes(photograph("jpeg") + padding + photograph("jpeg"))
    change = plan_tags(path, TAGS, embed=True)
    assert change.kind == "sidecar"
    assert "a preview follows it" in change.warnings[0]


def test_a_thumbnail_and_bytes_that_only_look_like_a_picture_do_not_count(tmp_path, photograph):
    thumbnail = photograph("jpeg")
    block = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + thumbnail + b"\xff\xd9" + thumbnail
    content = photograph("jpeg")
    with_thumbnail = content[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + content[2:]
    for bytes_behind in (b"", b"\0\0\0\x18ftypmp42" + b"\xff\xd8\xff\xe1\x7f\xff film \xff\xd8\xff\xdb"):
        path = tmp_path / "a.jpg"
        path.write_bytes(with_thumbnail + bytes_behind)
        assert plan_tags(path, TAGS, embed=True).kind == "embedded"
    assert embedded_packet(with_thumbnail) is None
