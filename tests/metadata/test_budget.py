"""Small hostile files cost little: each is planned or refused in under a second and 200 MB."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from autotag.errors import MetadataError
from autotag.images.orientation import exif_orientation
from autotag.metadata import plan_tags
from autotag.metadata.budget import MOST_BYTES, MOST_PARTS, Budget
from autotag.metadata.existing import read_existing
from autotag.metadata.pixel_digest import pixel_digest
from autotag.metadata.xmp import MachineTag, read_packet

BOMBS = Path(__file__).parent / "bombs.py"
TAGS = [MachineTag("dog", 0.5)]
MUTATED = (
    "jpeg_full", "jpeg_iptc", "jpeg_extended", "jpeg_motion", "mpo", "png_full", "png_compressed",
    "webp_full", "webp_animated", "tiff", "tiff_iptc", "gif", "bmp", "avif", "heic",
)  # fmt: skip


def run_bombs(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(BOMBS), *arguments], capture_output=True, text=True, check=True, timeout=600
    )
    return done.stdout


@pytest.mark.slow
def test_no_bomb_costs_a_second_or_200_mb(tmp_path):
    run_bombs("build", str(tmp_path))
    rows = [json.loads(line) for line in run_bombs("plan", str(tmp_path)).splitlines()]
    assert len(rows) >= 60
    slow = [row for row in rows if row["seconds"] >= 1]
    assert slow == []
    assert max(row["peak"] for row in rows) < 200


def test_over_the_budget_a_sidecar_is_written_and_the_reason_is_said(tmp_path, photograph, monkeypatch):
    monkeypatch.setattr(time, "thread_time", lambda: 0.0)  # only parts count here
    path = tmp_path / "a.gif"
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        + b"<rdf:Description/>" * (MOST_PARTS + 1)
        + b"</rdf:RDF></x:xmpmeta>"
    )
    path.write_bytes(photograph("gif") + packet)
    change = plan_tags(path, TAGS, embed=True)
    assert change.kind == "sidecar"
    assert any(f"more than {MOST_PARTS:,} parts" in warning for warning in change.warnings)
    path.with_name("a.gif.xmp").write_bytes(packet)
    with pytest.raises(MetadataError, match=r"repair or delete it.*parts"):
        plan_tags(path, TAGS)
    path.with_name("a.gif.xmp").write_bytes(bytes(MOST_BYTES + 1))
    with pytest.raises(MetadataError, match="larger than 16 MiB"):
        plan_tags(path, TAGS)


def test_what_is_left_is_what_was_not_taken(monkeypatch):
    budget = Budget()
    budget.take_bytes(MOST_BYTES - 10)
    assert budget.inflated(zlib.compress(b"0123456789")) == b"0123456789"
    with pytest.raises(ValueError, match="more than 16 MiB"):
        budget.inflated(zlib.compress(b"0"))
    budget.take_parts(MOST_PARTS)
    with pytest.raises(ValueError, match="more than 20,000 parts"):
        budget.take_parts()
    late = Budget()
    monkeypatch.setattr(time, "thread_time", lambda: 1e9)
    with pytest.raises(ValueError, match=r"more than 0\.4 s"):
        late.take_parts(5000)


def test_a_keyword_is_not_split_into_more_parts_than_the_budget_has():
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:lr="http://ns.adobe.com/lightroom/1.0/"><lr:hierarchicalSubject><rdf:Bag>'
        f"<rdf:li>{'a|' * (MOST_PARTS + 1)}</rdf:li>"
        "</rdf:Bag></lr:hierarchicalSubject></rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    with pytest.raises(ValueError, match="parts"):
        read_packet(packet.encode())


def test_a_codec_that_is_not_an_encoding_of_xml_is_not_run():
    with pytest.raises(ValueError, match="not text in punycode"):
        read_packet(b'<?xml version="1.0" encoding="punycode"?><a/>')


def test_more_keywords_than_can_be_read_again_are_refused(tmp_path, photograph):
    path = tmp_path / "a.jpg"
    path.write_bytes(photograph("jpeg"))
    entries = "".join(f"<rdf:li>k{number}</rdf:li>" for number in range(2001))
    path.with_name("a.jpg.xmp").write_text(
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag>'
        f"{entries}</rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    with pytest.raises(MetadataError, match="more than 2,000 keywords"):
        plan_tags(path, TAGS)


def test_exif_that_says_it_is_exif_again_and_again_is_read_in_linear_time():
    begun = time.thread_time()
    assert exif_orientation(b"Exif\0\0" * 500_000) is None
    assert time.thread_time() - begun < 1


def mutant(chance: random.Random, content: bytes) -> bytes:
    """The file with bytes changed, a piece cut out, doubled or repeated, or its end missing."""
    piece = bytearray(content)
    for _ in range(chance.randint(1, 6)):
        start = chance.randrange(len(piece) or 1)
        length = chance.choice((1, 2, 4, 16, 200))
        what = chance.randrange(5)
        if what == 0:
            piece[start : start + length] = chance.randbytes(length)
        elif what == 1:
            piece[start : start + length] = b""
        elif what == 2:
            piece[start:start] = piece[start : start + length] * chance.choice((1, 3, 2_000))
        elif what == 3:
            piece[start : start + 4] = chance.choice(
                (b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\0\0\0\1")
            )
        else:
            del piece[max(1, start) :]
    return bytes(piece)


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTATED)
def test_120_mutants_of_each_container_are_planned_or_refused_quickly(tmp_path, photograph, name):
    chance = random.Random(name)  # noqa: S311 - the same every time
    path = tmp_path / f"a.{name.partition('_')[0]}"
    for number in range(120):
        content = mutant(chance, photograph(name))
        path.write_bytes(content)
        begun = time.thread_time()
        read_existing(content)
        pixel_digest(content)
        try:
            plan_tags(path, TAGS, embed=bool(number % 2))
        except MetadataError as error:
            assert str(error)  # noqa: PT017 - a refusal is as good as a plan
        assert time.thread_time() - begun < 1, f"mutant {number} of {name}"
